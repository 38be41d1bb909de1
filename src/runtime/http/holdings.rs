//! What the host keeps for a guest in `wasi:http` objects, charged to the guest's memory.
//!
//! A guest with one small buffer can make the host keep thousands of header sets, bodies and
//! requests: each handle is cheap for the guest and may be 64 KiB for the host. wasmtime-wasi-http
//! bounds one of them and not their sum, and its objects cannot charge a budget; so the table is
//! looked through now and then and what is found is what is charged. Between two looks a guest can
//! make [`CALLS`] calls and no more.
//!
//! A handler that makes fewer calls than that, as nearly all do, is never looked at. When the charge is
//! refused the guest ends at its next tick, and until then it can add nothing.

use http::HeaderMap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{FieldMap, p3};

use crate::runtime::limits::Limits;

/// Calls of `wasi:http` between two looks.
const CALLS: u32 = 32;
/// What an object takes besides its contents.
const OBJECT: u64 = 256;
/// What one header takes besides its text.
const HEADER: usize = 128;
/// The head of a response that has not been looked at.
const RESPONSE: usize = 16 << 10;
/// What a guest may write into a body that nobody reads, at a time.
pub(in crate::runtime) const CHUNK: usize = 64 << 10;

/// See the module.
#[derive(Default)]
pub(in crate::runtime) struct Holdings {
    calls: u32,
    charged: u64,
}

impl Holdings {
    /// To be asked at every call; `false` if the guest may add nothing any more.
    pub(in crate::runtime) fn at_call(
        &mut self,
        table: &mut ResourceTable,
        limits: &mut Limits,
    ) -> bool {
        self.calls += 1;
        if self.calls.is_multiple_of(CALLS) && limits.verdict().is_none() {
            let found = count(table);
            if limits.recount(self.charged, found) {
                self.charged = found;
            }
        }
        limits.verdict().is_none()
    }
}

fn count(table: &mut ResourceTable) -> u64 {
    let places = u32::try_from(table.max_capacity()).unwrap_or(u32::MAX);
    (0..places).map(|rep| size(table, rep)).sum()
}

fn size(table: &mut ResourceTable, rep: u32) -> u64 {
    let Ok(object) = table.get_any_mut(rep) else {
        return 0;
    };
    let held = if let Some(fields) = object.downcast_ref::<FieldMap>() {
        headers(fields)
    } else if let Some(request) = object.downcast_ref::<HostOutgoingRequest>() {
        let texts = [&request.authority, &request.path_with_query];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        headers(&request.headers) + texts + request.body.as_ref().map_or(0, |_| CHUNK)
    } else if let Some(response) = object.downcast_ref::<HostOutgoingResponse>() {
        headers(&response.headers) + response.body.as_ref().map_or(0, |_| CHUNK)
    } else if let Some(response) = object.downcast_ref::<HostIncomingResponse>() {
        headers(&response.headers)
    } else if let Some(request) = object.downcast_ref::<p3::Request>() {
        headers(&request.headers)
    } else if let Some(response) = object.downcast_ref::<p3::Response>() {
        headers(&response.headers)
    } else if object.is::<HostOutgoingBody>() {
        CHUNK
    } else if object.is::<HostFutureIncomingResponse>() {
        RESPONSE
    } else {
        0
    };
    OBJECT + held as u64
}

fn headers(map: &HeaderMap) -> usize {
    map.iter()
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER)
        .sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmtime_wasi_http::p2::bindings::http::types::Method;

    use super::*;
    use crate::runtime::budget::Budget;
    use crate::runtime::limits::Memory;

    fn request(bytes: usize) -> HostOutgoingRequest {
        HostOutgoingRequest {
            method: Method::Get,
            scheme: None,
            authority: Some("a".repeat(bytes)),
            path_with_query: None,
            headers: FieldMap::default(),
            body: None,
        }
    }

    #[test]
    fn what_the_host_keeps_is_charged_given_back_and_refused() {
        let memory = Memory::new(Budget::new(1 << 20));
        let mut limits = Limits::new(Arc::clone(&memory));
        let mut table = ResourceTable::new();
        table.set_max_capacity(1000);
        let mut holdings = Holdings::default();
        let mut calls = |table: &mut ResourceTable, limits: &mut Limits| {
            (0..CALLS).all(|_| holdings.at_call(table, limits))
        };
        let kept = table.push(request(10_000)).unwrap();
        assert!(calls(&mut table, &mut limits));
        assert!(
            (10_000..11_000).contains(&memory.used()),
            "{}",
            memory.used()
        );
        table.delete(kept).unwrap();
        assert!(calls(&mut table, &mut limits));
        assert_eq!(memory.used(), 0);
        for _ in 0..17 {
            table.push(request(64 << 10)).unwrap();
        }
        assert!(!calls(&mut table, &mut limits));
        assert!(limits.verdict().is_some());
        drop(limits);
        assert_eq!(memory.used(), 0);
    }
}
