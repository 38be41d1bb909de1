//! HTTP/1.1 on a wire connection, answered by the pod's handler.
//!
//! The handler is looked up for each request, so that a connection outlives a restart of the
//! container behind it. A request that no guest saw is answered `503` with `X-Wasmorch-Retriable`,
//! and the router sends it elsewhere. What a guest leaves of a body is read here, so that the
//! connection is good for the next request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::Wire;
use crate::api::unseen::{RETRIABLE, Unseen};
use crate::errors::chain;
use crate::router::tunnel::{Preamble, Source};
use crate::runtime::PodSandbox;
use crate::runtime::http::{Body, Error, Unread};

/// Routers keep connections open; one that says nothing for this long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// Set by the router, which throws away what its clients say there.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HEADERS: usize = 128;
const BUFFER: usize = 64 << 10;

/// A peer that its pod does not let in any more; its connection ends, and the next is refused.
#[derive(Debug, thiserror::Error)]
#[error("the pod's network policies do not let {0} in any more")]
struct Denied(IpAddr);

pub(super) async fn serve(
    stream: TcpStream,
    sandbox: Arc<PodSandbox>,
    preamble: &Preamble,
    wire: Arc<Wire>,
) {
    let (source, port) = (preamble.source, preamble.target.port());
    let unread = Arc::new(Unread::default());
    let lender = Arc::clone(&unread);
    // A router keeps the connection longer than the worker keeps the pod.
    let sandbox = Arc::downgrade(&sandbox);
    let service = service_fn(move |request: Request<Incoming>| {
        let (sandbox, wire) = (sandbox.upgrade(), Arc::clone(&wire));
        let request = request.map(|body| lender.lend(body));
        async move {
            if let Some(sandbox) = sandbox.as_ref().filter(|it| it.net().is_isolated()) {
                match (source, client_of(source, &request)) {
                    (_, client) if sandbox.net().lets_in(client, port) => {}
                    (Source::Peer(_), client) => return Err(Denied(client)),
                    (Source::Requests, _) => return Ok(forbidden()),
                }
            }
            Ok(answer(sandbox, port, &wire, request).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        // Head and small body in one write. Not by `pipeline_flush`, which lifts the bound of what
        // may wait to be sent as long as there is something to read: a large upload that is echoed.
        .writev(false)
        // A client that ends its half has left: what it asked for is stopped.
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = connection => ended,
        () = unread.read() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(error = %chain(&error), "wire connection");
    }
}

/// Who is asking: the peer itself, or whom the router names.
fn client_of(source: Source, request: &Request<Body>) -> IpAddr {
    const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    match source {
        Source::Peer(peer) => peer.ip(),
        Source::Requests => {
            let named = request.headers().get(FORWARDED_FOR);
            let named = named.and_then(|value| value.to_str().ok()?.parse().ok());
            named.unwrap_or(NOBODY)
        }
    }
}

fn forbidden() -> Response<Body> {
    let mut response = Response::new(Body::full("a network policy keeps you out\n"));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

async fn answer(
    sandbox: Option<Arc<PodSandbox>>,
    port: u16,
    wire: &Wire,
    request: Request<Body>,
) -> Response<Body> {
    let handler = sandbox.and_then(|sandbox| sandbox.http_handler(port));
    let Some(handler) = handler.filter(|_| wire.fence.is_open()) else {
        return gone();
    };
    match handler.call(request).await {
        Ok(mut response) => {
            // What a guest has seen is not for a guest to deny.
            response.headers_mut().remove(RETRIABLE);
            response
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &Error) -> Response<Body> {
    let mut response = error.response();
    if let Some(why) = error.unseen() {
        mark(&mut response, why);
    }
    response
}

/// For a pod that answered on this connection once.
fn gone() -> Response<Body> {
    let mut response = Response::new(Body::full("no handler\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    mark(&mut response, Unseen::Gone);
    response
}

fn mark(response: &mut Response<Body>, why: Unseen) {
    response.headers_mut().insert(RETRIABLE, why.value());
}
