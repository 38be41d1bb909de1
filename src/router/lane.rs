//! A lane: one thread, one single-threaded runtime, its own sockets and its own connections.
//!
//! A request runs to its end on the lane that read it; lanes share the table and nothing that is
//! written on the way of a request but counters. A lane also opens and closes listeners for node
//! ports and load-balancer addresses as the table changes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::dial;
use super::front::Front;
use super::http::{self as proxy, Client, Sent, Site};
use super::l4;
use super::listen::{self, Place};
use super::table::Endpoint;
use super::tunnel::Source;
use super::upstream::Upstreams;
use crate::errors::chain;
use crate::tasks::{Executor, FirstRequest, TaskGroup};

const SWEEP: Duration = Duration::from_secs(5);
/// An address that could not be listened on is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// How long connections may finish what they are doing when the router stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How often a silent HTTP/2 client is asked whether it is there.
const PING: Duration = Duration::from_secs(30);
/// Streams that one HTTP/2 connection may have open.
const STREAMS: u32 = 256;

/// See the module.
pub(super) struct Lane {
    pub(super) front: Arc<Front>,
    pub(super) upstreams: Upstreams,
    pub(super) retries: proxy::Budget,
    /// Tasks that serve clients; cancelled to drain.
    pub(super) connections: TaskGroup,
    /// Tasks that drive connections to pods; they end when nobody needs them.
    drivers: TaskGroup,
    places: Arc<Semaphore>,
}

/// What a lane begins with.
pub(super) struct Start {
    pub(super) front: Arc<Front>,
    pub(super) listener: std::net::TcpListener,
    pub(super) node_port_ip: IpAddr,
    /// The first lane reports what all of them meet.
    pub(super) is_first: bool,
}

impl Start {
    /// Runs the lane on the current thread until the group is cancelled and its clients are served.
    pub(super) fn run(self, tasks: &TaskGroup) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = TcpListener::from_std(self.listener)?;
            let lane = Arc::new(Lane {
                places: Arc::new(Semaphore::new(self.front.limits.connections)),
                front: self.front,
                upstreams: Upstreams::default(),
                retries: proxy::Budget::default(),
                connections: tasks.child(),
                drivers: tasks.child(),
            });
            let stopped = tasks.cancelled();
            tokio::select! {
                () = lane.accept(listener, Site::Front) => {}
                () = lane.follow(self.node_port_ip, self.is_first) => {}
                () = lane.sweep() => {}
                () = stopped.cancelled() => {}
            }
            lane.connections.shutdown(DRAIN).await;
            Ok(())
        })
    }
}

impl Lane {
    async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.upstreams.sweep(Instant::now());
        }
    }

    /// Listens where the table says, as long as it says so.
    async fn follow(self: &Arc<Self>, node_port_ip: IpAddr, is_first: bool) {
        let mut changes = self.front.changes();
        let mut open: BTreeMap<Place, TaskGroup> = BTreeMap::new();
        let mut failed = BTreeMap::new();
        loop {
            let wanted = listen::wanted(&self.front.table(), node_port_ip);
            let gone: Vec<Place> = open
                .keys()
                .filter(|it| !wanted.contains(it))
                .copied()
                .collect();
            for place in gone {
                if let Some(group) = open.remove(&place) {
                    group.cancel();
                }
            }
            failed.retain(|place, _| wanted.contains(place));
            for place in wanted {
                if open.contains_key(&place) {
                    continue;
                }
                match self.listen(place) {
                    Ok(group) => {
                        open.insert(place, group);
                        failed.remove(&place);
                    }
                    Err(error) => {
                        if failed.insert(place, error.kind()).is_none() && is_first {
                            tracing::warn!(address = %place.0, %error, "listen for a service");
                        }
                    }
                }
            }
            if failed.is_empty() {
                if changes.changed().await.is_err() {
                    return;
                }
            } else {
                let _ = tokio::time::timeout(LISTEN_AGAIN, changes.changed()).await;
            }
        }
    }

    fn listen(self: &Arc<Self>, (addr, site): Place) -> io::Result<TaskGroup> {
        let listener = TcpListener::from_std(listen::bind_shared(addr)?)?;
        let group = self.connections.child();
        let (lane, closed) = (Arc::clone(self), group.cancelled());
        group.spawn_contained("service listener", async move {
            tokio::select! {
                () = lane.accept(listener, site) => {}
                () = closed.cancelled() => {}
            }
        });
        Ok(group)
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener, site: Site) {
        let serve = |stream, from| Arc::clone(self).serve(stream, from, site);
        self.connections
            .accept("client connection", &listener, &self.places, serve)
            .await;
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, from: SocketAddr, site: Site) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        if self.is_http(site) {
            self.serve_http(stream, from, site).await;
        } else {
            l4::serve(&self, site, stream, from).await;
        }
    }

    fn is_http(&self, site: Site) -> bool {
        if site == Site::Front {
            return true;
        }
        let listener = site.listener(&self.front.table());
        listener.is_some_and(|it| it.service.tcp_port(&it.port).is_some_and(|it| it.is_http))
    }

    async fn serve_http(self: Arc<Self>, stream: TcpStream, from: SocketAddr, site: Site) {
        let ip = from.ip().to_canonical().to_string();
        let Ok(forwarded_for) = HeaderValue::try_from(ip) else {
            return;
        };
        let client = Arc::new(Client {
            site,
            addr: from,
            forwarded_for,
        });
        let stopped = self.connections.cancelled();
        let server = self.http_server();
        let first = FirstRequest::default();
        let silent = first.missing_for(self.front.limits.head_timeout);
        let asking = first.clone();
        let service = service_fn(move |request| {
            asking.arrived();
            let (lane, client) = (Arc::clone(&self), Arc::clone(&client));
            async move { proxy::serve(&lane, &client, request).await }
        });
        let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = silent => return,
            () = stopped.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "client connection");
        }
    }

    fn http_server(&self) -> auto::Builder<Executor> {
        let limits = &self.front.limits;
        let mut server = auto::Builder::new(self.connections.executor("client stream"));
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_headers(limits.headers)
            .max_buf_size(limits.head_bytes);
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(PING))
            .keep_alive_timeout(limits.head_timeout)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(limits.head_bytes as u32);
        server
    }

    /// A place for a connection that its HTTP server has let go of; `None` if all are taken.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Opens a stream to an endpoint through its worker.
    pub(super) async fn open(
        &self,
        endpoint: &Endpoint,
        source: Source,
    ) -> Result<dial::Stream, dial::Error> {
        let wire = self.front.table().wire_of(endpoint).cloned();
        let wire = wire.ok_or(dial::Error::NoWorker(endpoint.addr))?;
        self.front.dialer.open(&wire, source, endpoint.addr).await
    }

    /// Begins to speak HTTP/1.1 on a stream.
    pub(super) async fn handshake(
        &self,
        stream: dial::Stream,
    ) -> Result<SendRequest<Sent>, hyper::Error> {
        let limits = &self.front.limits;
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_headers(limits.headers)
            .max_buf_size(limits.head_bytes)
            .handshake(TokioIo::new(stream))
            .await?;
        self.drivers.spawn_contained("pod connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = %chain(&error), "connection to a pod");
            }
        });
        Ok(sender)
    }
}
