//! The receiving side of a UDP socket.
//!
//! Datagrams wait in order, each charged to the receiving pod with its bookkeeping; what does not
//! fit the socket's buffer or the pod's memory is lost, as on any network. A connected socket keeps
//! datagrams of its peer only. The kernel's delayed error of a connected socket ("the last one
//! was refused") is kept here too, because it wakes receivers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::error::Error;
use super::wakers::WakerSet;
use crate::runtime::budget::Budget;

/// Charged for each datagram besides its bytes.
const OVERHEAD: usize = 64;

struct Inbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    charged: usize,
    limit: usize,
    peer: Option<SocketAddr>,
    error: Option<Error>,
    closed: bool,
    wakers: WakerSet,
}

/// See the module.
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    budget: Arc<Budget>,
}

impl Mailbox {
    pub(super) fn new(limit: u64, budget: Arc<Budget>) -> Self {
        Self {
            inbox: Mutex::new(Inbox {
                datagrams: VecDeque::new(),
                charged: 0,
                limit: limit as usize,
                peer: None,
                error: None,
                closed: false,
                wakers: WakerSet::default(),
            }),
            budget,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a datagram, or loses it.
    pub(super) fn deliver(&self, from: SocketAddr, data: Vec<u8>) {
        let mut inbox = self.lock();
        let cost = data.capacity() + OVERHEAD;
        let unwanted = inbox.closed || inbox.peer.is_some_and(|peer| peer != from);
        if unwanted
            || inbox.charged + cost > inbox.limit
            || self.budget.charge(cost as u64).is_err()
        {
            return;
        }
        inbox.charged += cost;
        inbox.datagrams.push_back((from, data));
        let wakers = inbox.wakers.take();
        drop(inbox);
        wakers.wake();
    }

    /// The next datagram, the delayed error, or [`Error::WouldBlock`].
    pub(super) fn receive(&self) -> Result<(SocketAddr, Vec<u8>), Error> {
        let mut inbox = self.lock();
        if let Some(error) = inbox.error.take() {
            return Err(error);
        }
        if inbox.closed {
            return Err(Error::ConnectionAborted);
        }
        let (from, data) = inbox.datagrams.pop_front().ok_or(Error::WouldBlock)?;
        let cost = data.capacity() + OVERHEAD;
        inbox.charged -= cost;
        if inbox.datagrams.is_empty() {
            inbox.datagrams = VecDeque::new();
        }
        drop(inbox);
        self.budget.release(cost as u64);
        Ok((from, data))
    }

    /// Ready when [`Mailbox::receive`] would not block.
    pub(super) fn poll_receivable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inbox = self.lock();
        if inbox.closed || inbox.error.is_some() || !inbox.datagrams.is_empty() {
            return Poll::Ready(());
        }
        inbox.wakers.register(cx.waker());
        Poll::Pending
    }

    /// Keeps datagrams of one peer only, dropping what came from others; `None` keeps all.
    pub(super) fn set_peer(&self, peer: Option<SocketAddr>) {
        let mut inbox = self.lock();
        inbox.peer = peer;
        inbox.error = None;
        let Some(peer) = peer else { return };
        let mut freed = 0;
        inbox.datagrams.retain(|(from, data)| {
            let keep = *from == peer;
            if !keep {
                freed += data.capacity() + OVERHEAD;
            }
            keep
        });
        inbox.charged -= freed;
        drop(inbox);
        self.budget.release(freed as u64);
    }

    /// How many bytes may wait.
    pub(super) fn set_limit(&self, limit: u64) {
        self.lock().limit = limit as usize;
    }

    /// Leaves an error for the next operation.
    pub(super) fn set_error(&self, error: Error) {
        let mut inbox = self.lock();
        inbox.error = Some(error);
        let wakers = inbox.wakers.take();
        drop(inbox);
        wakers.wake();
    }

    /// Leaves the error of a peer that does not receive, if the socket is connected to it.
    pub(super) fn refused_by(&self, peer: SocketAddr) {
        let is_connected = self.lock().peer == Some(peer);
        if is_connected {
            self.set_error(Error::ConnectionRefused);
        }
    }

    /// The error left by an earlier operation.
    pub(super) fn take_error(&self) -> Option<Error> {
        self.lock().error.take()
    }

    /// Loses what waits and takes nothing more.
    pub(super) fn close(&self) {
        let mut inbox = self.lock();
        inbox.closed = true;
        inbox.datagrams = VecDeque::new();
        let freed = std::mem::take(&mut inbox.charged);
        let wakers = inbox.wakers.take();
        drop(inbox);
        self.budget.release(freed as u64);
        wakers.wake();
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.close();
    }
}
