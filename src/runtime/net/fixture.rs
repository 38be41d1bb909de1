//! A small world for the tests of this room: two pods on one worker, and a cluster in which
//! 10.43.0.1:80 is a service of the second pod's port 8080, 10.43.0.2 has no endpoints, 10.64.9.9
//! is a pod on another worker that echoes on port 7 and never answers on port 6, and everything else is
//! outside.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::conn::End;
use super::*;
use crate::runtime::budget::Budget;
use crate::runtime::spec::Protocol;
use crate::tasks::TaskGroup;

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Cluster(TaskGroup);

impl ClusterNetwork for Cluster {
    fn resolve(&self, namespace: &str, name: &str) -> Option<Vec<IpAddr>> {
        match name {
            "db" if namespace == "shop" => Some(vec!["10.43.0.1".parse().unwrap()]),
            "empty" => Some(Vec::new()),
            _ => None,
        }
    }

    fn route(&self, _from: IpAddr, to: SocketAddr, _protocol: Protocol) -> Route {
        match to.ip().to_string().as_str() {
            "10.43.0.1" => Route::Pod(addr("10.64.0.2:8080")),
            "10.43.0.2" => Route::Refused,
            ip if ip.starts_with("10.64.") => Route::Pod(to),
            _ => Route::External(to),
        }
    }

    fn dial_pod(
        &self,
        _from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        let tasks = self.0.clone();
        Box::pin(async move {
            if to == addr("10.64.9.9:6") {
                return std::future::pending().await;
            }
            if to != addr("10.64.9.9:7") {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(64);
            tasks.spawn_contained("echo", async move {
                let (mut reader, mut writer) = tokio::io::split(far);
                let mut all = Vec::new();
                reader.read_to_end(&mut all).await.unwrap();
                writer.write_all(&all).await.unwrap();
            });
            Ok(Box::new(near) as Box<dyn Duplex>)
        })
    }
}

pub(super) struct World {
    pub(super) fabric: Arc<Fabric>,
    pub(super) budget: Arc<Budget>,
    pub(super) first: Arc<PodNet>,
    pub(super) second: Arc<PodNet>,
    pub(super) container: Incarnation,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_limits(1 << 30, 1000)
    }

    pub(super) fn with_limits(memory: u64, max_sockets: u32) -> Self {
        let tasks = TaskGroup::new();
        let cluster = Arc::new(Cluster(tasks.clone()));
        let fabric = Fabric::new(FabricConfig::new(cluster, tasks));
        let budget = Budget::new(memory);
        let pod = |ip: &str| {
            let config = PodNetConfig {
                namespace: "shop".to_owned(),
                hostname: "web-0".to_owned(),
                ip: ip.parse().unwrap(),
                egress: false,
                max_sockets,
                budget: Arc::clone(&budget),
            };
            fabric.create_pod(config).unwrap()
        };
        Self {
            first: pod("10.64.0.1"),
            second: pod("10.64.0.2"),
            budget,
            fabric,
            container: Incarnation::new(),
        }
    }

    pub(super) fn tcp(&self) -> TcpSocket {
        TcpSocket::new(&self.first, self.container.owner(), Family::V4).unwrap()
    }

    pub(super) fn udp(&self) -> UdpSocket {
        UdpSocket::new(&self.first, self.container.owner(), Family::V4).unwrap()
    }

    /// A listener of the first pod.
    pub(super) fn listen(&self, at: &str) -> (TcpSocket, Arc<TcpListener>) {
        let mut socket = self.tcp();
        socket.bind(addr(at)).unwrap();
        let listener = socket.listen().unwrap();
        (socket, listener)
    }

    /// A connection of the first pod, on the planes where that takes no time.
    pub(super) fn connect(&self, to: &str) -> Result<TcpSocket, Error> {
        self.connect_by(Family::V4, to)
    }

    /// The same by a socket of that family.
    pub(super) fn connect_by(&self, family: Family, to: &str) -> Result<TcpSocket, Error> {
        let mut socket = TcpSocket::new(&self.first, self.container.owner(), family)?;
        socket.start_connect(addr(to))?;
        let mut cx = Context::from_waker(Waker::noop());
        match socket.poll_connected(&mut cx) {
            Poll::Ready(result) => result.map(|()| socket),
            Poll::Pending => panic!("this plane takes time"),
        }
    }
}

/// A pod's network without a cluster around it worth the name, and a container.
pub(in crate::runtime) fn pod() -> (Arc<PodNet>, Incarnation) {
    let World {
        first, container, ..
    } = World::new();
    (first, container)
}

/// Both ends of a connection of nobody's.
pub(in crate::runtime) fn connection() -> (Conn, Conn) {
    let budget = Budget::new(1 << 20);
    let end = |at: &str| End {
        local: addr(at),
        budget: Arc::clone(&budget),
    };
    let (here, there) = (end("127.0.0.1:1"), end("127.0.0.1:2"));
    let shown = there.local;
    Conn::pair(here, there, shown, [64 << 10; 2])
}

/// A connection that may take time.
pub(super) async fn connected(mut socket: TcpSocket, to: &str) -> Result<TcpSocket, Error> {
    socket.start_connect(addr(to))?;
    poll_fn(|cx| socket.poll_connected(cx)).await?;
    Ok(socket)
}
