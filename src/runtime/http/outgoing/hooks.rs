//! The host's side of `wasi:http` in one store.

use std::sync::Arc;

use http::uri::Scheme;
use wasmtime_wasi_http::{Error as WasiHttpError, RequestOptions, WasiBody, WasiHttpHooks};

use super::Client;
use super::attempt::Response;
use crate::runtime::http::holdings::CHUNK;

/// Says how the transfer of the request's body ended.
type Transfer = Box<dyn Future<Output = Result<(), WasiHttpError>> + Send>;

/// See the module.
pub(in crate::runtime) struct Hooks {
    client: Arc<Client>,
    hops: u32,
}

impl Hooks {
    pub(in crate::runtime) fn new(client: Arc<Client>) -> Self {
        Self { client, hops: 0 }
    }

    pub(in crate::runtime) fn set_hops(&mut self, hops: u32) {
        self.hops = hops;
    }
}

impl WasiHttpHooks for Hooks {
    /// Less than the default mebibyte: it is what each body that nobody reads takes in the host.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn default_scheme(&mut self) -> Option<Scheme> {
        Some(Scheme::HTTP)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Transfer,
    ) -> Box<dyn Future<Output = Result<(Response, Transfer), WasiHttpError>> + Send> {
        let client = Arc::clone(&self.client);
        let hops = self.hops + 1;
        Box::new(async move {
            let response = client
                .send(request, options.unwrap_or_default(), hops)
                .await?;
            let transfer: Transfer = Box::new(async { Ok(()) });
            Ok((response, transfer))
        })
    }
}
