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
//!
//! The death of a pod is not its callers' failure: what no guest has seen is tried elsewhere,
//! always; what broke off without an answer, if doing it twice is as good as once. The rules are the
//! front door's (`router::http`), so that a service is as reliable from inside as from outside.

mod attempt;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use wasmtime_wasi_http::{Error as WasiHttpError, RequestOptions, WasiBody, WasiHttpHooks};

use attempt::{Attempt, Failure, Response, Sent, Waits, judge, timely_retry};

pub use attempt::RETRIABLE;

use super::pool::Pool;
use super::replay::Replay;
use super::unread::Offered;
use super::{Body, Handler};
use crate::runtime::net::{self, ClusterNetwork, Owner, PodNet, Route};
use crate::runtime::pods::Pods;
use crate::runtime::spec::Protocol;
use crate::tasks::TaskGroup;

/// How many handlers a request has passed.
pub(super) const HOPS: HeaderName = HeaderName::from_static("x-wasmorch-hops");
/// A request that has passed more is taken for a loop.
pub(super) const MAX_HOPS: u32 = 16;
/// How often one request is sent at most.
const MAX_ATTEMPTS: usize = 4;
/// How often the network is asked for an endpoint that was not tried yet.
const MAX_CHOICES: usize = 4;
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
    Handler(Arc<Handler>, SocketAddr),
    Pod(SocketAddr),
    Outside(SocketAddr),
}

