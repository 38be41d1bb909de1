//! `tcp-socket` of `wasi:sockets/types` 0.3.

use std::future::poll_fn;
use std::iter;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::oneshot;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};
use wasmtime_wasi::p3::bindings::sockets::types::{
    self, ErrorCode, IpAddressFamily, IpSocketAddress,
};
use wasmtime_wasi::p3::sockets::{SocketError, SocketResult};

use super::convert::{code, fail, family, wasi_family};
use super::stream::{Accepting, Outcome, Receiving, Sending};
use super::{HasNet, NetView};
use crate::runtime::net::{Conn, Error, Options, TcpSocket};

/// A socket in the resource table. Each direction may be taken once.
pub(super) struct Socket {
    core: TcpSocket,
    sending: bool,
    receiving: bool,
}

impl Socket {
    pub(super) fn new(core: TcpSocket) -> Self {
        Self {
            core,
            sending: false,
            receiving: false,
        }
    }

    fn take(&mut self, direction: impl FnOnce(&mut Self) -> &mut bool) -> Result<Arc<Conn>, Error> {
        let conn = Arc::clone(self.core.conn()?);
        if std::mem::replace(direction(self), true) {
            return Err(Error::InvalidState);
        }
        Ok(conn)
    }
}

type Handle = Resource<types::TcpSocket>;

fn entry(handle: &Handle) -> Resource<Socket> {
    Resource::new_borrow(handle.rep())
}

impl NetView<'_> {
    fn tcp3(&mut self, handle: &Handle) -> SocketResult<&mut Socket> {
        self.table
            .get_mut(&entry(handle))
            .map_err(SocketError::trap)
    }

    fn tcp3_options(&mut self, handle: &Handle) -> SocketResult<Options> {
        Ok(*self.tcp3(handle)?.core.options().map_err(fail)?)
    }

    fn set_tcp3_options(
        &mut self,
        handle: &Handle,
        change: impl FnOnce(&mut Options) -> Result<(), Error>,
    ) -> SocketResult<()> {
        self.tcp3(handle)?.core.change_options(change).map_err(fail)
    }
}

impl<T: Send + 'static> types::HostTcpSocketWithStore<T> for HasNet {
    async fn connect(
        accessor: &Accessor<T, Self>,
        this: Handle,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        accessor.with(|mut store| {
            let mut view = store.get();
            let socket = view.tcp3(&this)?;
            socket.core.start_connect(address.into()).map_err(fail)
        })?;
        poll_fn(|cx| {
            accessor.with(|mut store| match store.get().tcp3(&this) {
                Ok(socket) => socket.core.poll_connected(cx).map_err(fail),
                Err(error) => Poll::Ready(Err(error)),
            })
        })
        .await
    }

    async fn listen(
        mut store: Access<'_, T, Self>,
        this: Handle,
    ) -> SocketResult<StreamReader<Handle>> {
        let getter = store.getter();
        let mut view = store.get();
        let socket = &mut view.tcp3(&this)?.core;
        let accepting = Accepting {
            listener: socket.listen().map_err(fail)?,
            net: Arc::clone(socket.net()),
            owner: socket.owner().clone(),
            view: getter,
        };
        StreamReader::new(&mut store, accepting).map_err(SocketError::trap)
    }

    fn send(
        mut store: Access<'_, T, Self>,
        this: Handle,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Outcome>> {
        let (ending, ended) = oneshot::channel();
        match taken(&mut store, &this, |socket| &mut socket.sending)? {
            Ok(conn) => data.pipe(&mut store, Sending::new(conn, ending))?,
            Err(error) => {
                data.close(&mut store)?;
                let _ = ending.send(Err(error));
            }
        }
        FutureReader::new(&mut store, ended)
    }

    fn receive(
        mut store: Access<T, Self>,
        this: Handle,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Outcome>)> {
        let (ending, ended) = oneshot::channel();
        let data = match taken(&mut store, &this, |socket| &mut socket.receiving)? {
            Ok(conn) => StreamReader::new(&mut store, Receiving::new(conn, ending))?,
            Err(error) => {
                let _ = ending.send(Err(error));
                StreamReader::new(&mut store, iter::empty())?
            }
        };
        Ok((data, FutureReader::new(&mut store, ended)?))
    }
}

