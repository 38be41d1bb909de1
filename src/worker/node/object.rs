//! The Node and Lease objects as pure functions of the worker's facts.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::pressure::Pressures;
use super::{Facts, LEASE_NAMESPACE};
use crate::api::annotations;
use crate::api::condition::{self, Status};

/// What a machine says of itself.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub machine_id: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
}

impl Machine {
    /// Reads the machine's files; what cannot be read stays empty.
    pub fn read() -> Self {
        let line = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let name = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Self {
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: name.unwrap_or_default().trim_matches('"').to_owned(),
        }
    }
}

const VERSION: &str = concat!("v1.34.0+wasmorch.", env!("CARGO_PKG_VERSION"));

pub(super) fn registration(facts: &Facts) -> Node {
    let mut labels: BTreeMap<String, String> = facts.labels.clone();
    for (key, value) in [
        (annotations::HOSTNAME, facts.name.as_str()),
        ("kubernetes.io/os", "wasi"),
        ("kubernetes.io/arch", "wasm32"),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let annotations = BTreeMap::from([
        (annotations::WIRE_ADDRESS.to_owned(), facts.wire.to_string()),
        (
            annotations::WORKER_PID.to_owned(),
            std::process::id().to_string(),
        ),
    ]);
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: None,
    }
}

pub(super) fn status(
    facts: &Facts,
    pressures: Pressures,
    prior: &[NodeCondition],
    now: Timestamp,
) -> NodeStatus {
    NodeStatus {
        capacity: Some(facts.capacity()),
        allocatable: Some(facts.capacity()),
        conditions: Some(conditions(pressures, prior, now)),
        addresses: Some(vec![
            address("InternalIP", &facts.address.to_string()),
            address("Hostname", &facts.name),
        ]),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(facts.api_port),
            }),
        }),
        node_info: Some(NodeSystemInfo {
            machine_id: facts.machine.machine_id.clone(),
            system_uuid: facts.machine.machine_id.clone(),
            boot_id: facts.machine.boot_id.clone(),
            kernel_version: facts.machine.kernel.clone(),
            os_image: facts.machine.os_image.clone(),
            container_runtime_version: "wasmtime://48.0.8".to_owned(),
            kubelet_version: VERSION.to_owned(),
            kube_proxy_version: VERSION.to_owned(),
            operating_system: "wasi".to_owned(),
            architecture: "wasm32".to_owned(),
            swap: None,
        }),
        ..NodeStatus::default()
    }
}

fn address(kind: &str, address: &str) -> NodeAddress {
    NodeAddress {
        type_: kind.to_owned(),
        address: address.to_owned(),
    }
}

fn conditions(pressures: Pressures, prior: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let memory = if pressures.memory {
        (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        )
    } else {
        (
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        )
    };
    let disk = if pressures.disk {
        ("KubeletHasDiskPressure", "kubelet has disk pressure")
    } else {
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure")
    };
    let pid = (
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    );
    let ready = ("KubeletReady", "worker is posting ready status");
    let mut conditions = prior.to_vec();
    for (kind, value, why) in [
        ("MemoryPressure", pressures.memory, memory),
        ("DiskPressure", pressures.disk, disk),
        ("PIDPressure", false, pid),
        ("Ready", true, ready),
    ] {
        condition::set(&mut conditions, kind, Status::from(value), why, now);
    }
    conditions
}

/// Whether the API says of the node what there is to say; somebody else may have written it.
pub(super) fn is_said(conditions: &[NodeCondition], pressures: Pressures) -> bool {
    let says = |kind| condition::is_true(conditions, kind);
    let (memory, disk) = (says("MemoryPressure"), says("DiskPressure"));
    says("Ready") && Pressures { memory, disk } == pressures
}

pub(super) fn lease(node: &str, duration: Duration, now: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: i32::try_from(duration.as_secs().max(1)).ok(),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::Condition as _;

    fn facts() -> Facts {
        Facts {
            name: "dev-1".into(),
            labels: BTreeMap::from([
                ("zone".into(), "a".into()),
                (annotations::HOSTNAME.into(), "x".into()),
            ]),
            address: "127.0.0.1".parse().unwrap(),
            wire: "127.0.0.1:7000".parse().unwrap(),
            api_port: 7001,
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            max_pods: 4000,
            machine: Machine::default(),
        }
    }

    #[test]
    fn a_node_says_where_it_is_and_what_it_has() {
        let node = registration(&facts());
        let labels = node.metadata.labels.unwrap();
        assert_eq!(labels[annotations::HOSTNAME], "dev-1");
        assert_eq!(labels["zone"], "a");
        assert_eq!(
            node.metadata.annotations.unwrap()[annotations::WIRE_ADDRESS],
            "127.0.0.1:7000"
        );
        let status = status(&facts(), Pressures::default(), &[], Timestamp::UNIX_EPOCH);
        let capacity = status.capacity.unwrap();
        assert_eq!(
            (
                capacity["cpu"].0.as_str(),
                capacity["memory"].0.as_str(),
                capacity["pods"].0.as_str()
            ),
            ("2", "1Gi", "4000")
        );
        assert!(condition::is_true(&status.conditions.unwrap(), "Ready"));
        assert_eq!(
            status
                .daemon_endpoints
                .unwrap()
                .kubelet_endpoint
                .unwrap()
                .port,
            7001
        );
    }

    #[test]
    fn conditions_of_others_stay_and_times_move_with_the_status() {
        let later = Timestamp::from_second(60).unwrap();
        let mut prior = conditions(Pressures::default(), &[], Timestamp::UNIX_EPOCH);
        for kind in ["Odd", "Ready"] {
            let value = Status::from(kind == "Odd");
            condition::set(&mut prior, kind, value, ("", ""), Timestamp::UNIX_EPOCH);
        }
        let pressures = Pressures {
            memory: false,
            disk: true,
        };
        let next = conditions(pressures, &prior, later);
        assert!(condition::is_true(&next, "Odd"));
        assert_eq!(
            condition::find(&next, "Ready").unwrap().since(),
            Some(later)
        );
        let memory = condition::find(&next, "MemoryPressure").unwrap();
        assert_eq!(memory.since(), Some(Timestamp::UNIX_EPOCH));
        let disk = condition::find(&next, "DiskPressure").unwrap();
        assert_eq!((disk.status(), disk.since()), ("True", Some(later)));
        assert_eq!(disk.reason.as_deref(), Some("KubeletHasDiskPressure"));
        assert!(is_said(&next, pressures) && !is_said(&next, Pressures::default()));
    }
}
