//! EndpointSlices: the addresses behind a Service, the routers' only truth.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, port};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("AddressType"),
    Column::text("Ports"),
    Column::text("Endpoints"),
    Column::text("Age"),
];

const MAX_ENDPOINTS: usize = 1000;

impl Strategy for EndpointSlice {
    fn set_defaults(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let kind = Path::Root.field("addressType");
        if self.address_type.is_empty() {
            errors.required(&kind, "");
        } else {
            let kinds = ["IPv4", "IPv6", "FQDN"];
            errors.one_of(&kind, Some(&self.address_type), &kinds);
        }
        let endpoints = Path::Root.field("endpoints");
        if self.endpoints.len() > MAX_ENDPOINTS {
            errors.invalid(
                &endpoints,
                self.endpoints.len(),
                "must have at most 1000 items",
            );
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let at = endpoints.index(index);
            let addresses = at.field("addresses");
            if endpoint.addresses.is_empty() {
                errors.required(&addresses, "must contain at least 1 address");
            }
            for (index, address) in endpoint.addresses.iter().enumerate() {
                let is_good = match self.address_type.as_str() {
                    "IPv4" => address.parse::<std::net::Ipv4Addr>().is_ok(),
                    "IPv6" => address.parse::<std::net::Ipv6Addr>().is_ok(),
                    _ => true,
                };
                if !is_good {
                    errors.invalid(
                        &addresses.index(index),
                        address,
                        "must be a valid IP address of the slice's addressType",
                    );
                }
            }
        }
        let ports = Path::Root.field("ports");
        for (index, found) in self.ports.iter().flatten().enumerate() {
            let at = ports.index(index);
            errors.one_of(
                &at.field("protocol"),
                found.protocol.as_deref(),
                port::PROTOCOLS,
            );
            if let Some(number) = found.port {
                port::validate_number(&at.field("port"), number, errors);
            }
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let path = Path::Root.field("addressType");
        errors.immutable(&path, &self.address_type, &old.address_type);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = self
            .ports
            .iter()
            .flatten()
            .map(|port| {
                port.port
                    .map_or_else(|| "*".to_owned(), |port| port.to_string())
            })
            .collect();
        let addresses: Vec<String> = self
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter().cloned())
            .collect();
        vec![
            cell::name(&self.metadata),
            self.address_type.clone().into(),
            if ports.is_empty() {
                "<unset>".into()
            } else {
                cell::first_three(&ports)
            },
            if addresses.is_empty() {
                "<unset>".into()
            } else {
                cell::first_three(&addresses)
            },
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "sample"},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.64.0.5"]}], "ports": [{"port": 80}]})
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn addresses_are_of_the_slices_type() {
        let check = check::<EndpointSlice>;
        check(
            "/addressType",
            &json!("IPv6"),
            &[
                "endpoints[0].addresses[0]: Invalid value: \"10.64.0.5\": must be a valid IP address of the slice's addressType",
            ],
        );
        check(
            "/addressType",
            &json!("IPX"),
            &[
                "addressType: Unsupported value: \"IPX\": supported values: \"IPv4\", \"IPv6\", \"FQDN\"",
            ],
        );
        check(
            "/endpoints",
            &json!([{"addresses": []}]),
            &["endpoints[0].addresses: Required value: must contain at least 1 address"],
        );
        check("/endpoints", &json!([]), &[]);
    }
}
