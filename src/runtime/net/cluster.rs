//! What the pod network asks of the cluster around it.
//!
//! The worker implements [`ClusterNetwork`] over its routing table and the wire; tests implement
//! it over a map. Calls are made on a guest's thread: `resolve` and `route` must only look into a
//! snapshot, `dial_pod` must return its future at once.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::runtime::spec::Protocol;

/// A byte stream in both directions, with half-close by `shutdown`.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Where a connection to an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a pod: the address itself, or the endpoint chosen for a service address.
    Pod(SocketAddr),
    /// Out of the cluster.
    External(SocketAddr),
    /// To nobody: a service without ready endpoints, a cluster address that is not in use.
    Refused,
}

/// See the module.
pub trait ClusterNetwork: Send + Sync + 'static {
    /// The addresses of a name asked for by a pod of `namespace`: services, headless sets, pods.
    /// `None` when the cluster knows no such name.
    fn resolve(&self, namespace: &str, name: &str) -> Option<Vec<IpAddr>>;

    /// The name outside the cluster that stands behind a name inside (an ExternalName service), if
    /// [`ClusterNetwork::resolve`] has no answer. It is asked of the host's resolver.
    fn alias(&self, _namespace: &str, _name: &str) -> Option<String> {
        None
    }

    /// Where a connection from `from` (a pod's address) to `to` goes. `from` is there for client
    /// affinity; the answer for a service address may differ from call to call.
    fn route(&self, from: IpAddr, to: SocketAddr, protocol: Protocol) -> Route;

    /// Opens a byte stream to a pod of another worker.
    fn dial_pod(
        &self,
        from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>>;

    /// Opens a stream for datagrams to a pod of another worker, where
    /// [`PodNet::receive_far`](super::PodNet::receive_far) reads it.
    fn dial_datagrams(
        &self,
        _from: IpAddr,
        _to: IpAddr,
    ) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// What is around a worker without a cluster: nobody can be named and nobody can be reached.
pub struct NoCluster;

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
