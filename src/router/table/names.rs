//! Service names, as a pod asks for them.
//!
//! The forms are those that a pod's resolver would try: `svc`, `svc.ns`, `svc.ns.svc`,
//! `svc.ns.svc.cluster.local`, and in front of a headless service the host name of one of its pods.
//! A short form that names nothing is no error of the cluster's; the name may exist outside.

use std::net::IpAddr;

use super::RoutingTable;
use super::service::{Kind, Service};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, in order; empty if the name exists and nothing is ready behind it.
    Addresses(Vec<IpAddr>),
    /// Another name.
    Alias(String),
}

impl RoutingTable {
    /// What a name asked for by a pod of `namespace` stands for; `None` if the cluster has no such
    /// name. Aliases into the cluster are followed.
    pub fn resolve(&self, namespace: &str, name: &str) -> Option<Answer> {
        let mut name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut alias = None;
        for _ in 0..8 {
            match self.resolve_once(namespace, &name) {
                Some(Answer::Alias(target)) => {
                    name = target.trim_end_matches('.').to_ascii_lowercase();
                    alias = Some(Answer::Alias(target));
                }
                Some(answer) => return Some(answer),
                None => return alias,
            }
        }
        None
    }

    fn resolve_once(&self, namespace: &str, name: &str) -> Option<Answer> {
        let (labels, is_whole) = match name.strip_suffix(".svc.cluster.local") {
            Some(rest) => (rest, true),
            None => match name.strip_suffix(".svc") {
                Some(rest) => (rest, true),
                None => (name, false),
            },
        };
        let labels: Vec<&str> = labels.split('.').collect();
        match labels.as_slice() {
            [service] if !is_whole => self.answer(namespace, service, None),
            [first, second] => {
                let in_namespace = self.answer(second, first, None);
                if is_whole {
                    return in_namespace;
                }
                in_namespace.or_else(|| self.answer(namespace, second, Some(first)))
            }
            [pod, service, of] => self.answer(of, service, Some(pod)),
            _ => None,
        }
    }

    fn answer(&self, namespace: &str, service: &str, pod: Option<&str>) -> Option<Answer> {
        let service = self.service(namespace, service)?;
        match (&service.kind, pod) {
            (Kind::ExternalName(name), None) => Some(Answer::Alias(name.clone())),
            (Kind::ClusterIp, None) => Some(Answer::Addresses(service.cluster_ips.clone())),
            (Kind::Headless, None) => Some(Answer::Addresses(addresses(service, None))),
            (Kind::Headless, Some(pod)) => {
                let found = addresses(service, Some(pod));
                (!found.is_empty()).then_some(Answer::Addresses(found))
            }
            (Kind::ClusterIp | Kind::ExternalName(_), Some(_)) => None,
        }
    }
}

fn addresses(service: &Service, pod: Option<&str>) -> Vec<IpAddr> {
    let ready = service.ready.iter();
    let named = ready.filter(|it| pod.is_none() || it.hostname.as_deref() == pod);
    let mut addresses: Vec<IpAddr> = named.map(|it| it.ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
