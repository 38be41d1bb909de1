//! A request that can be sent more than once.

use http::Method;
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error as WasiHttpError, WasiBody};

use crate::replay::{self, Replay};

/// A request that can be sent more than once.
pub(super) struct Repeat {
    pub(super) head: http::request::Parts,
    body: Replay<WasiBody>,
}

impl Repeat {
    pub(super) fn new(request: http::Request<WasiBody>) -> Self {
        let (head, body) = request.into_parts();
        let body = Replay::new(body);
        Self { head, body }
    }

    pub(super) fn request(&self) -> Option<http::Request<WasiBody>> {
        let body = self.body.attempt()?.map_err(|error| match error {
            replay::Error::Body(error) => error,
            error @ replay::Error::Superseded => {
                WasiHttpError::InternalError(Some(error.to_string()))
            }
        });
        let body = body.boxed_unsync();
        Some(http::Request::from_parts(self.head.clone(), body))
    }

    /// Whether doing it twice is as good as once.
    pub(super) fn is_idempotent(&self) -> bool {
        matches!(
            self.head.method,
            Method::GET
                | Method::HEAD
                | Method::OPTIONS
                | Method::TRACE
                | Method::PUT
                | Method::DELETE
        )
    }
}
