//! Requests that guests send.
//!
//! A name is resolved and routed as for a socket. A handler on this worker is then called as a
//! function: no connection, no bytes, no copy. Everybody else gets HTTP/1.1 over a virtual
//! connection, whatever plane that takes; the egress rules are the network's. TLS is refused in
//! words: inside the cluster there is none, and to the outside it is not implemented yet.
//!
//! A handler that calls itself, directly or in a circle, would fill the worker with instances of
//! itself, so each request carries how many handlers it has passed ([`HOPS`]). Guests neither see
//! nor set it: it is taken off on the way in and put on here, from the request being served.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use wasmtime_wasi_http::{Error as WasiHttpError, RequestOptions, WasiBody, WasiHttpHooks};

use super::pool::Pool;
use super::{Body, Handler};
use crate::runtime::net::{self, ClusterNetwork, Owner, PodNet, Route};
use crate::runtime::pods::Pods;
use crate::runtime::spec::Protocol;
use crate::tasks::TaskGroup;

/// How many handlers a request has passed.
pub(super) const HOPS: HeaderName = HeaderName::from_static("x-wasmorch-hops");
/// A request that has passed more is taken for a loop.
pub(super) const MAX_HOPS: u32 = 16;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 3;
/// What `wasi:http` guests wait unless they say otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);

type Response = http::Response<WasiBody>;
type Sent = Result<Response, WasiHttpError>;
/// Says how the transfer of the request's body ended.
type Transfer = Box<dyn Future<Output = Result<(), WasiHttpError>> + Send>;

/// Sends requests in the name of one container.
pub(in crate::runtime) struct Client {
    pub(in crate::runtime) net: Arc<PodNet>,
    pub(in crate::runtime) owner: Owner,
    pub(in crate::runtime) cluster: Arc<dyn ClusterNetwork>,
    pub(in crate::runtime) pods: Arc<Pods>,
    pub(in crate::runtime) tasks: TaskGroup,
    pool: Pool,
}

/// Whom a request reaches.
enum Target {
    Handler(Arc<Handler>),
    Address(SocketAddr),
}

impl Client {
    pub(in crate::runtime) fn new(
        net: Arc<PodNet>,
        owner: Owner,
        cluster: Arc<dyn ClusterNetwork>,
        pods: Arc<Pods>,
        tasks: TaskGroup,
    ) -> Arc<Self> {
        Arc::new(Self {
            net,
            owner,
            cluster,
            pods,
            tasks,
            pool: Pool::default(),
        })
    }

    /// Closes the kept connections; their tasks end with them.
    pub(in crate::runtime) fn close(&self) {
        self.pool.clear();
    }

