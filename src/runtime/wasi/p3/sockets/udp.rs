//! `udp-socket` of `wasi:sockets/types` 0.3.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use wasmtime::component::{Accessor, Resource};
use wasmtime_wasi::p3::bindings::sockets::types::{self, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p3::sockets::{SocketError, SocketResult};

use super::convert::{fail, family, wasi_family};
use super::{HasNet, NetView};
use crate::runtime::net::{Error, Options, UdpSocket};

/// A socket in the resource table.
struct Socket(UdpSocket);

impl Socket {
    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Result<(Vec<u8>, SocketAddr), Error>> {
        loop {
            match self.0.receive() {
                Err(Error::WouldBlock) => {
                    if self.0.poll_receivable(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                received => return Poll::Ready(received),
            }
        }
    }
}

type Handle = Resource<types::UdpSocket>;

fn entry(handle: &Handle) -> Resource<Socket> {
    Resource::new_borrow(handle.rep())
}

impl NetView<'_> {
    fn udp3(&mut self, handle: &Handle) -> SocketResult<&mut Socket> {
        self.table
            .get_mut(&entry(handle))
            .map_err(SocketError::trap)
    }

    fn set_udp3_options(
        &mut self,
        handle: &Handle,
        change: impl FnOnce(&mut Options) -> Result<(), Error>,
    ) -> SocketResult<()> {
        self.udp3(handle)?.0.change_options(change).map_err(fail)
    }
}

impl<T> types::HostUdpSocketWithStore<T> for HasNet {
    async fn send(
        accessor: &Accessor<T, Self>,
        this: Handle,
        data: Vec<u8>,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<()> {
        accessor.with(|mut store| {
            let mut view = store.get();
            let socket = view.udp3(&this)?;
            socket.0.send(data, remote.map(Into::into)).map_err(fail)
        })
    }

    async fn receive(
        accessor: &Accessor<T, Self>,
        this: Handle,
    ) -> SocketResult<(Vec<u8>, IpSocketAddress)> {
        let (data, from) = poll_fn(|cx| {
            accessor.with(|mut store| match store.get().udp3(&this) {
                Ok(socket) => socket.poll_receive(cx).map_err(fail),
                Err(error) => Poll::Ready(Err(error)),
            })
        })
        .await?;
        Ok((data, from.into()))
    }
}

impl types::HostUdpSocket for NetView<'_> {
    async fn create(&mut self, of: IpAddressFamily) -> SocketResult<Handle> {
        let core = UdpSocket::new(self.net, self.owner, family(of)).map_err(fail)?;
        let own = self.table.push(Socket(core)).map_err(SocketError::trap)?;
        Ok(Resource::new_own(own.rep()))
    }

    async fn bind(&mut self, this: Handle, address: IpSocketAddress) -> SocketResult<()> {
        self.udp3(&this)?.0.bind(address.into()).map_err(fail)
    }

    async fn connect(&mut self, this: Handle, address: IpSocketAddress) -> SocketResult<()> {
        self.udp3(&this)?.0.connect(address.into()).map_err(fail)
    }

    fn disconnect(&mut self, this: Handle) -> SocketResult<()> {
        self.udp3(&this)?.0.disconnect().map_err(fail)
    }

    fn get_local_address(&mut self, this: Handle) -> SocketResult<IpSocketAddress> {
        Ok(self.udp3(&this)?.0.local_addr().map_err(fail)?.into())
    }

    fn get_remote_address(&mut self, this: Handle) -> SocketResult<IpSocketAddress> {
        Ok(self.udp3(&this)?.0.remote_addr().map_err(fail)?.into())
    }

    fn get_address_family(&mut self, this: Handle) -> wasmtime::Result<IpAddressFamily> {
        Ok(wasi_family(self.table.get(&entry(&this))?.0.family()))
    }

    fn get_unicast_hop_limit(&mut self, this: Handle) -> SocketResult<u8> {
        Ok(self.udp3(&this)?.0.options().hop_limit())
    }

    fn set_unicast_hop_limit(&mut self, this: Handle, value: u8) -> SocketResult<()> {
        self.set_udp3_options(&this, |options| options.set_hop_limit(value))
    }

    fn get_receive_buffer_size(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.udp3(&this)?.0.options().receive_buffer())
    }

    fn set_receive_buffer_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_udp3_options(&this, |options| options.set_receive_buffer(value))
    }

    fn get_send_buffer_size(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.udp3(&this)?.0.options().send_buffer())
    }

    fn set_send_buffer_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_udp3_options(&this, |options| options.set_send_buffer(value))
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Socket>::new_own(this.rep()))?;
        Ok(())
    }
}
