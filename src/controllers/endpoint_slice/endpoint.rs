//! Pods into endpoints, grouped by the ports that a Service has on them. Pure.
//!
//! A named target port may be another number on another pod (two versions during a rollout), and a
//! slice has one list of ports; hence the groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::pod;
use crate::controllers::events::reference;

/// Name, number and protocol.
type PortKey = (Option<String>, Option<i32>, Option<String>);

/// Endpoints with the same ports.
#[derive(Debug, PartialEq)]
pub(in crate::controllers) struct Group {
    pub(in crate::controllers) ports: Vec<EndpointPort>,
    pub(in crate::controllers) endpoints: Vec<Endpoint>,
}

/// The endpoints of a Service, in a stable order.
pub(in crate::controllers) fn groups(service: &Service, pods: &[Arc<Pod>]) -> Vec<Group> {
    let spec = service.spec.clone().unwrap_or_default();
    let publish_all = spec.publish_not_ready_addresses.unwrap_or(false);
    let service_ports = spec.ports.unwrap_or_default();
    let mut groups: BTreeMap<Vec<PortKey>, Group> = BTreeMap::new();
    let mut sorted: Vec<&Arc<Pod>> = pods.iter().collect();
    sorted.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    for pod in sorted {
        let Some(endpoint) = endpoint(service, pod, publish_all) else {
            continue;
        };
        let ports: Vec<EndpointPort> = service_ports
            .iter()
            .filter_map(|port| resolve(port, pod))
            .collect();
        let key = ports
            .iter()
            .map(|port| (port.name.clone(), port.port, port.protocol.clone()))
            .collect();
        let group = groups.entry(key).or_insert_with(|| Group {
            ports,
            endpoints: Vec::new(),
        });
        group.endpoints.push(endpoint);
    }
    groups.into_values().collect()
}

/// Whether a change of a pod can change any endpoint. Most changes of a pod do not.
pub(in crate::controllers) fn is_changed(before: Option<&Pod>, after: Option<&Pod>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return true;
    };
    let face = |pod: &Pod| {
        let ip = address(pod).map(str::to_owned);
        (
            ip,
            pod::is_ready(pod),
            pod::is_terminating(pod),
            pod::phase(pod).is_terminal(),
        )
    };
    face(before) != face(after)
        || before.metadata.labels != after.metadata.labels
        || pod::node_name(before) != pod::node_name(after)
}

fn address(pod: &Pod) -> Option<&str> {
    let ip = pod.status.as_ref()?.pod_ip.as_deref();
    ip.filter(|ip| !ip.is_empty())
}

fn endpoint(service: &Service, pod: &Pod, publish_all: bool) -> Option<Endpoint> {
    let address = address(pod)?;
    if pod::phase(pod).is_terminal() {
        return None;
    }
    let serving = pod::is_ready(pod) || publish_all;
    let terminating = pod::is_terminating(pod);
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_ref());
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            // Whoever publishes addresses that are not ready wants them in every state.
            ready: Some(serving && (!terminating || publish_all)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec
            .and_then(|spec| spec.hostname.clone())
            .filter(|_| subdomain.is_some() && subdomain == service.metadata.name.as_ref()),
        node_name: pod::node_name(pod).map(str::to_owned),
        target_ref: Some(target(pod)),
        ..Endpoint::default()
    })
}

/// Without a revision, which would make every change of the pod a change of the slice.
fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: None,
        resource_version: None,
        ..reference(pod)
    }
}

/// The port on this pod; `None` if it names a port that the pod does not have.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<EndpointPort> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named(pod, name, protocol)?,
    };
    Some(EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(protocol.to_owned()),
        app_protocol: port.app_protocol.clone(),
    })
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let containers = &pod.spec.as_ref()?.containers;
    let mut ports = containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .find(|port| {
            port.name.as_deref() == Some(name)
                && port.protocol.as_deref().unwrap_or("TCP") == protocol
        })
        .map(|port| port.container_port)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(change: Value) -> Service {
        let mut base = json!({"metadata": {"name": "web"}, "spec": {
            "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}});
        json_patch::merge(&mut base, &change);
        serde_json::from_value(base).unwrap()
    }

    fn pod(name: &str, port: i32, change: Value) -> Arc<Pod> {
        let mut base = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "7"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": "10.64.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        json_patch::merge(&mut base, &change);
        Arc::new(serde_json::from_value(base).unwrap())
    }

    /// `ready serving terminating` of the pod's endpoint, or nothing.
    fn check(service_change: Value, change: Value) -> String {
        let groups = groups(&service(service_change), &[pod("a", 8080, change)]);
        let Some(group) = groups.first() else {
            return String::new();
        };
        let conditions = group.endpoints[0].conditions.clone().unwrap();
        let flags = [
            ("ready", conditions.ready),
            ("serving", conditions.serving),
            ("terminating", conditions.terminating),
        ];
        let set: Vec<&str> = flags
            .iter()
            .filter(|(_, flag)| *flag == Some(true))
            .map(|(name, _)| *name)
            .collect();
        set.join(" ")
    }

    #[test]
    fn the_state_of_a_pod_is_the_state_of_its_endpoint() {
        let dying = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let publish = json!({"spec": {"publishNotReadyAddresses": true}});
        assert_eq!(check(json!({}), json!({})), "ready serving");
        assert_eq!(check(json!({}), dying.clone()), "serving terminating");
        assert_eq!(
            check(json!({}), not_ready.clone()),
            "none".replace("none", "")
        );
        assert_eq!(
            groups(&service(json!({})), &[pod("a", 1, not_ready.clone())])[0]
                .endpoints
                .len(),
            1
        );
        assert_eq!(check(publish.clone(), not_ready), "ready serving");
        assert_eq!(check(publish, dying), "ready serving terminating");
        for gone in [
            json!({"status": {"podIP": null}}),
            json!({"status": {"phase": "Failed"}}),
            json!({"status": {"phase": "Succeeded"}}),
        ] {
            assert!(groups(&service(json!({})), &[pod("a", 1, gone)]).is_empty());
        }
    }

    #[test]
    fn a_named_port_is_resolved_on_each_pod() {
        let pods = [
            pod("b", 9090, json!({})),
            pod("a", 8080, json!({})),
            pod("c", 8080, json!({})),
        ];
        let groups = groups(&service(json!({})), &pods);
        let seen: Vec<(Option<i32>, Vec<&str>)> = groups
            .iter()
            .map(|group| {
                let names = group
                    .endpoints
                    .iter()
                    .map(|e| e.target_ref.as_ref().unwrap().name.as_deref().unwrap());
                (group.ports[0].port, names.collect())
            })
            .collect();
        assert_eq!(
            seen,
            [(Some(8080), vec!["a", "c"]), (Some(9090), vec!["b"])]
        );
        assert_eq!(
            groups[0].endpoints[0]
                .target_ref
                .as_ref()
                .unwrap()
                .resource_version,
            None
        );
    }

    #[test]
    fn only_changes_that_show_are_changes() {
        let usual = pod("a", 80, json!({}));
        let restarted = pod(
            "a",
            80,
            json!({"status": {"startTime": "2026-01-01T00:00:00Z"}}),
        );
        let moved = pod("a", 80, json!({"status": {"podIP": "10.64.0.9"}}));
        assert!(!is_changed(Some(&usual), Some(&restarted)));
        assert!(is_changed(Some(&usual), Some(&moved)));
        assert!(is_changed(Some(&usual), None) && is_changed(None, Some(&usual)));
    }
}
