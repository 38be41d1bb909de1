//! Listeners: connections that wait to be accepted.
//!
//! The queue is bounded by the backlog; what does not fit is refused at once, because in a network
//! without packets a silent drop would only make the client wait. Whoever is still in the queue
//! when the listener closes is reset.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::conn::Conn;
use super::error::Error;
use super::options::Options;
use super::owner::Owner;
use super::pod_net::SocketSlot;
use super::ports::PortLease;
use super::wakers::WakerSet;

/// What Rust's standard library asks for.
pub(super) const DEFAULT_BACKLOG: usize = 128;
/// Linux' `somaxconn`.
const MAX_BACKLOG: usize = 4096;

#[derive(Default)]
struct Waiting {
    connections: VecDeque<Conn>,
    backlog: usize,
    closed: bool,
    options: Options,
    wakers: WakerSet,
}

/// The part of a listener that the port table knows.
pub(super) struct ListenQueue(Mutex<Waiting>);

impl ListenQueue {
    pub(super) fn new(backlog: usize, options: Options) -> Self {
        Self(Mutex::new(Waiting {
            backlog: backlog.clamp(1, MAX_BACKLOG),
            options,
            ..Waiting::default()
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The options that accepted sockets inherit.
    pub(super) fn options(&self) -> Options {
        self.lock().options
    }

    /// Makes a connection wait, if there is room. `connect` makes the two ends under the queue's
    /// lock, so that no pair is built only to be thrown away.
    pub(super) fn push(
        &self,
        connect: impl FnOnce(&Options) -> (Conn, Conn),
    ) -> Result<Conn, Error> {
        let mut waiting = self.lock();
        if waiting.closed || waiting.connections.len() >= waiting.backlog {
            return Err(Error::ConnectionRefused);
        }
        let (client, server) = connect(&waiting.options);
        waiting.connections.push_back(server);
        let wakers = waiting.wakers.take();
        drop(waiting);
        wakers.wake();
        Ok(client)
    }

    /// Refuses from now on and resets who waits.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let connections = std::mem::take(&mut waiting.connections);
        let wakers = waiting.wakers.take();
        drop(waiting);
        for connection in &connections {
            connection.reset();
        }
        wakers.wake();
    }
}

/// A listening socket.
pub struct TcpListener {
    queue: Arc<ListenQueue>,
    lease: PortLease,
    /// The same port of the other family, for who listens on both.
    also: Option<PortLease>,
    owner: Owner,
    slot: Option<SocketSlot>,
}

impl TcpListener {
    pub(super) fn new(queue: Arc<ListenQueue>, lease: PortLease, owner: Owner) -> Self {
        Self {
            queue,
            lease,
            also: None,
            owner,
            slot: None,
        }
    }

    pub(super) fn queue(&self) -> Arc<ListenQueue> {
        Arc::clone(&self.queue)
    }

    /// Keeps a further address, behind which its queue stands, for as long as it lives.
    pub(super) fn hold(&mut self, also: PortLease) {
        self.also = Some(also);
    }

    /// Counts it as a socket of its pod.
    pub(super) fn occupy(&mut self, slot: SocketSlot) {
        self.slot = Some(slot);
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.lease.addr
    }

    /// The next connection, or [`Error::WouldBlock`].
    pub fn try_accept(&self) -> Result<Conn, Error> {
        let mut waiting = self.queue.lock();
        if waiting.closed {
            return Err(Error::ConnectionAborted);
        }
        let mut connection = waiting.connections.pop_front().ok_or(Error::WouldBlock)?;
        drop(waiting);
        connection.own(&self.owner)?;
        Ok(connection)
    }

    /// Ready when [`TcpListener::try_accept`] would not block.
    pub fn poll_acceptable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.queue.lock();
        if waiting.closed || !waiting.connections.is_empty() {
            return Poll::Ready(());
        }
        waiting.wakers.register(cx.waker());
        Poll::Pending
    }

    /// How many connections may wait; those that wait already stay.
    pub fn set_backlog(&self, backlog: u64) {
        self.queue.lock().backlog = clamp_backlog(backlog);
    }

    /// The options that accepted connections inherit.
    pub fn options(&self) -> Options {
        self.queue.options()
    }

    /// Changes the options that later connections inherit.
    pub fn set_options(&self, options: Options) {
        self.queue.lock().options = options;
    }
}

/// Backlogs are clamped silently, as the kernel does.
pub(super) fn clamp_backlog(backlog: u64) -> usize {
    usize::try_from(backlog)
        .unwrap_or(MAX_BACKLOG)
        .clamp(1, MAX_BACKLOG)
}
