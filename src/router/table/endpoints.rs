//! EndpointSlices as the table needs them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::service::Protocol;
use crate::api::annotations::SERVICE_NAME;

/// One pod's port that answers for a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub addr: SocketAddr,
    /// The node it runs on; `None` for an address that somebody wrote by hand.
    pub node: Option<Arc<str>>,
}

/// A ready address of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) ip: IpAddr,
    pub(super) node: Option<Arc<str>>,
    pub(super) hostname: Option<String>,
}

/// A slice: its ready addresses, and the port behind each port name and protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    /// The service's name.
    pub(super) service: String,
    pub(super) ready: Vec<Ready>,
    pub(super) ports: BTreeMap<(String, Protocol), u16>,
}

impl Slice {
    /// `None` if the slice belongs to no service.
    pub(super) fn parse(slice: &EndpointSlice) -> Option<Self> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
        let ports = slice.ports.iter().flatten();
        let ports = ports.filter_map(|port| {
            let name = port.name.clone().unwrap_or_default();
            let protocol = Protocol::parse(port.protocol.as_deref())?;
            let number = u16::try_from(port.port?).ok().filter(|port| *port != 0)?;
            Some(((name, protocol), number))
        });
        let mut ready = Vec::new();
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            // An absent `ready` means ready: the API says so.
            let is_ready = conditions
                .is_none_or(|it| it.ready.unwrap_or(true) && !it.terminating.unwrap_or(false));
            if !is_ready {
                continue;
            }
            let node = endpoint.node_name.as_deref().map(Arc::from);
            for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse().ok()) {
                ready.push(Ready {
                    ip,
                    node: node.clone(),
                    hostname: endpoint.hostname.clone(),
                });
            }
        }
        Some(Self {
            service,
            ready,
            ports: ports.collect(),
        })
    }
}

/// The endpoints of one port over all slices of a service, in order and without duplicates.
pub(super) fn endpoints_of<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    name: &str,
    protocol: Protocol,
) -> Arc<[Endpoint]> {
    let key = (name.to_owned(), protocol);
    let mut endpoints: Vec<Endpoint> = slices
        .filter_map(|slice| Some((slice, *slice.ports.get(&key)?)))
        .flat_map(|(slice, port)| {
            slice.ready.iter().map(move |ready| Endpoint {
                addr: SocketAddr::new(ready.ip, port),
                node: ready.node.clone(),
            })
        })
        .collect();
    endpoints.sort_unstable();
    endpoints.dedup_by(|one, other| one.addr == other.addr);
    endpoints.into()
}
