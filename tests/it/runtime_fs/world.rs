//! A pod network with nothing around it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use wasmorch::runtime::budget::Budget;
use wasmorch::runtime::net::{
    ClusterNetwork, Duplex, Fabric, FabricConfig, Incarnation, PodNet, PodNetConfig, Route,
};
use wasmorch::runtime::spec::Protocol;
use wasmorch::tasks::TaskGroup;

struct Nothing;

impl ClusterNetwork for Nothing {
    fn resolve(&self, _namespace: &str, _name: &str) -> Option<Vec<IpAddr>> {
        None
    }

    fn route(&self, _from: IpAddr, _to: SocketAddr, _protocol: Protocol) -> Route {
        Route::Refused
    }

    fn dial_pod(
        &self,
        _from: SocketAddr,
        _to: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

/// One pod and one run of a container in it.
pub(super) struct World {
    pub(super) net: Arc<PodNet>,
    pub(super) container: Incarnation,
}

impl World {
    pub(super) fn new() -> Self {
        let fabric = Fabric::new(FabricConfig::new(Arc::new(Nothing), TaskGroup::new()));
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