impl Target {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Handler(_, to) | Self::Pod(to) | Self::Outside(to) => *to,
        }
    }
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
        request: http::Request<WasiBody>,
        options: RequestOptions,
        hops: u32,
    ) -> Sent {
        if request.uri().scheme() == Some(&Scheme::HTTPS) {
            let words = "https is not supported: services of the cluster speak http";
            return Err(WasiHttpError::InternalError(Some(words.to_owned())));
        }
        let authority = request.uri().authority().cloned();
        let authority = authority.ok_or(WasiHttpError::HttpRequestUriInvalid)?;
        let waits = Waits::from(options);
        let addresses = self.addresses(&authority).await?;
        let mut replay = Replay::new(request);
        let mut tried = Vec::new();
        let mut use_kept = true;
        let mut failure = Err(WasiHttpError::DestinationNotFound);
        for address in addresses.iter().cycle().take(MAX_ATTEMPTS) {
            let target = match self.untried(*address, &tried) {
                Ok(Some(target)) => target,
                Ok(None) => continue,
                Err(error) => {
                    failure = Err(error);
                    continue;
                }
            };
            let headers = &mut replay.head().headers;
            match &target {
                Target::Handler(..) | Target::Pod(_) => {
                    headers.insert(HOPS, HeaderValue::from(hops));
                }
                Target::Outside(_) => drop(headers.remove(HOPS)),
            }
            let Some(request) = replay.attempt() else {
                return failure;
            };
            match self.try_once(&target, request, use_kept, &waits).await {
                Attempt::Done(sent) => return sent,
                Attempt::Unseen(answer) => {
                    tried.push(target.address());
                    failure = answer;
                }
                Attempt::Broken { error, was_kept } => {
                    if !replay.is_idempotent() {
                        return Err(error);
                    }
                    if !was_kept {
                        tried.push(target.address());
                    }
                    failure = Err(error);
                }
            }
            // Where one kept connection was dead, the others are likely to be.
            use_kept = false;
        }
        failure
    }

    /// Whom `address` leads to, other than those that were tried already.
    fn untried(
        &self,
        address: SocketAddr,
        tried: &[SocketAddr],
    ) -> Result<Option<Target>, WasiHttpError> {
        for _ in 0..MAX_CHOICES {
            let target = self.target(address)?;
            if !tried.contains(&target.address()) {
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    async fn try_once(
        &self,
        target: &Target,
        request: http::Request<WasiBody>,
        use_kept: bool,
        waits: &Waits,
    ) -> Attempt {
        match target {
            Target::Handler(handler, _) => {
                let called = tokio::time::timeout(waits.first_byte, self.call(handler, request));
                let late = Attempt::Done(Err(WasiHttpError::ConnectionReadTimeout));
                called.await.unwrap_or(late)
            }
            Target::Pod(to) | Target::Outside(to) => {
                self.send_to(*to, request, use_kept, waits).await
            }
        }
    }

    async fn call(&self, handler: &Arc<Handler>, request: http::Request<WasiBody>) -> Attempt {
        let request = request.map(|body| Offered::body(body, self.tasks.clone()));
        match handler.call(request).await {
            Ok(response) => Attempt::Done(Ok(response.map(Body::into_wasi))),
            Err(error) => {
                let answer = Ok(error.response().map(Body::into_wasi));
                if error.is_retriable() {
                    Attempt::Unseen(answer)
                } else {
                    Attempt::Done(answer)
                }
            }
        }
    }

    /// One address: over a kept connection, else over a new one.
    async fn send_to(
        &self,
        to: SocketAddr,
        mut request: http::Request<WasiBody>,
        use_kept: bool,
        waits: &Waits,
    ) -> Attempt {
        let kept = if use_kept { self.pool.take(to) } else { None };
        if let Some(connection) = kept {
            let answered = self.exchange(to, connection, request);
            match timely_retry(waits.first_byte, answered).await {
                // It was closed under us and the request never left.
                Err(Failure::Unsent(unsent, _)) => request = *unsent,
                answered => return judge(answered, true, waits),
            }
        }
        let connecting = self.connect(to);
        match timely(waits.connect, connecting, WasiHttpError::ConnectionTimeout).await {
            Ok(connection) => {
                let answered = self.exchange(to, connection, request);
                judge(timely_retry(waits.first_byte, answered).await, false, waits)
            }
            Err(error) => Attempt::Unseen(Err(error)),
        }
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
        let addresses = found.into_iter();
        Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect())
    }

    fn target(&self, to: SocketAddr) -> Result<Target, WasiHttpError> {
        let is_own = to.ip().is_loopback() || to.ip() == self.net.ip();
        let to = if is_own {
            SocketAddr::new(self.net.ip(), to.port())
        } else {
            match self.cluster.route(self.net.ip(), to, Protocol::Tcp) {
                Route::Pod(endpoint) => endpoint,
                Route::External(outside) => return Ok(Target::Outside(outside)),
                Route::Refused => return Err(WasiHttpError::ConnectionRefused),
            }
        };
        let handler = self
            .pods
            .find(to.ip())
            .and_then(|pod| pod.handler(to.port()));
        Ok(match handler {
            Some(handler) => Target::Handler(handler, to),
            None => Target::Pod(to),
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
        *request.uri_mut() = Uri::from(match absolute.path_and_query() {
            // It reads as `/` also when it is empty, but would be sent as nothing.
            Some(path) if path.as_str() != "/" => path.clone(),
            _ => PathAndQuery::from_static("/"),
        });
        match connection.try_send_request(request).await {
            Ok(response) => {
                self.pool.put(to, connection);
                Ok(response.map(|body| body.map_err(WasiHttpError::from).boxed_unsync()))
            }
            Err(mut error) => match error.take_message() {
                Some(mut unsent) => {
                    *unsent.uri_mut() = absolute;
                    let error = error.into_error().into();
                    Err(Failure::Unsent(Box::new(unsent), error))
                }
                None => Err(Failure::Broken(error.into_error().into())),
            },
        }
    }
}

async fn timely<T>(
    wait: Duration,
    work: impl Future<Output = Result<T, WasiHttpError>>,
    late: WasiHttpError,
) -> Result<T, WasiHttpError> {
    tokio::time::timeout(wait, work).await.unwrap_or(Err(late))
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures::future::BoxFuture;
    use http::Method;
    use http_body_util::Full;
    use hyper::service::service_fn;

    use super::*;
    use crate::runtime::budget::Budget;
    use crate::runtime::net::{
        Conn, ConnService, Duplex, Fabric, FabricConfig, Incarnation, PodNetConfig, ServiceBinding,
    };

    /// `shop` is well; every other pod of `flaky` breaks connections off when it has read, every
    /// other pod of `gone` refuses them.
    #[derive(Default)]
    struct Cluster(AtomicUsize);

    impl Cluster {
        fn in_turn(&self, ill: &str) -> Route {
            let turn = self.0.fetch_add(1, Ordering::Relaxed);
            let endpoints = [ill, "10.64.0.2:8080"];
            Route::Pod(endpoints[turn % 2].parse().unwrap())
        }
    }

    impl ClusterNetwork for Cluster {
        fn resolve(&self, _namespace: &str, name: &str) -> Option<Vec<IpAddr>> {
            let services = [("shop", 1), ("flaky", 2), ("gone", 3)];
            let (_, last) = services.into_iter().find(|(known, _)| *known == name)?;
            Some(vec![IpAddr::from([10, 43, 0, last])])
        }

        fn route(&self, _from: IpAddr, to: SocketAddr, _protocol: Protocol) -> Route {
            match to.to_string().as_str() {
                "10.43.0.1:80" => Route::Pod("10.64.0.2:8080".parse().unwrap()),
                "10.43.0.2:80" => self.in_turn("10.64.7.1:8080"),
                "10.43.0.3:80" => self.in_turn("10.64.7.2:8080"),
                "10.64.7.1:8080" | "10.64.7.2:8080" => Route::Pod(to),
                "198.51.100.1:80" => Route::External(to),
                _ => Route::Refused,
            }
        }

        fn dial_pod(
            &self,
            _from: SocketAddr,
            to: SocketAddr,
        ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
            Box::pin(async move {
                if to.to_string() != "10.64.7.1:8080" {
                    return Err(std::io::ErrorKind::ConnectionRefused.into());
                }
                // One byte fits: the head has left, in part, when the connection breaks.
                let (near, mut far) = tokio::io::duplex(1);
                TaskGroup::new().spawn_contained("ill pod", async move {
                    let _ = tokio::io::AsyncReadExt::read_u8(&mut far).await;
                });
                Ok(Box::new(near) as Box<dyn Duplex>)
            })
        }
    }

    /// A server that tells what it was asked, and counts its connections.
    #[derive(Default)]
    struct Server {
        tasks: TaskGroup,
        connections: AtomicUsize,
        heads: Arc<Mutex<Vec<String>>>,
    }

    struct Accept(Arc<Server>);

    impl ConnService for Accept {
        fn accept(&self, conn: Conn) {
            self.0.connections.fetch_add(1, Ordering::Relaxed);
            let heads = Arc::clone(&self.0.heads);
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let hops = request.headers().get(HOPS).cloned();
                heads
                    .lock()
                    .unwrap()
                    .push(format!("{} {hops:?}", request.uri()));
                async { Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from("sold")))) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(conn), service);
            self.0.tasks.spawn_contained("server", async {
                let _ = serving.await;
            });
        }
    }

    struct Bench {
        client: Arc<Client>,
        server: Arc<Server>,
        _incarnations: [Incarnation; 2],
        _binding: ServiceBinding,
        _shop: Arc<PodNet>,
    }

    fn bench() -> Bench {
        let tasks = TaskGroup::new();
        let cluster: Arc<dyn ClusterNetwork> = Arc::new(Cluster::default());
        let fabric = Fabric::new(FabricConfig::new(Arc::clone(&cluster), tasks.clone()));
        let net = |ip: &str| {
            let config = PodNetConfig {
                namespace: "default".to_owned(),
                hostname: "pod".to_owned(),
                ip: ip.parse().unwrap(),
                egress: false,
                max_sockets: 100,
                budget: Budget::new(1 << 20),
            };
            fabric.create_pod(config).unwrap()
        };
        let (mine, shop) = (net("10.64.0.1"), net("10.64.0.2"));
        let incarnations = [Incarnation::new(), Incarnation::new()];
        let server = Arc::new(Server::default());
        let binding = shop
            .bind_service(
                "0.0.0.0:8080".parse().unwrap(),
                incarnations[0].owner(),
                Arc::new(Accept(Arc::clone(&server))),
            )
            .unwrap();
        let owner = incarnations[1].owner().clone();
        Bench {
            client: Client::new(mine, owner, cluster, Arc::default(), tasks),
            server,
            _incarnations: incarnations,
            _binding: binding,
            _shop: shop,
        }
    }

    async fn ask(client: &Client, method: Method, uri: &str) -> Result<String, WasiHttpError> {
        let body = Full::new(Bytes::from("order")).map_err(|never| match never {});
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.body(body.boxed_unsync()).unwrap();
        let response = client.send(request, RequestOptions::default(), 1).await?;
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn get(client: &Client, uri: &str) -> Result<String, WasiHttpError> {
        ask(client, Method::GET, uri).await
    }

    #[tokio::test]
    async fn a_dead_pod_is_not_its_callers_failure() {
        let bench = bench();
        for _ in 0..3 {
            bench.client.close();
            let answer = ask(&bench.client, Method::POST, "http://gone/").await;
            assert_eq!(
                answer.unwrap(),
                "sold",
                "nobody has seen it: always tried again"
            );
            bench.client.close();
            let answer = ask(&bench.client, Method::PUT, "http://flaky/").await;
            assert_eq!(answer.unwrap(), "sold", "twice is as good as once");
        }
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            bench.client.close();
            let answer = ask(&bench.client, Method::POST, "http://flaky/").await;
            outcomes.push(answer.is_ok());
        }
        outcomes.sort_unstable();
        assert_eq!(
            outcomes,
            [false, true],
            "it may have been done: not tried again"
        );
    }

    #[tokio::test]
    async fn services_are_reached_by_name_over_a_kept_connection() {
        let bench = bench();
        for path in ["/a", "/b?c=d", ""] {
            let answer = get(&bench.client, &format!("http://shop{path}")).await;
            assert_eq!(answer.unwrap(), "sold");
        }
        assert_eq!(bench.server.connections.load(Ordering::Relaxed), 1);
        let heads = bench.server.heads.lock().unwrap().clone();
        assert_eq!(heads[1], "/b?c=d Some(\"1\")");
        assert!(heads[2].starts_with("/ "));
        bench.client.close();
        get(&bench.client, "http://shop/").await.unwrap();
        assert_eq!(bench.server.connections.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_cannot_be_reached_has_its_error() {
        let bench = bench();
        let error = async |uri: &str| get(&bench.client, uri).await.unwrap_err();
        let cases = [
            ("http://shop:81/", "connection refused"),
            ("http://10.64.0.1:8080/", "connection refused"),
            ("http://localhost:1/", "connection refused"),
            ("http://198.51.100.1/", "HTTP request denied"),
            ("https://shop/", "https is not supported"),
        ];
        for (uri, words) in cases {
            let error = error(uri).await.to_string();
            assert!(error.contains(words), "{uri}: {error}");
        }
        assert!(matches!(
            error("http://nowhere/").await,
            WasiHttpError::DnsError { .. }
        ));
    }
}
