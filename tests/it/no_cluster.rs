//! A pod network's surroundings when there are none.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use wasmorch::runtime::net::{ClusterNetwork, Duplex, Route};
use wasmorch::runtime::spec::Protocol;

/// Nobody can be named and nobody can be reached.
pub(crate) struct NoCluster;

impl ClusterNetwork for NoCluster {
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
