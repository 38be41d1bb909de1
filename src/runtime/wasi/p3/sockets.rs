//! `wasi:sockets` 0.3 on the pod's network.
//!
//! The technique is that of 0.2 (see `p2::sockets`), and so is the view: a container has one
//! network, whichever interface it speaks. What differs is waiting: 0.3 has async functions and
//! streams, which here poll the core directly, without a task in between.

mod convert;
mod lookup;
#[cfg(test)]
mod states;
mod stream;
mod tcp;
mod udp;

use wasmtime::component::Linker;
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup;
use wasmtime_wasi::p3::bindings::sockets::types::{self, ErrorCode};
use wasmtime_wasi::p3::sockets::SocketError;

pub use crate::runtime::wasi::p2::sockets::{HasNet, NetView};

/// Adds every interface of `wasi:sockets` 0.3.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> NetView<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, HasNet>(linker, view)?;
    ip_name_lookup::add_to_linker::<T, HasNet>(linker, view)
}

impl types::Host for NetView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}