/// Takes one direction of a connection, or says why that cannot be.
fn taken<T: 'static>(
    store: &mut Access<'_, T, HasNet>,
    this: &Handle,
    direction: impl FnOnce(&mut Socket) -> &mut bool,
) -> wasmtime::Result<Result<Arc<Conn>, ErrorCode>> {
    let view = store.get();
    let socket = view.table.get_mut(&entry(this))?;
    Ok(socket.take(direction).map_err(code))
}

impl types::HostTcpSocket for NetView<'_> {
    fn create(&mut self, of: IpAddressFamily) -> SocketResult<Handle> {
        let core = TcpSocket::new(self.net, self.owner, family(of)).map_err(fail)?;
        let own = self
            .table
            .push(Socket::new(core))
            .map_err(SocketError::trap)?;
        Ok(Resource::new_own(own.rep()))
    }

    async fn bind(&mut self, this: Handle, address: IpSocketAddress) -> SocketResult<()> {
        self.tcp3(&this)?.core.bind(address.into()).map_err(fail)
    }

    fn get_local_address(&mut self, this: Handle) -> SocketResult<IpSocketAddress> {
        Ok(self.tcp3(&this)?.core.local_addr().map_err(fail)?.into())
    }

    fn get_remote_address(&mut self, this: Handle) -> SocketResult<IpSocketAddress> {
        Ok(self.tcp3(&this)?.core.remote_addr().map_err(fail)?.into())
    }

    fn get_is_listening(&mut self, this: Handle) -> wasmtime::Result<bool> {
        Ok(self.table.get(&entry(&this))?.core.is_listening())
    }

    fn get_address_family(&mut self, this: Handle) -> wasmtime::Result<IpAddressFamily> {
        Ok(wasi_family(self.table.get(&entry(&this))?.core.family()))
    }

    fn set_listen_backlog_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.tcp3(&this)?.core.set_backlog(value).map_err(fail)
    }

    fn get_keep_alive_enabled(&mut self, this: Handle) -> SocketResult<bool> {
        Ok(self.tcp3_options(&this)?.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Handle, value: bool) -> SocketResult<()> {
        self.set_tcp3_options(&this, |options| {
            options.keep_alive = value;
            Ok(())
        })
    }

    fn get_keep_alive_idle_time(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.tcp3_options(&this)?.keep_alive_idle())
    }

    fn set_keep_alive_idle_time(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_tcp3_options(&this, |options| options.set_keep_alive_idle(value))
    }

    fn get_keep_alive_interval(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.tcp3_options(&this)?.keep_alive_interval())
    }

    fn set_keep_alive_interval(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_tcp3_options(&this, |options| options.set_keep_alive_interval(value))
    }

    fn get_keep_alive_count(&mut self, this: Handle) -> SocketResult<u32> {
        Ok(self.tcp3_options(&this)?.keep_alive_count())
    }

    fn set_keep_alive_count(&mut self, this: Handle, value: u32) -> SocketResult<()> {
        self.set_tcp3_options(&this, |options| options.set_keep_alive_count(value))
    }

    fn get_hop_limit(&mut self, this: Handle) -> SocketResult<u8> {
        Ok(self.tcp3_options(&this)?.hop_limit())
    }

    fn set_hop_limit(&mut self, this: Handle, value: u8) -> SocketResult<()> {
        self.set_tcp3_options(&this, |options| options.set_hop_limit(value))
    }

    fn get_receive_buffer_size(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.tcp3_options(&this)?.receive_buffer())
    }

    fn set_receive_buffer_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_tcp3_options(&this, |options| options.set_receive_buffer(value))
    }

    fn get_send_buffer_size(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.tcp3_options(&this)?.send_buffer())
    }

    fn set_send_buffer_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_tcp3_options(&this, |options| options.set_send_buffer(value))
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Socket>::new_own(this.rep()))?;
        Ok(())
    }
}
