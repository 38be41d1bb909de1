//! `wasi:sockets/tcp` and `tcp-create-socket`.
//!
//! The streams are children of their socket in the resource table, so a guest must drop them
//! first, and a socket that goes away with its streams closed closes the connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::{tcp, tcp_create_socket};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Pollable, SocketResult, subscribe,
};

use super::NetView;
use super::convert::{code, family, wasi_family};
use super::stream::{Input, Output};
use crate::runtime::net::{Error, Options, Shutdown, TcpListener, TcpSocket};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Bind,
    Connect,
    Listen,
}

struct Socket {
    core: TcpSocket,
    started: Option<Operation>,
    listener: Option<Arc<TcpListener>>,
}

impl Socket {
    fn new(core: TcpSocket) -> Self {
        Self {
            core,
            started: None,
            listener: None,
        }
    }

    fn begin(&self) -> SocketResult<()> {
        match self.started {
            None => Ok(()),
            Some(_) => Err(ErrorCode::ConcurrencyConflict.into()),
        }
    }

    fn expect(&self, operation: Operation) -> SocketResult<()> {
        if self.started == Some(operation) {
            return Ok(());
        }
        Err(ErrorCode::NotInProgress.into())
    }
}

#[async_trait]
impl Pollable for Socket {
    async fn ready(&mut self) {
        match (self.started, &self.listener) {
            (Some(Operation::Connect), _) => {
                // The outcome stays in the socket for `finish-connect`.
                let _ = poll_fn(|cx| self.core.poll_connected(cx)).await;
            }
            (None, Some(listener)) => poll_fn(|cx| listener.poll_acceptable(cx)).await,
            (Some(Operation::Bind | Operation::Listen), _) | (None, None) => {}
        }
    }
}

type Handle = Resource<tcp::TcpSocket>;
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

fn entry(handle: &Handle) -> Resource<Socket> {
    Resource::new_borrow(handle.rep())
}

impl NetView<'_> {
    fn tcp(&mut self, handle: &Handle) -> SocketResult<&mut Socket> {
        Ok(self.table.get_mut(&entry(handle))?)
    }

    fn push_tcp(&mut self, core: TcpSocket) -> SocketResult<Handle> {
        let own = self.table.push(Socket::new(core))?;
        Ok(Resource::new_own(own.rep()))
    }

    fn push_streams(&mut self, handle: &Handle) -> SocketResult<Streams> {
        let conn = Arc::clone(self.tcp(handle)?.core.conn().map_err(code)?);
        let input: DynInputStream = Box::new(Input::new(Arc::clone(&conn)));
        let output: DynOutputStream = Box::new(Output::new(conn));
        let input = self.table.push_child(input, &entry(handle))?;
        let output = self.table.push_child(output, &entry(handle))?;
        Ok((input, output))
    }

    fn tcp_options(&mut self, handle: &Handle) -> SocketResult<Options> {
        Ok(*self.tcp(handle)?.core.options().map_err(code)?)
    }

    fn set_tcp_options(
        &mut self,
        handle: &Handle,
        change: impl FnOnce(&mut Options) -> Result<(), Error>,
    ) -> SocketResult<()> {
        Ok(self
            .tcp(handle)?
            .core
            .change_options(change)
            .map_err(code)?)
    }
}

impl tcp_create_socket::Host for NetView<'_> {
    fn create_tcp_socket(&mut self, of: IpAddressFamily) -> SocketResult<Handle> {
        let core = TcpSocket::new(self.net, self.owner, family(of)).map_err(code)?;
        self.push_tcp(core)
    }
}

impl tcp::Host for NetView<'_> {}

