//! `wasi:sockets/ip-name-lookup`.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::vec;

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketResult, subscribe};

use super::NetView;
use super::convert::code;
use crate::runtime::net::{Error, Lookup};

enum Addresses {
    Asking(Lookup),
    Answered(Result<vec::IntoIter<IpAddr>, Error>),
}

impl Addresses {
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<&mut Result<vec::IntoIter<IpAddr>, Error>> {
        if let Self::Asking(lookup) = self {
            let Poll::Ready(answer) = Pin::new(lookup).poll(cx) else {
                return Poll::Pending;
            };
            *self = Self::Answered(answer.map(Vec::into_iter));
        }
        match self {
            Self::Asking(_) => Poll::Pending,
            Self::Answered(answer) => Poll::Ready(answer),
        }
    }
}

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_answer(cx).map(|_| ())).await;
    }
}

type Handle = Resource<ResolveAddressStream>;

fn entry(handle: &Handle) -> Resource<Addresses> {
    Resource::new_borrow(handle.rep())
}

impl ip_name_lookup::Host for NetView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Handle> {
        self.check_network(&network)?;
        let mut addresses = Addresses::Asking(self.net.lookup(&name));
        let mut cx = Context::from_waker(Waker::noop());
        // What is wrong with the question is told at once, what with the answer by the stream.
        if let Poll::Ready(Err(Error::InvalidArgument)) = addresses.poll_answer(&mut cx) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let own = self.table.push(addresses)?;
        Ok(Resource::new_own(own.rep()))
    }
}

impl ip_name_lookup::HostResolveAddressStream for NetView<'_> {
    fn resolve_next_address(&mut self, this: Handle) -> SocketResult<Option<IpAddress>> {
        let addresses = self.table.get_mut(&entry(&this))?;
        let mut cx = Context::from_waker(Waker::noop());
        match addresses.poll_answer(&mut cx) {
            Poll::Pending => Err(ErrorCode::WouldBlock.into()),
            Poll::Ready(Ok(answer)) => Ok(answer.next().map(IpAddress::from)),
            Poll::Ready(Err(error)) => Err(code(*error).into()),
        }
    }

    fn subscribe(&mut self, this: Handle) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, entry(&this))
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        self.table
            .delete(Resource::<Addresses>::new_own(this.rep()))?;
        Ok(())
    }
}
