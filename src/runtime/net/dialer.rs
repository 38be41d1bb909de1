//! Connecting: which plane a connection takes, and how it is opened there.
//!
//! On `lo` and `mesh` a connection exists when the call returns. On `wire` and `host` a task of
//! the fabric opens the real stream, hands the guest its end, and then pumps bytes between the
//! two; the guest's end is a virtual connection like any other, so it is owned, counted, bounded
//! and reset alike. Giving up a [`Connect`] gives up the attempt.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::cluster::{Duplex, Route};
use super::conn::{Conn, End};
use super::error::Error;
use super::options::{Options, is_remote, is_unicast};
use super::outward::RealSocket;
use super::owner::Owner;
use super::pod_net::{Client, PodNet};
use super::ports::PortLease;
use super::pump::pump;
use crate::runtime::spec::Protocol;

/// How long a connection that leaves the worker may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection being opened; a future of its result.
pub struct Connect(State);

enum State {
    Done(Option<Result<Conn, Error>>),
    /// With the local port, which is free at once when the attempt is given up.
    Waiting(oneshot::Receiver<Result<Conn, Error>>, Option<PortLease>),
}

impl Future for Connect {
    type Output = Result<Conn, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Done(result) => Poll::Ready(result.take().unwrap_or(Err(Error::InvalidState))),
            State::Waiting(receiver, lease) => Pin::new(receiver).poll(cx).map(|answer| {
                let mut conn = answer.unwrap_or(Err(Error::ConnectionAborted))?;
                if let Some(lease) = lease.take() {
                    conn.hold(lease);
                }
                Ok(conn)
            }),
        }
    }
}

pub(super) enum Plane {
    Lo(SocketAddr),
    Mesh(Arc<PodNet>, SocketAddr),
    Wire(SocketAddr),
    Host(SocketAddr),
}

/// The client's half of an attempt.
struct Attempt {
    owner: Owner,
    lease: PortLease,
    local: SocketAddr,
    shown: SocketAddr,
    options: Options,
}

impl PodNet {
    /// Opens a TCP connection in the name of a container.
    pub fn connect(&self, owner: &Owner, to: SocketAddr) -> Connect {
        self.connect_from(owner, None, Options::default(), to)
    }

    /// The same from a socket that may be bound already.
    pub(super) fn connect_from(
        &self,
        owner: &Owner,
        lease: Option<PortLease>,
        options: Options,
        to: SocketAddr,
    ) -> Connect {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        match self.open(owner, lease, options, to) {
            Ok(connect) => connect,
            Err(error) => Connect(State::Done(Some(Err(error)))),
        }
    }

    fn open(
        &self,
        owner: &Owner,
        lease: Option<PortLease>,
        options: Options,
        to: SocketAddr,
    ) -> Result<Connect, Error> {
        if !is_remote(to) || !is_unicast(to.ip()) {
            return Err(Error::InvalidArgument);
        }
        let plane = self.plane(to, Protocol::Tcp)?;
        self.check_way_out(&plane)?;
        let lease = match lease {
            Some(lease) => lease,
            None => self.bind(
                Protocol::Tcp,
                SocketAddr::new(self.source_for(to.ip()), 0),
                owner,
            )?,
        };
        let source = match lease.addr.ip() {
            ip if ip.is_unspecified() => self.source_for(to.ip()),
            ip => ip,
        };
        if source.is_loopback() && !self.is_own(to.ip()) {
            return Err(Error::InvalidArgument);
        }
        let attempt = Attempt {
            owner: owner.clone(),
            local: SocketAddr::new(source, lease.addr.port()),
            lease,
            shown: to,
            options,
        };
        match plane {
            Plane::Lo(to) => attempt.finish(|client| self.deliver(client, to), self),
            Plane::Mesh(pod, to) => {
                attempt.finish(|client| pod.deliver_from_peer(client, to), self)
            }
            Plane::Wire(to) => {
                let stream = self.fabric.cluster.dial_pod(attempt.local, to);
                self.open_in_task(attempt, stream, None)
            }
            Plane::Host(to) => {
                let real = RealSocket::default();
                let dial = real.clone().dial(to, attempt.options);
                let stream = async { Ok(Box::new(dial.await?) as Box<dyn Duplex>) };
                self.open_in_task(attempt, Box::pin(stream), Some(real))
            }
        }
    }

