//! `wasi:sockets/udp` and `udp-create-socket`.
//!
//! The datagram streams share the socket; sending never waits, because a datagram that finds no
//! room is lost, so `check-send` always permits.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::{udp, udp_create_socket};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, SocketResult, subscribe};

use super::NetView;
use super::convert::{code, family, wasi_family};
use crate::runtime::net::{Error, Options, UdpSocket};

/// Datagrams of one call.
const MAX_DATAGRAMS: usize = 16;
/// Bytes of one `receive`, give or take its last datagram.
const MAX_BYTES: usize = 64 << 10;

#[derive(Clone)]
struct Shared(Arc<Mutex<UdpSocket>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, UdpSocket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Socket {
    core: Shared,
    binding: bool,
}

struct Incoming(Shared);

struct Outgoing {
    core: Shared,
    permit: usize,
}

#[async_trait]
impl Pollable for Socket {
    /// No operation of the socket itself waits.
    async fn ready(&mut self) {}
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.lock().poll_receivable(cx)).await;
    }
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {}
}

type Handle = Resource<udp::UdpSocket>;
type IncomingHandle = Resource<udp::IncomingDatagramStream>;
type OutgoingHandle = Resource<udp::OutgoingDatagramStream>;

fn entry(handle: &Handle) -> Resource<Socket> {
    Resource::new_borrow(handle.rep())
}

fn incoming(handle: &IncomingHandle) -> Resource<Incoming> {
    Resource::new_borrow(handle.rep())
}

fn outgoing(handle: &OutgoingHandle) -> Resource<Outgoing> {
    Resource::new_borrow(handle.rep())
}

impl NetView<'_> {
    fn udp(&self, handle: &Handle) -> SocketResult<MutexGuard<'_, UdpSocket>> {
        Ok(self.table.get(&entry(handle))?.core.lock())
    }

    fn set_udp_options(
        &mut self,
        handle: &Handle,
        change: impl FnOnce(&mut Options) -> Result<(), Error>,
    ) -> SocketResult<()> {
        Ok(self.udp(handle)?.change_options(change).map_err(code)?)
    }
}

impl udp_create_socket::Host for NetView<'_> {
    async fn create_udp_socket(&mut self, of: IpAddressFamily) -> SocketResult<Handle> {
        let core = UdpSocket::new(self.net, self.owner, family(of)).map_err(code)?;
        let own = self.table.push(Socket {
            core: Shared(Arc::new(Mutex::new(core))),
            binding: false,
        })?;
        Ok(Resource::new_own(own.rep()))
    }
}

impl udp::Host for NetView<'_> {}

impl udp::HostUdpSocket for NetView<'_> {
    async fn start_bind(
        &mut self,
        this: Handle,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.check_network(&network)?;
        let socket = self.table.get_mut(&entry(&this))?;
        if socket.binding {
            return Err(ErrorCode::ConcurrencyConflict.into());
        }
        socket.core.lock().bind(address.into()).map_err(code)?;
        socket.binding = true;
        Ok(())
    }

    fn finish_bind(&mut self, this: Handle) -> SocketResult<()> {
        let socket = self.table.get_mut(&entry(&this))?;
        if !std::mem::take(&mut socket.binding) {
            return Err(ErrorCode::NotInProgress.into());
        }
        Ok(())
    }

    async fn stream(
        &mut self,
        this: Handle,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(IncomingHandle, OutgoingHandle)> {
        let has_streams = self
            .table
            .iter_children(&entry(&this))?
            .any(|child| child.is::<Incoming>() || child.is::<Outgoing>());
        if has_streams {
            return Err(SocketError::trap(wasmtime::format_err!(
                "the previous datagram streams are not dropped yet"
            )));
        }
        let Socket { core, binding } = self.table.get(&entry(&this))?;
        let (core, binding) = (core.clone(), *binding);
        let mut socket = core.lock();
        // 0.2 does not bind implicitly.
        if binding || !socket.is_bound() {
            return Err(ErrorCode::InvalidState.into());
        }
        if let Some(remote) = remote {
            socket.connect(remote.into()).map_err(code)?;
        } else if socket.remote_addr().is_ok() {
            socket.disconnect().map_err(code)?;
        }
        drop(socket);
        let receiver = Incoming(core.clone());
        let sender = Outgoing { core, permit: 0 };
        let receiver = self.table.push_child(receiver, &entry(&this))?;
        let sender = self.table.push_child(sender, &entry(&this))?;
        Ok((
            Resource::new_own(receiver.rep()),
            Resource::new_own(sender.rep()),
        ))
    }

    fn local_address(&mut self, this: Handle) -> SocketResult<IpSocketAddress> {
        if self.table.get(&entry(&this))?.binding {
            return Err(ErrorCode::InvalidState.into());
        }
        Ok(self.udp(&this)?.local_addr().map_err(code)?.into())
    }

    fn remote_address(&mut self, this: Handle) -> SocketResult<IpSocketAddress> {
        Ok(self.udp(&this)?.remote_addr().map_err(code)?.into())
    }

    fn address_family(&mut self, this: Handle) -> wasmtime::Result<IpAddressFamily> {
        let socket = self.table.get(&entry(&this))?;
        Ok(wasi_family(socket.core.lock().family()))
    }

    fn unicast_hop_limit(&mut self, this: Handle) -> SocketResult<u8> {
        Ok(self.udp(&this)?.options().hop_limit())
    }

    fn set_unicast_hop_limit(&mut self, this: Handle, value: u8) -> SocketResult<()> {
        self.set_udp_options(&this, |options| options.set_hop_limit(value))
    }

    fn receive_buffer_size(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.udp(&this)?.options().receive_buffer())
    }

    fn set_receive_buffer_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_udp_options(&this, |options| options.set_receive_buffer(value))
    }

    fn send_buffer_size(&mut self, this: Handle) -> SocketResult<u64> {
        Ok(self.udp(&this)?.options().send_buffer())
    }

    fn set_send_buffer_size(&mut self, this: Handle, value: u64) -> SocketResult<()> {
        self.set_udp_options(&this, |options| options.set_send_buffer(value))
    }

    fn subscribe(&mut self, this: Handle) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, entry(&this))
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Socket>::new_own(this.rep()))?;
        Ok(())
    }
}

