//! A pod network with nothing around it.

use std::net::IpAddr;
use std::sync::Arc;

use wasmorch::runtime::budget::Budget;
use wasmorch::runtime::net::{Fabric, FabricConfig, Incarnation, NoCluster, PodNet, PodNetConfig};
use wasmorch::tasks::TaskGroup;

/// One pod and one run of a container in it.
pub(super) struct World {
    pub(super) net: Arc<PodNet>,
    pub(super) container: Incarnation,
}

impl World {
    pub(super) fn new() -> Self {
        let fabric = Fabric::new(FabricConfig::new(Arc::new(NoCluster), TaskGroup::new()));
        let config = PodNetConfig {
            namespace: "default".to_owned(),
            hostname: "pod".to_owned(),
            ip: IpAddr::from([10, 64, 0, 1]),
            egress: false,
            max_sockets: 100,
            budget: Budget::new(1 << 20),
        };
        Self {
            net: fabric.create_pod(config).unwrap(),
            container: Incarnation::new(),
        }
    }
}