impl tcp::HostTcpSocket for NetView<'_> {
    async fn start_bind(
        &mut self,
        this: Handle,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.check_network(&network)?;
        let socket = self.tcp(&this)?;
        socket.begin()?;
        socket.core.bind(address.into()).map_err(code)?;
        socket.started = Some(Operation::Bind);
        Ok(())
    }

    fn finish_bind(&mut self, this: Handle) -> SocketResult<()> {
        let socket = self.tcp(&this)?;
        socket.expect(Operation::Bind)?;
        socket.started = None;
        Ok(())
    }

    fn start_connect(
        &mut self,
        this: Handle,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.check_network(&network)?;
        let socket = self.tcp(&this)?;
        socket.begin()?;
        socket.core.start_connect(address.into()).map_err(code)?;
        socket.started = Some(Operation::Connect);
        Ok(())
    }

    fn finish_connect(&mut self, this: Handle) -> SocketResult<Streams> {
        let socket = self.tcp(&this)?;
        socket.expect(Operation::Connect)?;
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(connected) = socket.core.poll_connected(&mut cx) else {
            return Err(ErrorCode::WouldBlock.into());
        };
        socket.started = None;
        connected.map_err(code)?;
        self.push_streams(&this)
    }

    async fn start_listen(&mut self, this: Handle) -> SocketResult<()> {
        let socket = self.tcp(&this)?;
        socket.begin()?;
        // 0.2 does not bind implicitly.
        if !socket.core.is_bound() {
            return Err(ErrorCode::InvalidState.into());
        }
        socket.listener = Some(socket.core.listen().map_err(code)?);
        socket.started = Some(Operation::Listen);
        Ok(())
    }

    fn finish_listen(&mut self, this: Handle) -> SocketResult<()> {
        let socket = self.tcp(&this)?;
        socket.expect(Operation::Listen)?;
        socket.started = None;
        Ok(())
    }

    fn accept(
        &mut self,
        this: Handle,
    ) -> SocketResult<(Handle, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let socket = self.tcp(&this)?;
        // It listens once that is finished.
        let (None, Some(listener)) = (socket.started, &socket.listener) else {
            return Err(ErrorCode::InvalidState.into());
        };
        let conn = listener.try_accept().map_err(code)?;
        let options = listener.options();
        let core = TcpSocket::accepted(self.net, self.owner, conn, options);
        let accepted = self.push_tcp(core)?;
        let (input, output) = self.push_streams(&accepted)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Handle) -> SocketResult<IpSocketAddress> {
        let socket = self.tcp(&this)?;
        // It is bound once that is finished.
        if socket.started == Some(Operation::Bind) {
            return Err(ErrorCode::InvalidState.into());
        }
        Ok(socket.core.local_addr().map_err(code)?.into())
    }

    fn remote_address(&mut self, this: Handle) -> SocketResult<IpSocketAddress> {
        Ok(self.tcp(&this)?.core.remote_addr().map_err(code)?.into())
    }

    fn is_listening(&mut self, this: Handle) -> wasmtime::Result<bool> {
        let socket = self.table.get(&entry(&this))?;
        Ok(socket.started.is_none() && socket.core.is_listening())
    }

    fn address_family(&mut self, this: Handle) -> wasmtime::Result<IpAddressFamily> {
        Ok(wasi_family(self.table.get(&entry(&this))?.core.family()))
    }

    fn set_listen_backlog_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        Ok(self.tcp(&this)?.core.set_backlog(value).map_err(code)?)
    }

    fn keep_alive_enabled(&mut self, this: Handle) -> SocketResult<bool> {
        Ok(self.tcp_options(&this)?.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Handle, value: bool) -> SocketResult<()> {
        self.set_tcp_options(&this, |options| {
            options.keep_alive = value;
            Ok(())
        })
    }

    fn keep_alive_idle_time(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.tcp_options(&this)?.keep_alive_idle())
    }

    fn set_keep_alive_idle_time(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_tcp_options(&this, |options| options.set_keep_alive_idle(value))
    }

    fn keep_alive_interval(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.tcp_options(&this)?.keep_alive_interval())
    }

    fn set_keep_alive_interval(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_tcp_options(&this, |options| options.set_keep_alive_interval(value))
    }

    fn keep_alive_count(&mut self, this: Handle) -> SocketResult<u32> {
        Ok(self.tcp_options(&this)?.keep_alive_count())
    }

    fn set_keep_alive_count(&mut self, this: Handle, value: u32) -> SocketResult<()> {
        self.set_tcp_options(&this, |options| options.set_keep_alive_count(value))
    }

    fn hop_limit(&mut self, this: Handle) -> SocketResult<u8> {
        Ok(self.tcp_options(&this)?.hop_limit())
    }

    fn set_hop_limit(&mut self, this: Handle, value: u8) -> SocketResult<()> {
        self.set_tcp_options(&this, |options| options.set_hop_limit(value))
    }

    fn receive_buffer_size(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.tcp_options(&this)?.receive_buffer())
    }

    fn set_receive_buffer_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_tcp_options(&this, |options| options.set_receive_buffer(value))
    }

    fn send_buffer_size(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.tcp_options(&this)?.send_buffer())
    }

    fn set_send_buffer_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_tcp_options(&this, |options| options.set_send_buffer(value))
    }

    fn subscribe(&mut self, this: Handle) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, entry(&this))
    }

    fn shutdown(&mut self, this: Handle, how: tcp::ShutdownType) -> SocketResult<()> {
        let how = match how {
            tcp::ShutdownType::Receive => Shutdown::Receive,
            tcp::ShutdownType::Send => Shutdown::Send,
            tcp::ShutdownType::Both => Shutdown::Both,
        };
        let conn = self.tcp(&this)?.core.conn();
        conn.map_err(|_| ErrorCode::InvalidState)?.shutdown(how);
        Ok(())
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Socket>::new_own(this.rep()))?;
        Ok(())
    }
}
