//! `wasi:sockets/ip-name-lookup` 0.3.

use wasmtime::component::Accessor;
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup::{self, ErrorCode};
use wasmtime_wasi::p3::bindings::sockets::types::IpAddress;

use super::convert::lookup_code;
use super::{HasNet, NetView};

impl<T> ip_name_lookup::HostWithStore<T> for HasNet {
    async fn resolve_addresses(
        accessor: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress>, ErrorCode>> {
        let lookup = accessor.with(|mut store| store.get().net.lookup(&name));
        Ok(match lookup.await {
            Ok(addresses) => Ok(addresses.into_iter().map(IpAddress::from).collect()),
            Err(error) => Err(lookup_code(error)),
        })
    }
}

impl ip_name_lookup::Host for NetView<'_> {}
