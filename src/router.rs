//! The router: how requests reach pods.
//!
//! ```text
//!  feed ──▶ table (pure) ──▶ front ──▶ lane, one for each core: listen ─▶ http ─┐
//!  watches, disk   snapshot                                          └─▶ l4 ──┤
//!                                                        upstream ◀─ balance ◀┘
//!                                                           └─▶ dial ─▶ tunnel ─▶ worker
//! ```
//!
//! `table` is the pure centre: Services, EndpointSlices, Nodes and Ingresses go in, one immutable
//! snapshot comes out. The front door of the cluster and every worker route by the same table, and
//! reach pods of other workers through the same `tunnel`. The front door holds no state that it
//! could not lose: kill it and start it again, with or without a server, and it serves.

mod admin;
pub mod balance;
pub mod dial;
mod feed;
mod front;
mod http;
mod l4;
mod lane;
pub(crate) mod listen;
mod retry;
pub mod table;
pub mod traffic;
pub mod tunnel;
mod upgrade;
mod upstream;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

pub use feed::Health;
pub use front::{Front, Limits};

use self::admin::Admin;
use self::dial::Dialer;
use self::feed::Feed;
use self::lane::Start;
use crate::tasks::TaskGroup;

/// What a router is made of.
pub struct Config {
    /// The front address.
    pub http: SocketAddr,
    /// Where metrics are served; a loopback address.
    pub admin: SocketAddr,
    /// The address that node ports are opened on.
    pub node_port_ip: IpAddr,
    /// Threads that serve clients.
    pub lanes: usize,
    /// Where the last routing table is kept; `None` keeps none.
    pub data_dir: Option<PathBuf>,
    pub limits: Limits,
    pub dialer: Dialer,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        Self {
            http: SocketAddr::new(loopback, 8080),
            admin: SocketAddr::new(loopback, 0),
            node_port_ip: loopback,
            lanes: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            data_dir: None,
            limits: Limits::default(),
            dialer: Dialer::new(None),
        }
    }
}

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{0} is not a loopback address: metrics are served on this machine only")]
    AdminOutside(SocketAddr),
    #[error("start a thread of the router")]
    Thread(#[source] io::Error),
}

/// A router whose sockets are bound and that serves nobody yet.
pub struct Router {
    front: Arc<Front>,
    health: Arc<Health>,
    listeners: Vec<TcpListener>,
    admin: TcpListener,
    http_address: SocketAddr,
    admin_address: SocketAddr,
    node_port_ip: IpAddr,
    data_dir: Option<PathBuf>,
}

impl Router {
    /// Binds all sockets, so that addresses are known before anything runs.
    pub fn bind(config: Config) -> Result<Self, Error> {
        if !config.admin.ip().is_loopback() {
            return Err(Error::AdminOutside(config.admin));
        }
        let failed = |address| move |source| Error::Listen { address, source };
        let listeners =
            listen::bind_group(config.http, config.lanes).map_err(failed(config.http))?;
        let admin = TcpListener::bind(config.admin).map_err(failed(config.admin))?;
        admin.set_nonblocking(true).map_err(failed(config.admin))?;
        let http_address = listeners
            .first()
            .map_or(Ok(config.http), TcpListener::local_addr)
            .map_err(failed(config.http))?;
        Ok(Self {
            http_address,
            admin_address: admin.local_addr().map_err(failed(config.admin))?,
            front: Front::new(config.dialer, config.limits),
            health: Arc::default(),
            listeners,
            admin,
            node_port_ip: config.node_port_ip,
            data_dir: config.data_dir,
        })
    }

    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What the lanes share: to publish tables by hand, and to read the current one.
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Serves until the group is cancelled, then lets clients finish. Without a client of the API
    /// the table is whatever is published by hand.
    pub async fn run(self, client: Option<kube::Client>, tasks: &TaskGroup) -> Result<(), Error> {
        let feed = Feed::new(
            Arc::clone(&self.front),
            Arc::clone(&self.health),
            self.data_dir,
        );
        let feed = feed.await;
        let mut threads = Vec::new();
        for (index, listener) in self.listeners.into_iter().enumerate() {
            let start = Start {
                front: Arc::clone(&self.front),
                listener,
                node_port_ip: self.node_port_ip,
                is_first: index == 0,
            };
            threads.push(spawn_lane(index, start, tasks.clone())?);
        }
        let admin = Arc::new(Admin {
            front: self.front,
            health: self.health,
        });
        let listener = tokio::net::TcpListener::from_std(self.admin).map_err(Error::Thread)?;
        tasks.spawn("router admin", admin.run(listener, tasks.clone()));
        if let Some(client) = client {
            let stopped = tasks.cancelled();
            tasks.spawn("router feed", async move {
                tokio::select! {
                    () = feed.run(client) => {}
                    () = stopped.cancelled() => {}
                }
            });
        }
        tasks.cancelled().cancelled().await;
        for ended in threads {
            // A lane that panicked has cancelled the group and is gone.
            let _ = ended.await;
        }
        Ok(())
    }
}

/// Starts a lane's thread; the receiver resolves when it has ended. A lane that cannot go on stops
/// the router: half of the connections would go nowhere.
fn spawn_lane(
    index: usize,
    start: Start,
    tasks: TaskGroup,
) -> Result<tokio::sync::oneshot::Receiver<()>, Error> {
    let (ended, receiver) = tokio::sync::oneshot::channel();
    let run = move || {
        let _guard = tasks.cancelled().drop_guard();
        if let Err(error) = start.run(&tasks) {
            tracing::error!(%error, "run a lane of the router");
        }
        drop(ended);
    };
    std::thread::Builder::new()
        .name(format!("lane-{index}"))
        .spawn(run)
        .map_err(Error::Thread)?;
    Ok(receiver)
}
