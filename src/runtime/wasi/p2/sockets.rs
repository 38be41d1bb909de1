//! `wasi:sockets` 0.2 on the pod's network.
//!
//! wasmtime-wasi's own generated traits are implemented for [`NetView`], so no WIT is copied here.
//! Those traits name wasmtime-wasi's resource types; a resource handle is only a number with a
//! phantom type, so ours are stored in the table and the handles re-typed by their number. States
//! and errors are the core's; what 0.2 adds is its two-step operations (`start-…`, `finish-…`).
//!
//! `instance-network` stays wasmtime-wasi's: the `network` resource carries nothing, it only has
//! to be valid.

mod convert;
mod lookup;
#[cfg(test)]
mod states;
mod stream;
mod tcp;
mod udp;

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, Network};
use wasmtime_wasi::p2::bindings::sockets::{
    ip_name_lookup, tcp as tcp_face, tcp_create_socket, udp as udp_face, udp_create_socket,
};
use wasmtime_wasi::p2::{SocketError, SocketResult};

use crate::runtime::net::{Owner, PodNet};

/// What the socket interfaces see of a container: 0.2 and 0.3 alike.
pub struct NetView<'a> {
    pub net: &'a Arc<PodNet>,
    pub owner: &'a Owner,
    pub table: &'a mut ResourceTable,
}

/// Marks [`NetView`] as the data of the socket interfaces.
pub struct HasNet;

impl HasData for HasNet {
    type Data<'a> = NetView<'a>;
}

/// Adds every interface of `wasi:sockets` 0.2 but `instance-network`.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> NetView<'_>,
) -> wasmtime::Result<()> {
    network::add_to_linker::<T, HasNet>(linker, &network::LinkOptions::default(), view)?;
    tcp_face::add_to_linker::<T, HasNet>(linker, view)?;
    tcp_create_socket::add_to_linker::<T, HasNet>(linker, view)?;
    udp_face::add_to_linker::<T, HasNet>(linker, view)?;
    udp_create_socket::add_to_linker::<T, HasNet>(linker, view)?;
    ip_name_lookup::add_to_linker::<T, HasNet>(linker, view)
}

impl NetView<'_> {
    /// The network handle is the capability to use a method; a guest must hold a real one.
    fn check_network(&self, network: &Resource<Network>) -> SocketResult<()> {
        self.table.get(network)?;
        Ok(())
    }
}

impl network::Host for NetView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref().copied())
    }
}

impl network::HostNetwork for NetView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}
