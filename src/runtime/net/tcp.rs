//! A TCP socket as a guest sees it, before and after it is a connection or a listener.
//!
//! ```text
//!  Unbound ──bind──▶ Bound ──listen──▶ Listening
//!     │                │
//!     └────connect─────┴──▶ Connecting ──▶ Connected
//!                               └────────▶ Closed(error)
//! ```
//!
//! Which error comes from which state follows wasmtime-wasi's own socket, which WASI's test suite
//! was written against. WASI 0.2 and 0.3 differ only in how they wait.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::conn::Conn;
use super::dialer::Connect;
use super::error::Error;
use super::listen::{DEFAULT_BACKLOG, TcpListener};
use super::options::{Family, Options, is_remote, is_unicast};
use super::owner::Owner;
use super::pod_net::{PodNet, SocketSlot};
use super::ports::PortLease;
use crate::runtime::spec::Protocol;

enum State {
    Unbound,
    Bound(PortLease),
    /// With the address that it was bound to before.
    Connecting(Connect, Option<SocketAddr>),
    Connected(Arc<Conn>),
    Listening(Arc<TcpListener>),
    Closed(Error),
}

/// See the module.
pub struct TcpSocket {
    net: Arc<PodNet>,
    owner: Owner,
    family: Family,
    state: State,
    backlog: u64,
    options: Options,
    /// Moves to the connection or the listener, which may outlive this handle. `None` for an accepted
    /// socket, whose connection was counted when it arrived.
    slot: Option<SocketSlot>,
}

impl TcpSocket {
    /// A new socket, counted against the pod's limit.
    pub fn new(net: &Arc<PodNet>, owner: &Owner, family: Family) -> Result<Self, Error> {
        let slot = net.socket_slot()?;
        Ok(Self {
            net: Arc::clone(net),
            owner: owner.clone(),
            family,
            state: State::Unbound,
            backlog: DEFAULT_BACKLOG as u64,
            options: Options::default(),
            slot: Some(slot),
        })
    }

    /// The socket of an accepted connection; it inherits the listener's options.
    pub fn accepted(net: &Arc<PodNet>, owner: &Owner, conn: Conn, options: Options) -> Self {
        Self {
            net: Arc::clone(net),
            owner: owner.clone(),
            family: Family::of(conn.local_addr().ip()),
            state: State::Connected(Arc::new(conn)),
            backlog: DEFAULT_BACKLOG as u64,
            options,
            slot: None,
        }
    }

    /// Takes a local address.
    pub fn bind(&mut self, addr: SocketAddr) -> Result<(), Error> {
        let State::Unbound = self.state else {
            return Err(Error::InvalidState);
        };
        if !is_unicast(addr.ip()) || !self.family.takes(addr.ip()) {
            return Err(Error::InvalidArgument);
        }
        let lease = self.net.bind(Protocol::Tcp, addr, &self.owner)?;
        self.state = State::Bound(lease);
        Ok(())
    }

    /// Begins to connect; see [`TcpSocket::poll_connected`].
    pub fn start_connect(&mut self, to: SocketAddr) -> Result<(), Error> {
        if !matches!(self.state, State::Unbound | State::Bound(_)) {
            return Err(Error::InvalidState);
        }
        if !is_unicast(to.ip()) || !is_remote(to) || !self.family.takes(to.ip()) {
            return Err(Error::InvalidArgument);
        }
        let lease = match std::mem::replace(&mut self.state, State::Unbound) {
            State::Bound(lease) => Some(lease),
            _ => None,
        };
        let bound = lease.as_ref().map(|lease| lease.addr);
        let connect = self.net.connect_from(&self.owner, lease, self.options, to);
        self.state = State::Connecting(connect, bound);
        Ok(())
    }

