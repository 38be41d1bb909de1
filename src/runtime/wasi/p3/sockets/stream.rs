//! The streams of 0.3: accepted connections, received bytes, bytes to send.
//!
//! Bytes go between the rings and the guest's memory in one copy. Each byte stream reports how it
//! ended through a one-shot channel, once: when it ends by itself, or when the guest drops it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::sync::oneshot;
use wasmtime::component::{
    Destination, Resource, Source, StreamConsumer, StreamProducer, StreamResult,
};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::p3::bindings::sockets::types::{ErrorCode, TcpSocket as WasiTcpSocket};

use super::NetView;
use super::convert::code;
use super::tcp::Socket;
use crate::runtime::net::{Conn, Error, Owner, PodNet, Shutdown, TcpListener, TcpSocket};

const BUFFER: usize = 64 << 10;

type Polled = Poll<wasmtime::Result<StreamResult>>;
pub(super) type Outcome = Result<(), ErrorCode>;

/// Pending, or cancelled if the guest has asked for that.
fn not_yet(finish: bool) -> Polled {
    if finish {
        return Poll::Ready(Ok(StreamResult::Cancelled));
    }
    Poll::Pending
}

fn completed() -> Polled {
    Poll::Ready(Ok(StreamResult::Completed))
}

fn dropped() -> Polled {
    Poll::Ready(Ok(StreamResult::Dropped))
}

/// Accepted connections as sockets.
pub(super) struct Accepting<T: 'static> {
    pub(super) listener: Arc<TcpListener>,
    pub(super) net: Arc<PodNet>,
    pub(super) owner: Owner,
    pub(super) view: for<'a> fn(&'a mut T) -> NetView<'a>,
}

impl<T: 'static> StreamProducer<T> for Accepting<T> {
    type Item = Resource<WasiTcpSocket>;
    type Buffer = Option<Self::Item>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Polled {
        // No room at the destination means that only readiness is asked for.
        if destination.remaining(&mut store) == Some(0) {
            return match self.listener.poll_acceptable(cx) {
                Poll::Ready(()) => completed(),
                Poll::Pending => not_yet(finish),
            };
        }
        let conn = loop {
            match self.listener.try_accept() {
                Ok(conn) => break conn,
                Err(Error::WouldBlock) => {
                    if self.listener.poll_acceptable(cx).is_pending() {
                        return not_yet(finish);
                    }
                }
                Err(_) => return dropped(),
            }
        };
        let options = self.listener.options();
        let core = TcpSocket::accepted(&self.net, &self.owner, conn, options);
        let own = (self.view)(store.data_mut())
            .table
            .push(Socket::new(core))?;
        destination.set_buffer(Some(Resource::new_own(own.rep())));
        completed()
    }
}

/// The end of a byte stream, told once.
struct Ending(Option<oneshot::Sender<Outcome>>);

impl Ending {
    fn tell(&mut self, outcome: Outcome) {
        if let Some(sender) = self.0.take() {
            // The guest may have dropped the future.
            let _ = sender.send(outcome);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}

/// What the peer sends.
pub(super) struct Receiving {
    conn: Arc<Conn>,
    ending: Ending,
}

impl Receiving {
    pub(super) fn new(conn: Arc<Conn>, ending: oneshot::Sender<Outcome>) -> Self {
        Self {
            conn,
            ending: Ending(Some(ending)),
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.conn.shutdown(Shutdown::Receive);
    }
}

impl<T> StreamProducer<T> for Receiving {
    type Item = u8;
    type Buffer = BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        destination: Destination<'a, u8, BytesMut>,
        finish: bool,
    ) -> Polled {
        if self.conn.poll_readable(cx).is_pending() {
            return not_yet(finish);
        }
        if destination.remaining(store.as_context_mut()) == Some(0) {
            return completed();
        }
        let mut destination = destination.as_direct(store, BUFFER);
        match self.conn.try_read(destination.remaining()) {
            Ok(0) => {
                self.ending.tell(Ok(()));
                dropped()
            }
            Ok(read) => {
                destination.mark_written(read);
                completed()
            }
            // Another reader of the same connection does not exist.
            Err(Error::WouldBlock) => not_yet(finish),
            Err(error) => {
                self.ending.tell(Err(code(error)));
                dropped()
            }
        }
    }
}

/// What the guest sends.
pub(super) struct Sending {
    conn: Arc<Conn>,
    ending: Ending,
}

impl Sending {
    pub(super) fn new(conn: Arc<Conn>, ending: oneshot::Sender<Outcome>) -> Self {
        Self {
            conn,
            ending: Ending(Some(ending)),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.conn.shutdown(Shutdown::Send);
    }
}

impl<T> StreamConsumer<T> for Sending {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<T>,
        source: Source<u8>,
        finish: bool,
    ) -> Polled {
        let mut source = source.as_direct(store);
        loop {
            if self.conn.poll_writable(cx).is_pending() {
                return not_yet(finish);
            }
            // Nothing to write means that only readiness is asked for.
            if source.remaining().is_empty() {
                return completed();
            }
            match self.conn.try_write(source.remaining()) {
                Ok(written) => {
                    source.mark_read(written);
                    return completed();
                }
                // Another socket took the memory meanwhile.
                Err(Error::WouldBlock) => {}
                Err(error) => {
                    self.ending.tell(Err(code(error)));
                    return dropped();
                }
            }
        }
    }
}
