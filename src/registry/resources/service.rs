//! Services: a stable name and address for a changing set of pods.
//!
//! Addresses and node ports are given by admission (`admission/service_addresses.rs`); here are
//! the shape, the defaults, and what an update may leave out.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::meta;
use super::super::path::Path;
use super::super::strategy::{NameRule, Strategy};
use super::{cell, port};
use crate::api::names;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Type"),
    Column::text("Cluster-IP"),
    Column::text("External-IP"),
    Column::text("Port(s)"),
    Column::text("Age"),
    Column::text("Selector").wide(),
];
pub(crate) const FIELDS: &[Selectable] = &[
    Selectable::field("spec.clusterIP"),
    Selectable::field("spec.type"),
];

const AFFINITY_SECONDS: i32 = 10_800;

/// `spec.type`, parsed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl Type {
    /// An unknown word counts as the default; validation complains about it.
    pub(crate) fn of(spec: &ServiceSpec) -> Self {
        match spec.type_.as_deref() {
            Some("NodePort") => Self::NodePort,
            Some("LoadBalancer") => Self::LoadBalancer,
            Some("ExternalName") => Self::ExternalName,
            _ => Self::ClusterIp,
        }
    }

    /// Whether its ports are open on the front door.
    pub(crate) fn has_node_ports(self) -> bool {
        match self {
            Self::NodePort | Self::LoadBalancer => true,
            Self::ClusterIp | Self::ExternalName => false,
        }
    }
}

impl Strategy for Service {
    const NAMES: NameRule = NameRule::Label1035;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
        let kind = Type::of(spec);
        let affinity = spec
            .session_affinity
            .get_or_insert_with(|| "None".to_owned());
        if affinity == "ClientIP" {
            let config =
                spec.session_affinity_config
                    .get_or_insert_with(|| SessionAffinityConfig {
                        client_ip: Some(ClientIPConfig::default()),
                    });
            let client = config.client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
        }
        for port in spec.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
            let unset = matches!(&port.target_port, None | Some(IntOrString::Int(0)));
            if unset {
                port.target_port = Some(IntOrString::Int(port.port));
            }
        }
        if kind != Type::ExternalName {
            spec.internal_traffic_policy
                .get_or_insert_with(|| "Cluster".to_owned());
            spec.ip_families
                .get_or_insert_with(|| vec!["IPv4".to_owned()]);
            spec.ip_family_policy
                .get_or_insert_with(|| "SingleStack".to_owned());
        }
        if kind.has_node_ports() {
            spec.external_traffic_policy
                .get_or_insert_with(|| "Cluster".to_owned());
        }
        if kind == Type::LoadBalancer {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(serde_json::from_value(json!({"loadBalancer": {}})).unwrap_or_default());
    }

    fn prepare_update(&mut self, old: &Self) {
        let (Some(new), Some(old)) = (&mut self.spec, &old.spec) else {
            return;
        };
        drop_what_the_type_lacks(new, old);
        keep_addresses(new, old);
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else {
            errors.required(&path, "");
            return;
        };
        validate_shape(&path, spec, errors);
        validate_ports(&path.field("ports"), spec, errors);
        validate_policies(&path, spec, errors);
        refuse(&path, spec, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        let set = |spec: &ServiceSpec| spec.cluster_ip.clone().filter(|ip| !ip.is_empty());
        let keeps = Type::of(new) != Type::ExternalName && Type::of(old) != Type::ExternalName;
        if let Some(was) = set(old)
            && keeps
            && set(new).as_ref() != Some(&was)
        {
            let path = Path::Root.field("spec");
            let ips = path.field("clusterIPs");
            errors.invalid_json(&ips.index(0), &new.cluster_ips, "may not change once set");
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let empty = ServiceSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        vec![
            cell::name(&self.metadata),
            spec.type_.clone().unwrap_or_default().into(),
            cell::or_none(spec.cluster_ip.as_deref()),
            external(self, spec),
            cell::joined(spec.ports.iter().flatten().map(port_words)),
            cell::age(&self.metadata, now),
            cell::labels(spec.selector.as_ref()),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample"},
            "spec": {"selector": {"app": "sample"}, "ports": [{"port": 80}]}})
    }
}

/// A change of type takes away what only the old type has.
fn drop_what_the_type_lacks(new: &mut ServiceSpec, old: &ServiceSpec) {
    let (was, is) = (Type::of(old), Type::of(new));
    if was != Type::ExternalName && is == Type::ExternalName && new.cluster_ip == old.cluster_ip {
        new.cluster_ip = None;
        new.cluster_ips = None;
        new.internal_traffic_policy = None;
        new.ip_families = None;
        new.ip_family_policy = None;
    }
    if was == Type::ExternalName && is != Type::ExternalName {
        new.external_name = None;
    }
    if was.has_node_ports() && !is.has_node_ports() {
        new.external_traffic_policy = None;
        let old_ports = old.ports.as_deref().unwrap_or_default();
        for port in new.ports.iter_mut().flatten() {
            if old_ports.iter().any(|old| old.node_port == port.node_port) {
                port.node_port = None;
            }
        }
    }
    if was == Type::LoadBalancer && is != Type::LoadBalancer {
        new.allocate_load_balancer_node_ports = None;
    }
}

