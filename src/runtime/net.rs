//! The pod's virtual network.
//!
//! Every pod is a network namespace of its own: 127.0.0.0/8, `::1`, its pod address and the
//! wildcards, TCP and UDP, shared by all its containers. No descriptor of the host stands behind a
//! guest's socket; a connection is two byte rings ([`Conn`]), a listener is a queue, and everything
//! that a container owns goes away with its [`Incarnation`] in one drop.
//!
//! A connection takes the shortest plane that reaches its target:
//!
//! ```text
//!  lo     same pod                 PodNet delivers to its own port table
//!  mesh   a pod of this worker     the same rings, found through the Fabric
//!  wire   a pod of another worker  ClusterNetwork::dial_pod, pumped by one owned task
//!  host   outside the cluster      a real socket, if the pod's egress and `policy` allow it
//! ```
//!
//! UDP takes the same planes: `far` carries it over the wire, `outside` beyond the cluster. On every
//! plane but `lo` the pods' [`Rules`] are asked first, if there are any (`guard`): the sender's about
//! where it may go, the receiver's about who may come. Nothing in this module knows wasmtime: the
//! faces are in `runtime::wasi`.

mod cluster;
mod conn;
mod descriptors;
mod dialer;
mod error;
mod fabric;
mod far;
#[cfg(test)]
mod fixture;
mod flows;
mod from_host;
mod guard;
mod listen;
mod mailbox;
mod options;
mod outside;
mod outward;
mod owner;
mod payload;
mod pod_net;
mod policy;
mod ports;
mod pump;
mod resolve;
mod ring;
mod rules;
mod tcp;
mod udp;
mod wakers;

#[cfg(test)]
pub(in crate::runtime) use self::fixture::{connection, pod};
pub use cluster::{ClusterNetwork, Duplex, NoCluster, Route};
pub use conn::{Conn, Shutdown};
pub use dialer::Connect;
pub use error::Error;
pub use fabric::{Fabric, FabricConfig};
pub use listen::TcpListener;
pub use options::{Family, Options};
pub use owner::{Incarnation, Owner};
pub use pod_net::{ConnService, PodNet, PodNetConfig, ServiceBinding};
pub use resolve::Lookup;
pub use rules::{Block, PeerSet, Peers, PortRange, Rule, Rules};
pub use tcp::TcpSocket;
pub use udp::UdpSocket;
