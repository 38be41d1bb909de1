//! Endpoints: the old form of EndpointSlices, mirrored for old clients.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Endpoints;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, port};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Endpoints"),
    Column::text("Age"),
];

impl Strategy for Endpoints {
    fn set_defaults(&mut self) {
        let subsets = self.subsets.iter_mut().flatten();
        for port in subsets.flat_map(|subset| subset.ports.iter_mut().flatten()) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let subsets = Path::Root.field("subsets");
        for (index, subset) in self.subsets.iter().flatten().enumerate() {
            let at = subsets.index(index);
            let ports = at.field("ports");
            for (index, found) in subset.ports.iter().flatten().enumerate() {
                let at = ports.index(index);
                port::validate_number(&at.field("port"), found.port, errors);
            }
            for (field, list) in [
                ("addresses", &subset.addresses),
                ("notReadyAddresses", &subset.not_ready_addresses),
            ] {
                let list_path = at.field(field);
                for (index, address) in list.iter().flatten().enumerate() {
                    if address.ip.parse::<std::net::IpAddr>().is_err() {
                        let at = list_path.index(index);
                        errors.invalid(
                            &at.field("ip"),
                            &address.ip,
                            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                        );
                    }
                }
            }
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let mut found = Vec::new();
        for subset in self.subsets.iter().flatten() {
            let ports = subset.ports.as_deref().unwrap_or_default();
            for address in subset.addresses.iter().flatten() {
                if ports.is_empty() {
                    found.push(address.ip.clone());
                }
                found.extend(
                    ports
                        .iter()
                        .map(|port| format!("{}:{}", address.ip, port.port)),
                );
            }
        }
        vec![
            cell::name(&self.metadata),
            cell::first_three(&found),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "sample"},
            "subsets": [{"addresses": [{"ip": "10.64.0.5"}], "ports": [{"port": 80}]}]})
    }
}
