//! The listeners: HTTPS for everyone, plain HTTP for browsers and curl on this machine.
//!
//! Sockets are bound before anything runs, so port 0 works and a taken port is an early error. The
//! plain listener refuses any address but loopback, and every request whose `Host` or `Origin` is
//! another name than this machine's: a page from elsewhere that a browser loads must not reach it
//! by DNS rebinding. Both need the token.
//!
//! Every connection is bounded: how many there are, how long a handshake and a request's head may
//! take, and how long a client may leave our bytes unread ([`stall`]). On shutdown the listeners
//! close first, then each connection finishes what it is answering.

mod plain;
mod stall;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::tasks::{FirstRequest, TaskGroup};

use super::Server;
use super::dispatch::dispatch;
use super::identify::Peer;
use stall::StallGuard;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Also how long an idle HTTP/1.1 connection is kept. Longer than the 90 s of Go's and hyper's
/// clients, so that they close first and no request meets a closing connection.
const HEADER_TIMEOUT: Duration = Duration::from_mins(2);

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{0} is not a loopback address: plain http is for this machine only")]
    NotLoopback(SocketAddr),
}

/// Where the server listens; what port 0 became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub https: SocketAddr,
    pub http: Option<SocketAddr>,
}

/// Bound sockets, not served yet.
pub struct Bound {
    https: TcpListener,
    http: Option<TcpListener>,
    addresses: Addresses,
}

#[derive(Clone)]
enum Face {
    Tls(TlsAcceptor),
    Plain,
}

impl Bound {
    /// Binds both sockets.
    pub async fn bind(https: SocketAddr, http: Option<SocketAddr>) -> Result<Self, Error> {
        if let Some(address) = http.filter(|address| !address.ip().is_loopback()) {
            return Err(Error::NotLoopback(address));
        }
        let (https, https_address) = bind(https).await?;
        let http = match http {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self {
            https,
            addresses: Addresses {
                https: https_address,
                http: http.as_ref().map(|(_, address)| *address),
            },
            http: http.map(|(listener, _)| listener),
        })
    }

    /// Where the sockets are.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves both until the group is cancelled.
    pub fn serve(self, server: &Arc<Server>, tls: Arc<ServerConfig>, tasks: &TaskGroup) {
        let acceptor = Face::Tls(TlsAcceptor::from(tls));
        let https = accept(Arc::clone(server), self.https, acceptor, tasks.clone());
        tasks.spawn("https listener", https);
        if let Some(listener) = self.http {
            let http = accept(Arc::clone(server), listener, Face::Plain, tasks.clone());
            tasks.spawn("http listener", http);
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn accept(server: Arc<Server>, listener: TcpListener, face: Face, tasks: TaskGroup) {
    let places = Arc::new(Semaphore::new(server.limits.connections));
    let serve = |stream, _| connection(Arc::clone(&server), stream, face.clone(), tasks.clone());
    tasks
        .accept("API connection", &listener, &places, serve)
        .await;
}

async fn connection(server: Arc<Server>, stream: TcpStream, face: Face, tasks: TaskGroup) {
    // Small answers must not wait for the peer's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let stream = StallGuard::new(stream, server.limits.stall_timeout);
    match face {
        Face::Plain => serve(server, stream, (Protocol::PlainHttp1, None), tasks).await,
        Face::Tls(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await
        {
            Ok(Ok(stream)) => {
                let session = stream.get_ref().1;
                let protocol = match session.alpn_protocol() {
                    Some(b"h2") => Protocol::Http2,
                    Some(_) | None => Protocol::Http1,
                };
                let peer = session.peer_certificates().and_then(Peer::of);
                serve(server, stream, (protocol, peer), tasks).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

/// What is spoken; settled before the first byte, so that no silent client can keep us guessing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    PlainHttp1,
    Http1,
    Http2,
}

async fn serve<S>(
    server: Arc<Server>,
    stream: S,
    (protocol, peer): (Protocol, Option<Peer>),
    tasks: TaskGroup,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = Builder::new(tasks.executor("http/2 stream"));
    let mut builder = match protocol {
        Protocol::PlainHttp1 | Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let drain = server.limits.drain;
    let first = FirstRequest::default();
    let asking = first.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        asking.arrived();
        let server = Arc::clone(&server);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        let is_plain = protocol == Protocol::PlainHttp1;
        // In a box, which goes with the head of the answer: a connection keeps the place of what its
        // service returns, also through a watch of hours.
        Box::pin(async move { Ok::<_, Infallible>(respond(server, request, is_plain).await) })
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let cancelled = tasks.cancelled();
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = first.missing_for(HEADER_TIMEOUT) => return,
        () = cancelled.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(drain, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(error, "a connection broke");
    }
}

async fn respond(
    server: Arc<Server>,
    request: Request<Incoming>,
    is_plain: bool,
) -> Response<Body> {
    if is_plain && let Err(response) = plain::check(&request) {
        return *response;
    }
    dispatch(server, request.map(Body::new)).await
}
