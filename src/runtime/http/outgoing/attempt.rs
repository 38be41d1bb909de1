//! What became of one try at sending a request, and what that allows.
//!
//! The caller may try elsewhere whatever no guest has seen, so the one question here is whether one
//! has: a request that never left, and a `503` marked [`RETRIABLE`], were seen by nobody.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error as WasiHttpError, RequestOptions, WasiBody};

use crate::runtime::http::idle::IdleLimit;

/// What `wasi:http` guests wait unless they say otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);

pub(super) type Response = http::Response<WasiBody>;
pub(super) type Sent = Result<Response, WasiHttpError>;
/// On a `503` that no guest saw; the worker's wire server sets it.
pub const RETRIABLE: HeaderName = HeaderName::from_static("x-wasmorch-retriable");
/// How long the guest wants to wait for what.
pub(super) struct Waits {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) between_bytes: Duration,
}

impl From<RequestOptions> for Waits {
    fn from(options: RequestOptions) -> Self {
        Self {
            connect: options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT),
            first_byte: options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT),
            between_bytes: options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT),
        }
    }
}

/// What one attempt led to.
pub(super) enum Attempt {
    /// The end of it, good or bad.
    Done(Sent),
    /// No guest has seen the request; the answer is for the case that nobody else can be asked.
    Unseen(Sent),
    /// It was sent, and the connection broke before there was an answer.
    Broken {
        error: WasiHttpError,
        /// It had been kept; that it is dead says nothing about the endpoint.
        was_kept: bool,
    },
}

/// A request without a response.
pub(super) enum Failure {
    /// It never left and may be sent again.
    Unsent(Box<http::Request<WasiBody>>, WasiHttpError),
    /// It left, at least in part.
    Broken(WasiHttpError),
    Late,
}

pub(super) fn judge(answered: Result<Response, Failure>, was_kept: bool, waits: &Waits) -> Attempt {
    match answered {
        Ok(mut response) => {
            let is_retriable = response.headers_mut().remove(RETRIABLE).is_some();
            let limit = waits.between_bytes;
            let unseen = is_retriable && response.status() == StatusCode::SERVICE_UNAVAILABLE;
            let response = response.map(|body| IdleLimit::new(body, limit).boxed_unsync());
            if unseen {
                Attempt::Unseen(Ok(response))
            } else {
                Attempt::Done(Ok(response))
            }
        }
        Err(Failure::Unsent(_, error)) => Attempt::Unseen(Err(error)),
        Err(Failure::Broken(error)) => Attempt::Broken { error, was_kept },
        Err(Failure::Late) => Attempt::Done(Err(WasiHttpError::ConnectionReadTimeout)),
    }
}

pub(super) async fn timely_retry(
    wait: Duration,
    work: impl Future<Output = Result<Response, Failure>>,
) -> Result<Response, Failure> {
    tokio::time::timeout(wait, work)
        .await
        .unwrap_or(Err(Failure::Late))
}