    /// Ready when the attempt has ended; a failed one leaves the socket closed with its error.
    pub fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let result = match &mut self.state {
            State::Connecting(connect, _) => ready!(Pin::new(connect).poll(cx)),
            State::Connected(_) => return Poll::Ready(Ok(())),
            State::Closed(error) => return Poll::Ready(Err(*error)),
            State::Unbound | State::Bound(_) | State::Listening(_) => {
                return Poll::Ready(Err(Error::InvalidState));
            }
        };
        Poll::Ready(match result {
            Ok(mut conn) => {
                if let Some(slot) = self.slot.take() {
                    conn.occupy(slot);
                }
                self.state = State::Connected(Arc::new(conn));
                Ok(())
            }
            Err(error) => {
                self.state = State::Closed(error);
                Err(error)
            }
        })
    }

    /// Begins to listen; an unbound socket takes a free port of the wildcard address first.
    pub fn listen(&mut self) -> Result<Arc<TcpListener>, Error> {
        if !matches!(self.state, State::Unbound | State::Bound(_)) {
            return Err(Error::InvalidState);
        }
        let lease = match std::mem::replace(&mut self.state, State::Unbound) {
            State::Bound(lease) => lease,
            _ => self
                .net
                .bind(Protocol::Tcp, self.family.wildcard(), &self.owner)?,
        };
        let mut listener = self
            .net
            .listen(lease, &self.owner, self.backlog, self.options)?;
        if let Some(slot) = self.slot.take() {
            listener.occupy(slot);
        }
        let listener = Arc::new(listener);
        self.state = State::Listening(Arc::clone(&listener));
        Ok(listener)
    }

    /// Whether a local address is taken.
    pub fn is_bound(&self) -> bool {
        !matches!(self.state, State::Unbound)
    }

    /// Whether the socket listens.
    pub fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }

    /// The connection, once there is one.
    pub fn conn(&self) -> Result<&Arc<Conn>, Error> {
        match &self.state {
            State::Connected(conn) => Ok(conn),
            State::Closed(error) => Err(*error),
            State::Unbound | State::Bound(_) | State::Connecting(..) | State::Listening(_) => {
                Err(Error::InvalidState)
            }
        }
    }

    /// This socket's address.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        match &self.state {
            State::Bound(lease) => Ok(lease.addr),
            State::Connected(conn) => Ok(conn.local_addr()),
            State::Listening(listener) => Ok(listener.local_addr()),
            State::Connecting(_, Some(bound)) => Ok(*bound),
            State::Unbound | State::Connecting(_, None) => Err(Error::InvalidState),
            State::Closed(error) => Err(*error),
        }
    }

    /// The other end's address.
    pub fn remote_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.conn()?.peer_addr())
    }

    /// The family it was made for.
    pub fn family(&self) -> Family {
        self.family
    }

    /// How many connections may wait to be accepted.
    pub fn set_backlog(&mut self, backlog: u64) -> Result<(), Error> {
        if backlog == 0 {
            return Err(Error::InvalidArgument);
        }
        match &self.state {
            State::Unbound | State::Bound(_) => self.backlog = backlog,
            State::Listening(listener) => listener.set_backlog(backlog),
            State::Connecting(..) | State::Connected(_) => return Err(Error::InvalidState),
            State::Closed(error) => return Err(*error),
        }
        Ok(())
    }

    /// The options; there are none while connecting and after a failed connect.
    pub fn options(&self) -> Result<&Options, Error> {
        self.has_options()?;
        Ok(&self.options)
    }

    /// Changes the options, and those that accepted sockets will inherit.
    pub fn change_options(
        &mut self,
        change: impl FnOnce(&mut Options) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.has_options()?;
        let mut options = self.options;
        change(&mut options)?;
        match &self.state {
            State::Listening(listener) => listener.set_options(options),
            State::Connected(conn) => conn.apply(&options)?,
            State::Unbound | State::Bound(_) | State::Connecting(..) | State::Closed(_) => {}
        }
        self.options = options;
        Ok(())
    }

    fn has_options(&self) -> Result<(), Error> {
        match &self.state {
            State::Unbound | State::Bound(_) | State::Connected(_) | State::Listening(_) => Ok(()),
            State::Connecting(..) => Err(Error::InvalidState),
            State::Closed(error) => Err(*error),
        }
    }

    /// The pod it belongs to.
    pub fn net(&self) -> &Arc<PodNet> {
        &self.net
    }

    /// The container it belongs to.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }
}

#[cfg(test)]
mod states;
#[cfg(test)]
mod tests;