/// What was allocated stays, also when the update does not repeat it.
fn keep_addresses(new: &mut ServiceSpec, old: &ServiceSpec) {
    if Type::of(new) != Type::ExternalName && new.cluster_ip.as_deref().is_none_or(str::is_empty) {
        new.cluster_ip.clone_from(&old.cluster_ip);
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    if !Type::of(new).has_node_ports() {
        return;
    }
    for port in new.ports.iter_mut().flatten() {
        if port.node_port.is_none_or(|port| port == 0) {
            let same = old.ports.iter().flatten().find(|old| {
                (old.port, &old.protocol, &old.name) == (port.port, &port.protocol, &port.name)
            });
            port.node_port = same.and_then(|old| old.node_port);
        }
    }
}

fn validate_shape(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Errors) {
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    errors.one_of(&path.field("type"), spec.type_.as_deref(), &kinds);
    if let Some(selector) = &spec.selector {
        meta::validate_labels(&path.field("selector"), selector, errors);
    }
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let external_name = spec.external_name.as_deref().unwrap_or_default();
    let name_path = path.field("externalName");
    if Type::of(spec) == Type::ExternalName {
        if external_name.is_empty() {
            errors.required(&name_path, "");
        } else if !names::is_dns_subdomain(external_name.trim_end_matches('.')) {
            errors.invalid(&name_path, external_name, names::DNS_SUBDOMAIN_RULE);
        }
        if !ip.is_empty() {
            errors.forbidden(
                &path.field("clusterIPs"),
                "may not be set for ExternalName services",
            );
        }
        return;
    }
    let is_headless = ip == "None";
    if is_headless && Type::of(spec).has_node_ports() {
        let ips = path.field("clusterIPs");
        errors.invalid(
            &ips.index(0),
            "None",
            "may not be set to 'None' for LoadBalancer and NodePort services",
        );
    }
    if !is_headless && spec.ports.as_ref().is_none_or(Vec::is_empty) {
        errors.required(&path.field("ports"), "");
    }
}

fn validate_ports(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Errors) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (mut seen_names, mut seen_ports) = (BTreeSet::new(), BTreeSet::new());
    for (index, found) in ports.iter().enumerate() {
        let at = path.index(index);
        let name = found.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            if ports.len() > 1 {
                errors.required(&at.field("name"), "");
            }
        } else if !names::is_dns_label(name) {
            errors.invalid(&at.field("name"), name, names::DNS_LABEL_RULE);
        } else if !seen_names.insert(name) {
            errors.duplicate(&at.field("name"), name);
        }
        port::validate_number(&at.field("port"), found.port, errors);
        let protocol = found.protocol.as_deref();
        errors.one_of(&at.field("protocol"), protocol, port::PROTOCOLS);
        if let Some(target) = &found.target_port {
            port::validate_reference(&at.field("targetPort"), target, errors);
        }
        if !seen_ports.insert((found.port, protocol)) {
            errors.duplicate(
                &at,
                &format!("{}/{}", found.port, protocol.unwrap_or("TCP")),
            );
        }
        let has_node_port = found.node_port.is_some_and(|port| port != 0);
        if has_node_port && !Type::of(spec).has_node_ports() {
            errors.forbidden(
                &at.field("nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            );
        }
    }
}

fn validate_policies(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Errors) {
    errors.one_of(
        &path.field("sessionAffinity"),
        spec.session_affinity.as_deref(),
        &["ClientIP", "None"],
    );
    errors.one_of(
        &path.field("ipFamilyPolicy"),
        spec.ip_family_policy.as_deref(),
        &["SingleStack", "PreferDualStack"],
    );
    for field in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        let value = match field {
            "externalTrafficPolicy" => spec.external_traffic_policy.as_deref(),
            _ => spec.internal_traffic_policy.as_deref(),
        };
        errors.one_of(&path.field(field), value, &["Cluster"]);
    }
    let families = path.field("ipFamilies");
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        errors.one_of(&families.index(index), Some(family), &["IPv4"]);
    }
}

fn refuse(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Errors) {
    let named = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
    for (field, present, hint) in [
        (
            "externalIPs",
            spec.external_ips
                .as_ref()
                .is_some_and(|ips| !ips.is_empty()),
            "use type NodePort or LoadBalancer",
        ),
        (
            "loadBalancerSourceRanges",
            spec.load_balancer_source_ranges
                .as_ref()
                .is_some_and(|r| !r.is_empty()),
            "restrict clients in front of the cluster",
        ),
        (
            "loadBalancerClass",
            named(&spec.load_balancer_class),
            "there is one load balancer; remove it",
        ),
        (
            "loadBalancerIP",
            named(&spec.load_balancer_ip),
            "the address is given by the cluster; remove it",
        ),
        (
            "healthCheckNodePort",
            spec.health_check_node_port.is_some_and(|port| port != 0),
            "remove it",
        ),
        (
            "trafficDistribution",
            named(&spec.traffic_distribution),
            "connections go to the least loaded endpoint; remove it",
        ),
    ] {
        errors.not_honoured(&path.field(field), present, hint);
    }
}

fn external(service: &Service, spec: &ServiceSpec) -> Value {
    match Type::of(spec) {
        Type::ClusterIp | Type::NodePort => cell::NONE.into(),
        Type::ExternalName => spec.external_name.clone().unwrap_or_default().into(),
        Type::LoadBalancer => {
            let balancer = service
                .status
                .iter()
                .flat_map(|status| &status.load_balancer);
            let points = balancer.flat_map(|balancer| balancer.ingress.iter().flatten());
            let addresses: Vec<String> = points
                .filter_map(|point| point.ip.clone().or_else(|| point.hostname.clone()))
                .collect();
            if addresses.is_empty() {
                "<pending>".into()
            } else {
                addresses.join(",").into()
            }
        }
    }
}

fn port_words(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.node_port.filter(|port| *port != 0) {
        Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
        None => format!("{}/{protocol}", port.port),
    }
}

#[cfg(test)]
mod tests;
