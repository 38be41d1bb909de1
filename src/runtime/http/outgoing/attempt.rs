//! What became of one try at sending a request, and what that allows.
//!
//! The caller may try elsewhere whatever no guest has seen, so the one question here is whether one
//! has: a request that never left, and a `503` marked so by a worker (`api::unseen`), were seen by
//! nobody.

use std::time::Duration;

use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error as WasiHttpError, RequestOptions, WasiBody};

use crate::api::unseen::{RETRIABLE, Unseen};
use crate::runtime::http::idle::IdleLimit;
use crate::runtime::net;

/// What `wasi:http` guests wait unless they say otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);

pub(super) type Response = http::Response<WasiBody>;
pub(super) type Sent = Result<Response, WasiHttpError>;

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
    Unseen { answer: Sent, why: Unseen },
    /// It was sent, and the connection broke before there was an answer.
    Broken {
        error: WasiHttpError,
        /// It had been kept; that it is dead says nothing about the endpoint.
        was_kept: bool,
    },
}

impl Attempt {
    /// There was nobody to send it to.
    pub(super) fn unconnected(error: WasiHttpError, why: Unseen) -> Self {
        Self::Unseen {
            answer: Err(error),
            why,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconnected {
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error(transparent)]
    Handshake(#[from] hyper::Error),
    #[error("speak TLS")]
    Tls(#[source] std::io::Error),
    #[error("the connection was not there in time")]
    Late,
}

impl From<Unconnected> for Attempt {
    fn from(error: Unconnected) -> Self {
        // The routing table sent us to a pod that its worker does not know.
        let why = match &error {
            Unconnected::Net(net::Error::RemoteUnreachable) => Unseen::Gone,
            Unconnected::Net(_)
            | Unconnected::Handshake(_)
            | Unconnected::Tls(_)
            | Unconnected::Late => Unseen::Busy,
        };
        let error = match error {
            Unconnected::Net(error) => connect_error(error),
            Unconnected::Handshake(error) => error.into(),
            Unconnected::Tls(error) => super::tls::failure(error),
            Unconnected::Late => WasiHttpError::ConnectionTimeout,
        };
        Self::unconnected(error, why)
    }
}

fn connect_error(error: net::Error) -> WasiHttpError {
    match error {
        // A pod that is gone refuses, as its node would for it.
        net::Error::ConnectionRefused | net::Error::RemoteUnreachable => {
            WasiHttpError::ConnectionRefused
        }
        net::Error::AccessDenied => WasiHttpError::HttpRequestDenied,
        net::Error::TimedOut => WasiHttpError::ConnectionTimeout,
        net::Error::NewSocketLimit => WasiHttpError::ConnectionLimitReached,
        other => WasiHttpError::Connect(std::io::Error::other(other)),
    }
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
            let unseen = Unseen::read(response.status(), response.headers());
            response.headers_mut().remove(RETRIABLE);
            let limit = waits.between_bytes;
            let answer = Ok(response.map(|body| IdleLimit::new(body, limit).boxed_unsync()));
            match unseen {
                Some(why) => Attempt::Unseen { answer, why },
                None => Attempt::Done(answer),
            }
        }
        Err(Failure::Unsent(_, error)) => Attempt::unconnected(error, Unseen::Busy),
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