    async fn send(
        &self,
        mut request: http::Request<WasiBody>,
        options: RequestOptions,
        hops: u32,
    ) -> Sent {
        if request.uri().scheme() == Some(&Scheme::HTTPS) {
            let words = "https is not supported: services of the cluster speak http";
            return Err(WasiHttpError::InternalError(Some(words.to_owned())));
        }
        let authority = request.uri().authority().cloned();
        let authority = authority.ok_or(WasiHttpError::HttpRequestUriInvalid)?;
        request.headers_mut().insert(HOPS, HeaderValue::from(hops));
        let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let mut refused = WasiHttpError::DestinationNotFound;
        for address in self.addresses(&authority).await? {
            let to = match self.target(address) {
                Ok(Target::Handler(handler)) => {
                    let called = call(&handler, request);
                    return timely(first_byte, called, WasiHttpError::ConnectionReadTimeout).await;
                }
                Ok(Target::Address(to)) => to,
                Err(error) => {
                    refused = error;
                    continue;
                }
            };
            if let Some(connection) = self.pool.take(to) {
                let answered = self.exchange(to, connection, request);
                match timely_retry(first_byte, answered).await {
                    Ok(response) => return Ok(response),
                    Err(Failure::Final(error)) => return Err(error),
                    // It was closed under us and the request never left.
                    Err(Failure::Unsent(unsent)) => request = *unsent,
                }
            }
            let connect = self.connect(to);
            let wait = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
            match timely(wait, connect, WasiHttpError::ConnectionTimeout).await {
                Ok(connection) => {
                    let answered = self.exchange(to, connection, request);
                    return match timely_retry(first_byte, answered).await {
                        Ok(response) => Ok(response),
                        Err(Failure::Final(error)) => Err(error),
                        Err(Failure::Unsent(_)) => Err(WasiHttpError::ConnectionTerminated),
                    };
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    async fn addresses(&self, authority: &Authority) -> Result<Vec<SocketAddr>, WasiHttpError> {
        let port = authority.port_u16().unwrap_or(80);
        let mut found: Vec<IpAddr> =
            self.net
                .lookup(authority.host())
                .await
                .map_err(|error| WasiHttpError::DnsError {
                    rcode: Some(error.to_string()),
                    info_code: None,
                })?;
        // Headless services answer with every pod: take turns, and prefer the pod's own family.
        let turn = crate::ids::index(found.len().max(1));
        found.rotate_left(turn);
        found.sort_by_key(|ip| ip.is_ipv4() != self.net.ip().is_ipv4());
        let addresses = found.into_iter().take(MAX_ADDRESSES);
        Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect())
    }

    fn target(&self, to: SocketAddr) -> Result<Target, WasiHttpError> {
        let is_own = to.ip().is_loopback() || to.ip() == self.net.ip();
        let to = if is_own {
            SocketAddr::new(self.net.ip(), to.port())
        } else {
            match self.cluster.route(self.net.ip(), to, Protocol::Tcp) {
                Route::Pod(endpoint) => endpoint,
                Route::External(outside) => return Ok(Target::Address(outside)),
                Route::Refused => return Err(WasiHttpError::ConnectionRefused),
            }
        };
        let handler = self
            .pods
            .find(to.ip())
            .and_then(|pod| pod.handler(to.port()));
        Ok(match handler {
            Some(handler) => Target::Handler(handler),
            None => Target::Address(to),
        })
    }

    async fn connect(&self, to: SocketAddr) -> Result<http1::SendRequest<WasiBody>, WasiHttpError> {
        let conn = match self.net.connect(&self.owner, to).await {
            // Whoever listens on the pod's loopback only is reached there.
            Err(net::Error::ConnectionRefused) if to.ip() == self.net.ip() => {
                let loopback = SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), to.port());
                self.net.connect(&self.owner, loopback).await
            }
            other => other,
        }
        .map_err(connect_error)?;
        let (sender, connection) = http1::handshake(TokioIo::new(conn)).await?;
        self.tasks.spawn_contained("guest http client", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection of a guest's request");
            }
        });
        Ok(sender)
    }

    async fn exchange(
        &self,
        to: SocketAddr,
        mut connection: http1::SendRequest<WasiBody>,
        mut request: http::Request<WasiBody>,
    ) -> Result<Response, Failure> {
        // A server wants the path alone; the host is in its header.
        let absolute = request.uri().clone();
        let path = absolute.path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        match connection.try_send_request(request).await {
            Ok(response) => {
                self.pool.put(to, connection);
                Ok(response.map(|body| body.map_err(WasiHttpError::from).boxed_unsync()))
            }
            Err(mut error) => match error.take_message() {
                Some(mut unsent) => {
                    *unsent.uri_mut() = absolute;
                    Err(Failure::Unsent(Box::new(unsent)))
                }
                None => Err(Failure::Final(error.into_error().into())),
            },
        }
    }
}

/// A request without a response.
enum Failure {
    /// It never left and may be sent again.
    Unsent(Box<http::Request<WasiBody>>),
    Final(WasiHttpError),
}

async fn call(handler: &Arc<Handler>, request: http::Request<WasiBody>) -> Sent {
    let answered = handler.call(request.map(Body::wasi)).await;
    Ok(answered
        .unwrap_or_else(|error| error.response())
        .map(Body::into_wasi))
}

async fn timely<T>(
    wait: Duration,
    work: impl Future<Output = Result<T, WasiHttpError>>,
    late: WasiHttpError,
) -> Result<T, WasiHttpError> {
    tokio::time::timeout(wait, work).await.unwrap_or(Err(late))
}

async fn timely_retry(
    wait: Duration,
    work: impl Future<Output = Result<Response, Failure>>,
) -> Result<Response, Failure> {
    tokio::time::timeout(wait, work)
        .await
        .unwrap_or(Err(Failure::Final(WasiHttpError::ConnectionReadTimeout)))
}

fn connect_error(error: net::Error) -> WasiHttpError {
    match error {
        net::Error::ConnectionRefused => WasiHttpError::ConnectionRefused,
        net::Error::AccessDenied => WasiHttpError::HttpRequestDenied,
        net::Error::TimedOut => WasiHttpError::ConnectionTimeout,
        net::Error::NewSocketLimit => WasiHttpError::ConnectionLimitReached,
        other => WasiHttpError::Connect(std::io::Error::other(other)),
    }
}

/// The host's side of `wasi:http` in one store.
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
