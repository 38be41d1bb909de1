//! The wire server: connections from routers and other workers to this worker's pods.
//!
//! A connection begins with a preamble (`router::tunnel`). If its port is an HTTP handler's, the
//! connection is served right here as HTTP/1.1 and each request is a function call on the task that
//! read it; otherwise the bytes are spliced to the pod's virtual socket. There is one thread with
//! its own single-threaded runtime per core, each with its own listener on the same port
//! (`SO_REUSEPORT`), so that a request runs to its end on the core that read it.
//!
//! Whoever does not know the wire secret, is slow, or sends something else is cut off.

mod http;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::fence::Fence;
use crate::errors::chain;
use crate::router::listen;
use crate::router::tunnel::{self, Answer, Preamble, Source, WireProtocol};
use crate::runtime::net::{Conn, PodNet};
use crate::runtime::{PodSandbox, Runtime};
use crate::tasks::TaskGroup;

const PREAMBLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of one thread; descriptors of the process are for all.
const CONNECTIONS: usize = 16 << 10;

/// What a connection needs.
pub struct Wire {
    pub runtime: Runtime,
    pub secret: Vec<u8>,
    pub fence: Arc<Fence>,
}

/// The listeners, bound but not served; the first one fixes the port.
pub struct Listeners {
    sockets: Vec<std::net::TcpListener>,
    address: SocketAddr,
}

impl Listeners {
    /// Binds one listener per thread on the same port; port 0 takes any.
    pub fn bind(address: SocketAddr, threads: usize) -> io::Result<Self> {
        let sockets = listen::bind_group(address, threads)?;
        Ok(Self {
            address: sockets[0].local_addr()?,
            sockets,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on threads of their own until the group is cancelled.
    pub fn serve(self, wire: &Arc<Wire>, tasks: &TaskGroup) -> io::Result<()> {
        for (index, socket) in self.sockets.into_iter().enumerate() {
            let (wire, tasks) = (Arc::clone(wire), tasks.clone());
            // Guests run on these threads: look at timers and sockets after each of their slices.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .event_interval(1)
                .build()?;
            let serve = move || runtime.block_on(accept_all(socket, wire, tasks));
            std::thread::Builder::new()
                .name(format!("wire-{index}"))
                .spawn(serve)?;
        }
        Ok(())
    }
}

async fn accept_all(socket: std::net::TcpListener, wire: Arc<Wire>, tasks: TaskGroup) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "serve the wire");
            return tasks.cancel();
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let serve = |stream, _| {
        let (wire, stop) = (Arc::clone(&wire), tasks.cancelled());
        async move {
            tokio::select! {
                () = serve_one(stream, &wire) => {}
                () = stop.cancelled() => {}
            }
        }
    };
    tasks
        .accept("wire connection", &listener, &places, serve)
        .await;
}

async fn serve_one(mut stream: TcpStream, wire: &Arc<Wire>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let reading = tokio::time::timeout(PREAMBLE_TIMEOUT, tunnel::read(&mut stream));
    let Ok(Ok(preamble)) = reading.await else {
        return;
    };
    let (answer, sandbox) = admit(&preamble, wire);
    if stream.write_all(&[answer.code()]).await.is_err() {
        return;
    }
    let (Answer::Ok, Some(target)) = (answer, sandbox) else {
        return;
    };
    match target {
        Target::Handler(sandbox) => {
            http::serve(stream, sandbox, &preamble, Arc::clone(wire)).await;
        }
        Target::Datagrams(sandbox) => {
            if let Err(error) = sandbox.net().receive_far(stream).await {
                tracing::debug!(error = %chain(&error), "datagrams on the wire");
            }
        }
        Target::Socket(mut connection, net) => {
            // Requests of many clients, which nobody can tell apart here, may come for as long as
            // it does not matter whose they are.
            let isolated = async {
                match preamble.source {
                    Source::Requests => net.isolated().await,
                    Source::Peer(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                spliced = tokio::io::copy_bidirectional(&mut stream, &mut connection) => {
                    if let Err(error) = spliced {
                        tracing::trace!(error = %chain(&error), "wire connection");
                    }
                }
                () = isolated => {}
            }
        }
    }
}

enum Target {
    Handler(Arc<PodSandbox>),
    Datagrams(Arc<PodSandbox>),
    Socket(Conn, Arc<PodNet>),
}

fn admit(preamble: &Preamble, wire: &Wire) -> (Answer, Option<Target>) {
    if !is_same(&preamble.secret, &wire.secret) {
        return (Answer::Unauthorized, None);
    }
    let sandbox = match wire.runtime.sandbox_at(preamble.target.ip()) {
        Some(sandbox) if wire.fence.is_open() => sandbox,
        Some(_) | None => return (Answer::NoSuchPod, None),
    };
    if preamble.protocol == WireProtocol::Udp {
        return (Answer::Ok, Some(Target::Datagrams(sandbox)));
    }
    let (port, net) = (preamble.target.port(), sandbox.net());
    if let Source::Peer(from) = preamble.source
        && !net.lets_in(from.ip(), port)
    {
        return (Answer::Denied, None);
    }
    if sandbox.http_handler(port).is_some() {
        return (Answer::Ok, Some(Target::Handler(sandbox)));
    }
    let dialled = match preamble.source {
        Source::Peer(from) => net.dial_from(from, port),
        Source::Requests if net.is_isolated() => return (Answer::Isolated, None),
        Source::Requests => net.dial(port),
    };
    match dialled {
        Ok(connection) => {
            let target = Target::Socket(connection, Arc::clone(net));
            (Answer::Ok, Some(target))
        }
        Err(_) if sandbox.is_leaving() => (Answer::NoSuchPod, None),
        Err(_) => (Answer::Refused, None),
    }
}

/// Compares in time that depends on the lengths only.
pub(super) fn is_same(given: &[u8], wanted: &[u8]) -> bool {
    let pairs = given.iter().zip(wanted);
    let difference = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0 && given.len() == wanted.len() && !wanted.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_whole() {
        assert!(is_same(b"abc", b"abc"));
        assert!(!is_same(b"abd", b"abc"));
        assert!(!is_same(b"ab", b"abc"));
        assert!(!is_same(b"abcd", b"abc"));
        assert!(!is_same(b"", b""));
    }

    #[test]
    fn every_thread_listens_on_the_same_port() {
        let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(listeners.sockets.len(), 3);
        let port = listeners.address().port();
        let ports = listeners
            .sockets
            .iter()
            .map(|it| it.local_addr().unwrap().port());
        assert!(ports.into_iter().all(|it| it == port && port != 0));
    }
}
