//! A connection and its two ends.
//!
//! Both ends share one `Link`, two rings behind two short locks. [`Conn`] is one end and serves
//! everybody: guests by `try_*` and `poll_*` (WASI 0.1, 0.2 and 0.3), the host by `AsyncRead` and
//! `AsyncWrite` (probes, router, tunnels, hyper). Dropping an end closes it as `close(2)` does:
//! unread bytes turn the close into a reset. The end of a container that died is reset.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::Error;
use super::options::Options;
use super::outward::RealSocket;
use super::owner::{Owner, Registration};
use super::pod_net::SocketSlot;
use super::ports::PortLease;
use super::ring::Ring;
use crate::runtime::budget::Budget;

/// Which direction is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    Receive,
    Send,
    Both,
}

/// Both directions of a connection.
pub(super) struct Link {
    rings: [Mutex<Ring>; 2],
}

impl Link {
    fn ring(&self, index: usize) -> MutexGuard<'_, Ring> {
        self.rings[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change that may concern anybody who waits, and wakes them.
    fn change(&self, index: usize, change: impl FnOnce(&mut Ring)) {
        let mut ring = self.ring(index);
        change(&mut ring);
        let (readers, writers) = (ring.readers.take(), ring.writers.take());
        drop(ring);
        readers.wake();
        writers.wake();
    }

    /// Breaks the connection for both ends.
    pub(super) fn reset(&self) {
        self.change(0, Ring::reset);
        self.change(1, Ring::reset);
    }
}

/// What one end brings into a connection.
pub(super) struct End {
    pub(super) local: SocketAddr,
    /// Pays for what this end has written and the other has not read yet.
    pub(super) budget: Arc<Budget>,
}

/// One end of a connection.
pub struct Conn {
    link: Arc<Link>,
    /// Writes `rings[side]`, reads the other.
    side: usize,
    local: SocketAddr,
    peer: SocketAddr,
    registration: Option<Registration>,
    slot: Option<SocketSlot>,
    port: Option<PortLease>,
    /// What is behind it, out of the cluster.
    real: Option<RealSocket>,
}

impl Conn {
    /// A connected pair. `shown` is the address that the client believes it is connected to: the
    /// service address where the server was found through one.
    pub(super) fn pair(
        client: End,
        server: End,
        shown: SocketAddr,
        limits: [usize; 2],
    ) -> (Self, Self) {
        let link = Arc::new(Link {
            rings: [
                Mutex::new(Ring::new(limits[0], client.budget)),
                Mutex::new(Ring::new(limits[1], server.budget)),
            ],
        });
        let end = |side, local, peer| Self {
            link: Arc::clone(&link),
            side,
            local,
            peer,
            registration: None,
            slot: None,
            port: None,
            real: None,
        };
        (
            end(0, client.local, shown),
            end(1, server.local, client.local),
        )
    }

    /// Ties this end to a container: when that ends, the connection is reset.
    pub(super) fn own(&mut self, owner: &Owner) -> Result<(), Error> {
        self.registration = Some(owner.register_link(Arc::clone(&self.link))?);
        Ok(())
    }

    /// Counts this end as a socket of its pod.
    pub(super) fn occupy(&mut self, slot: SocketSlot) {
        self.slot = Some(slot);
    }

    /// Keeps the local port taken as long as this end lives.
    pub(super) fn hold(&mut self, port: PortLease) {
        self.port = Some(port);
    }

    /// Options of this end are those of a real socket too.
    pub(super) fn lead_to(&mut self, real: RealSocket) {
        self.real = Some(real);
    }

    /// Sets the options of what is behind the connection, if it is a socket.
    pub(super) fn apply(&self, options: &Options) -> Result<(), Error> {
        match &self.real {
            Some(real) => real.apply(options),
            None => Ok(()),
        }
    }

    /// This end's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Reads what is there; `Ok(0)` for a non-empty buffer is end of file.
    pub fn try_read(&self, out: &mut [u8]) -> Result<usize, Error> {
        self.receive(|ring| ring.read(out))
    }

    /// Reads at most `max` bytes into a new vector; empty is end of file.
    pub fn try_read_vec(&self, max: usize) -> Result<Vec<u8>, Error> {
        self.receive(|ring| ring.read_vec(max))
    }

    /// Copies at most `max` bytes into a new vector and leaves them; empty is end of file.
    pub fn try_peek_vec(&self, max: usize) -> Result<Vec<u8>, Error> {
        self.link.ring(1 - self.side).peek_vec(max)
    }

    fn receive<T>(&self, read: impl FnOnce(&mut Ring) -> Result<T, Error>) -> Result<T, Error> {
        let mut ring = self.link.ring(1 - self.side);
        let result = read(&mut ring);
        if result.is_ok() && ring.should_wake_writers() {
            let writers = ring.writers.take();
            drop(ring);
            writers.wake();
        }
        result
    }

    /// Bytes that can be read at once.
    pub fn readable_bytes(&self) -> usize {
        self.link.ring(1 - self.side).len()
    }

    /// Writes what fits.
    pub fn try_write(&self, data: &[u8]) -> Result<usize, Error> {
        let mut ring = self.link.ring(self.side);
        let written = ring.write(data)?;
        let readers = ring.readers.take();
        drop(ring);
        readers.wake();
        Ok(written)
    }

    /// Bytes that a write may bring now; zero would block.
    pub fn writable_bytes(&self) -> Result<usize, Error> {
        self.link.ring(self.side).space()
    }

    /// Ready when a read would not block.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ring = self.link.ring(1 - self.side);
        if ring.is_readable() {
            return Poll::Ready(());
        }
        ring.readers.register(cx.waker());
        Poll::Pending
    }

    /// Ready when a write would not block.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ring = self.link.ring(self.side);
        if ring.is_writable() {
            return Poll::Ready(());
        }
        ring.writers.register(cx.waker());
        Poll::Pending
    }

    /// Ready when the peer is gone and will never read again.
    pub fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ring = self.link.ring(self.side);
        if ring.is_abandoned() {
            return Poll::Ready(());
        }
        ring.writers.register(cx.waker());
        Poll::Pending
    }

    /// Ends one direction or both; what was written before still arrives.
    pub fn shutdown(&self, how: Shutdown) {
        if matches!(how, Shutdown::Send | Shutdown::Both) {
            self.link.change(self.side, Ring::finish);
        }
        if matches!(how, Shutdown::Receive | Shutdown::Both) {
            self.link.change(1 - self.side, Ring::discard);
        }
    }

    /// Breaks the connection; both ends see a reset.
    pub fn reset(&self) {
        self.link.reset();
    }

    fn close(&self) {
        let unread = self.link.ring(1 - self.side).len() > 0;
        let end: fn(&mut Ring) = if unread { Ring::reset } else { Ring::finish };
        self.link.change(self.side, end);
        self.link.change(1 - self.side, |ring| {
            ring.abandon();
            if unread {
                ring.reset();
            }
        });
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.close();
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_read(out.initialize_unfilled()) {
                Ok(read) => {
                    out.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(Error::WouldBlock) => ready!(self.poll_readable(cx)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(data) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(Error::WouldBlock) => ready!(self.poll_writable(cx)),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown(Shutdown::Send);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::owner::Endpoint;
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // Two ends, the link between them, and an entry for each in its owner's registry, whose
        // table may be half empty.
        let entry = 2 * (size_of::<u64>() + size_of::<Endpoint>() + 1);
        let total = size_of::<Link>() + 2 * size_of::<Conn>() + 2 * entry;
        assert!(total <= 1024, "{total} bytes");
    }
}