impl udp::HostIncomingDatagramStream for NetView<'_> {
    fn receive(
        &mut self,
        this: IncomingHandle,
        max_results: u64,
    ) -> SocketResult<Vec<udp::IncomingDatagram>> {
        let socket = self.table.get(&incoming(&this))?.0.lock();
        let max = usize::try_from(max_results).map_or(MAX_DATAGRAMS, |max| max.min(MAX_DATAGRAMS));
        let mut datagrams = Vec::new();
        let mut bytes = 0;
        while datagrams.len() < max && bytes < MAX_BYTES {
            match socket.receive() {
                Ok((data, from)) => {
                    bytes += data.len() + 1;
                    datagrams.push(udp::IncomingDatagram {
                        data,
                        remote_address: from.into(),
                    });
                }
                Err(Error::WouldBlock) => break,
                Err(_) if !datagrams.is_empty() => break,
                Err(error) => return Err(code(error).into()),
            }
        }
        Ok(datagrams)
    }

    fn subscribe(&mut self, this: IncomingHandle) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, incoming(&this))
    }

    fn drop(&mut self, this: IncomingHandle) -> wasmtime::Result<()> {
        self.table
            .delete(Resource::<Incoming>::new_own(this.rep()))?;
        Ok(())
    }
}

impl udp::HostOutgoingDatagramStream for NetView<'_> {
    fn check_send(&mut self, this: OutgoingHandle) -> SocketResult<u64> {
        self.table.get_mut(&outgoing(&this))?.permit = MAX_DATAGRAMS;
        Ok(MAX_DATAGRAMS as u64)
    }

    fn send(
        &mut self,
        this: OutgoingHandle,
        datagrams: Vec<udp::OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let stream = self.table.get_mut(&outgoing(&this))?;
        if datagrams.is_empty() {
            return Ok(0);
        }
        if datagrams.len() > std::mem::take(&mut stream.permit) {
            return Err(SocketError::trap(wasmtime::format_err!(
                "send of {} datagrams exceeds the permit",
                datagrams.len()
            )));
        }
        let mut socket = stream.core.lock();
        let mut sent = 0;
        for datagram in datagrams {
            let to = datagram.remote_address.map(SocketAddr::from);
            match socket.send(datagram.data, to) {
                Ok(()) => sent += 1,
                // 0.2: once one datagram is sent, the call does not fail.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(code(error).into()),
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, this: OutgoingHandle) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, outgoing(&this))
    }

    async fn drop(&mut self, this: OutgoingHandle) -> wasmtime::Result<()> {
        self.table
            .delete(Resource::<Outgoing>::new_own(this.rep()))?;
        Ok(())
    }
}
