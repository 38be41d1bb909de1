//! A pod as network policies see it: labels, addresses, named ports.
//!
//! The worker may have to know all pods of a cluster; nothing else of them is decoded or kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

use crate::runtime::spec::Protocol;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct PeerPod {
    #[serde(deserialize_with = "lean")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Container {
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: String,
    protocol: String,
    container_port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    #[serde(rename = "podIP")]
    ip: String,
    #[serde(rename = "podIPs")]
    ips: Vec<Address>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Address {
    ip: String,
}

impl PeerPod {
    /// A pod of this worker, as it is before its status says so.
    pub(super) fn of(pod: &Pod) -> Result<Self, serde_json::Error> {
        serde_json::from_value(serde_json::to_value(pod)?)
    }

    /// Whether no policy can tell the two apart.
    pub(super) fn is_same_peer(&self, other: &Self) -> bool {
        self.metadata.uid == other.metadata.uid
            && self.metadata.labels == other.metadata.labels
            && self.spec == other.spec
            && self.status == other.status
    }

    pub(super) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata.labels.as_ref()
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Its addresses; a pod that has ended has given them back.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let has_ended = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        let all = self.status.ips.iter().map(|address| &address.ip);
        let all = all.chain([&self.status.ip]).filter(move |_| !has_ended);
        all.filter_map(|text| text.parse().ok())
    }

    /// The number of its port of that name.
    pub(super) fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let containers = self
            .spec
            .init_containers
            .iter()
            .chain(&self.spec.containers);
        let mut ports = containers.flat_map(|container| &container.ports);
        let found = ports.find(|port| port.name == name && port.protocol() == Some(protocol));
        found.map(|port| port.container_port)
    }
}

impl Port {
    fn protocol(&self) -> Option<Protocol> {
        match self.protocol.as_str() {
            "" | "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            _ => None,
        }
    }
}

fn lean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Lean {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        labels: Option<BTreeMap<String, String>>,
    }
    let lean = Lean::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: lean.name,
        namespace: lean.namespace,
        uid: lean.uid,
        resource_version: lean.resource_version,
        labels: lean.labels,
        ..ObjectMeta::default()
    })
}

impl kube::Resource for PeerPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_kept_but_what_policies_ask_for() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "1", "resourceVersion": "7",
                "labels": {"app": "web"}, "annotations": {"big": "…"},
                "managedFields": [{"manager": "kubectl"}]},
            "spec": {"initContainers": [{"name": "side", "ports": [{"name": "dns", "protocol": "UDP", "containerPort": 53}]}],
                "containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": "10.64.0.2", "podIPs": [{"ip": "10.64.0.2"}, {"ip": "fd00::2"}]},
        }))
        .unwrap();
        let mut peer = PeerPod::of(&pod).unwrap();
        assert!(peer.metadata.annotations.is_none() && peer.metadata.managed_fields.is_none());
        assert_eq!((peer.namespace(), peer.uid()), ("shop", "1"));
        assert_eq!(peer.labels().unwrap()["app"], "web");
        let ips: Vec<String> = peer.ips().map(|ip| ip.to_string()).collect();
        assert_eq!(ips, ["10.64.0.2", "fd00::2", "10.64.0.2"]);
        assert_eq!(peer.port("http", Protocol::Tcp), Some(8080));
        assert_eq!(peer.port("http", Protocol::Udp), None);
        assert_eq!(peer.port("dns", Protocol::Udp), Some(53));
        peer.status.phase = "Succeeded".to_owned();
        assert_eq!(peer.ips().count(), 0);
    }
}