    /// The plane that reaches `to`.
    pub(super) fn plane(&self, to: SocketAddr, protocol: Protocol) -> Result<Plane, Error> {
        if self.is_own(to.ip()) {
            return Ok(Plane::Lo(to));
        }
        if let Some(pod) = self.fabric.pod(to.ip()) {
            return Ok(Plane::Mesh(pod, to));
        }
        match self.fabric.cluster.route(self.ip(), to, protocol) {
            Route::Pod(endpoint) if endpoint.ip() == self.ip() => Ok(Plane::Lo(endpoint)),
            Route::Pod(endpoint) => Ok(match self.fabric.pod(endpoint.ip()) {
                Some(pod) => Plane::Mesh(pod, endpoint),
                None => Plane::Wire(endpoint),
            }),
            Route::External(outside) => {
                let way = self.fabric.egress.way(outside);
                let way = way.filter(|_| self.config.egress);
                way.map(Plane::Host).ok_or(Error::AccessDenied)
            }
            Route::Refused => Err(Error::ConnectionRefused),
        }
    }

    fn open_in_task(
        &self,
        attempt: Attempt,
        stream: BoxFuture<'static, io::Result<Box<dyn Duplex>>>,
        real: Option<RealSocket>,
    ) -> Result<Connect, Error> {
        let descriptor = self.descriptors.take()?;
        let Attempt {
            owner,
            lease,
            local,
            shown,
            options,
        } = attempt;
        let (mut answer, receiver) = oneshot::channel();
        let budget = Arc::clone(&self.config.budget);
        let stopped = self.fabric.tasks.cancelled();
        self.fabric
            .tasks
            .spawn_contained("pod-connection", async move {
                let _descriptor = descriptor;
                let opened = tokio::select! {
                    biased;
                    () = answer.closed() => return,
                    () = stopped.cancelled() => return,
                    opened = tokio::time::timeout(CONNECT_TIMEOUT, stream) => opened,
                };
                let remote = match opened {
                    Ok(Ok(remote)) => remote,
                    Ok(Err(error)) => return drop(answer.send(Err(Error::from(&error)))),
                    Err(_) => return drop(answer.send(Err(Error::TimedOut))),
                };
                let far = End {
                    local: shown,
                    budget: Arc::clone(&budget),
                };
                let near = End { local, budget };
                let limit = options.ring_limit(&options);
                let (mut guest, host) = Conn::pair(near, far, shown, [limit, limit]);
                if guest.own(&owner).is_err() {
                    return;
                }
                if let Some(real) = real {
                    guest.lead_to(real);
                }
                if answer.send(Ok(guest)).is_ok() {
                    tokio::select! {
                        () = stopped.cancelled() => host.reset(),
                        () = pump(&host, remote) => {}
                    }
                }
            });
        Ok(Connect(State::Waiting(receiver, Some(lease))))
    }
}

impl Attempt {
    /// For the planes on which delivery is immediate.
    fn finish(
        self,
        deliver: impl FnOnce(Client) -> Result<Conn, Error>,
        net: &PodNet,
    ) -> Result<Connect, Error> {
        let mut conn = deliver(Client {
            local: self.local,
            shown: self.shown,
            budget: Some(Arc::clone(&net.config.budget)),
            options: self.options,
        })?;
        conn.own(&self.owner)?;
        conn.hold(self.lease);
        Ok(Connect(State::Done(Some(Ok(conn)))))
    }
}
