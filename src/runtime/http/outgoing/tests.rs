//! The rules of asking again, against a cluster of three lines.

mod trailers;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio_rustls::rustls;

use super::*;
use crate::runtime::budget::Budget;
use crate::runtime::net::{
    Conn, ConnService, Duplex, Fabric, FabricConfig, Incarnation, PodNetConfig, Rules,
    ServiceBinding,
};

/// `shop` is well; every other pod of `flaky` breaks connections off when it has read, every
/// other pod of `gone` refuses them; the first answers for `behind` name a pod that is no more.
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
        let services = [
            ("shop", 1),
            ("flaky", 2),
            ("gone", 3),
            ("behind", 4),
            ("secure", 5),
            ("impostor", 5),
        ];
        let (_, last) = services.into_iter().find(|(known, _)| *known == name)?;
        Some(vec![IpAddr::from([10, 43, 0, last])])
    }

    fn route(&self, _from: IpAddr, to: SocketAddr, _protocol: Protocol) -> Route {
        match to.to_string().as_str() {
            "10.43.0.4:80" if self.0.fetch_add(1, Ordering::Relaxed) < 20 => {
                Route::Pod("10.64.7.3:8080".parse().unwrap())
            }
            "10.43.0.1:80" | "10.43.0.4:80" | "10.43.0.5:80" => {
                Route::Pod("10.64.0.2:8080".parse().unwrap())
            }
            "10.43.0.5:443" => Route::Pod("10.64.0.2:8443".parse().unwrap()),
            "10.43.0.2:80" => self.in_turn("10.64.7.1:8080"),
            "10.43.0.3:80" => self.in_turn("10.64.7.2:8080"),
            "10.64.7.1:8080" | "10.64.7.2:8080" | "10.64.7.3:8080" => Route::Pod(to),
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
            match to.to_string().as_str() {
                "10.64.7.1:8080" => {}
                "10.64.7.3:8080" => return Err(std::io::ErrorKind::HostUnreachable.into()),
                _ => return Err(std::io::ErrorKind::ConnectionRefused.into()),
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

impl Server {
    async fn serve(&self, stream: impl Duplex + 'static) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let heads = Arc::clone(&self.heads);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            if request.uri() == "/echo" {
                let response = http::Response::builder().header("trailer", "x-sum");
                return ready(Ok(response.body(request.into_body().boxed()).unwrap()));
            }
            let hops = request.headers().get(HOPS).cloned();
            heads
                .lock()
                .unwrap()
                .push(format!("{} {hops:?}", request.uri()));
            let sold = Full::new(Bytes::from("sold")).map_err(|never| match never {});
            ready(Ok::<_, Infallible>(http::Response::new(sold.boxed())))
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        let _ = serving.await;
    }
}

impl ConnService for Accept {
    fn accept(&self, conn: Conn) {
        let server = Arc::clone(&self.0);
        self.0
            .tasks
            .spawn_contained("server", async move { server.serve(conn).await });
    }
}

struct Bench {
    client: Arc<Client>,
    server: Arc<Server>,
    _incarnations: [Incarnation; 2],
    _bindings: [ServiceBinding; 2],
    shop: Arc<PodNet>,
}

/// Signs the server's certificate.
fn authority() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["secure".to_owned(), "10.64.0.2".to_owned()]).unwrap()
}

/// The same server behind TLS.
struct AcceptTls(Accept, tokio_rustls::TlsAcceptor);

impl AcceptTls {
    fn new(server: &Arc<Server>, authority: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Self {
        let key = rustls_pki_types::PrivateKeyDer::try_from(authority.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![authority.cert.der().clone()], key.unwrap());
        Self(Accept(Arc::clone(server)), Arc::new(config.unwrap()).into())
    }
}

impl ConnService for AcceptTls {
    fn accept(&self, conn: Conn) {
        let (acceptor, server) = (self.1.clone(), Arc::clone(&self.0.0));
        self.0.0.tasks.spawn_contained("tls server", async move {
            if let Ok(stream) = acceptor.accept(conn).await {
                server.serve(stream).await;
            }
        });
    }
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
            8080,
            incarnations[0].owner(),
            Arc::new(Accept(Arc::clone(&server))),
        )
        .unwrap();
    let authority = authority();
    let secure = shop
        .bind_service(
            8443,
            incarnations[0].owner(),
            Arc::new(AcceptTls::new(&server, &authority)),
        )
        .unwrap();
    let owner = incarnations[1].owner().clone();
    let tls = Arc::new(Tls::new(vec![authority.cert.der().clone()]));
    Bench {
        client: Client::new(
            mine,
            owner,
            Calls::new(Budget::new(100)),
            Shared {
                cluster,
                pods: Arc::default(),
                tasks,
                tls,
            },
        ),
        server,
        _incarnations: incarnations,
        _bindings: [binding, secure],
        shop,
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
async fn a_table_that_is_behind_is_not_its_callers_failure() {
    let bench = bench();
    let answer = ask(&bench.client, Method::POST, "http://behind/").await;
    assert_eq!(answer.unwrap(), "sold", "a newer table was waited for");
    for (uri, is_waited_for) in [
        ("http://10.64.7.2:8080/", false),
        ("http://10.64.7.3:8080/", true),
    ] {
        let began = std::time::Instant::now();
        let error = get(&bench.client, uri).await.unwrap_err();
        assert!(matches!(error, WasiHttpError::ConnectionRefused), "{error}");
        let waited = began.elapsed() >= std::time::Duration::from_secs(2);
        assert_eq!(waited, is_waited_for, "{uri}");
    }
}

/// Guests write their empty body after the request is under way, and some look at what became of
/// that before they look for the answer.
#[tokio::test]
async fn a_body_may_be_said_after_the_answer_or_the_failure() {
    let bench = bench();
    for uri in ["http://shop/", "http://nowhere/", "https://shop/"] {
        let (said, body) = futures::channel::mpsc::unbounded();
        let body = http_body_util::StreamBody::new(body).boxed_unsync();
        let request = http::Request::get(uri).header("content-length", "0");
        let request = request.body(body).unwrap();
        let _ = bench
            .client
            .send(request, RequestOptions::default(), 1)
            .await;
        let late = said.unbounded_send(Ok(http_body::Frame::data(Bytes::new())));
        assert!(late.is_ok(), "{uri}: nobody listens any more");
    }
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
        ("https://shop/", "connection refused"),
        ("https://198.51.100.1:80/", "HTTP request denied"),
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

#[tokio::test]
async fn https_is_spoken_by_the_host_and_certificates_are_checked() {
    let bench = bench();
    for path in ["/a", "/b"] {
        let answer = get(&bench.client, &format!("https://secure{path}")).await;
        assert_eq!(answer.unwrap(), "sold");
    }
    assert_eq!(bench.server.connections.load(Ordering::Relaxed), 1);
    // A kept connection is good for its own name and scheme only.
    get(&bench.client, "http://secure/").await.unwrap();
    assert_eq!(bench.server.connections.load(Ordering::Relaxed), 2);
    let error = get(&bench.client, "https://impostor/").await.unwrap_err();
    assert!(
        matches!(error, WasiHttpError::TlsCertificateError),
        "{error}"
    );
    let error = get(&bench.client, "https://secure:80/").await.unwrap_err();
    assert!(
        !matches!(error, WasiHttpError::TlsCertificateError),
        "{error}"
    );
}

#[tokio::test]
async fn rules_are_asked_for_each_request_also_over_a_kept_connection() {
    let bench = bench();
    let rules = |ingress, egress| Some(Arc::new(Rules { ingress, egress }));
    assert_eq!(get(&bench.client, "http://shop/").await.unwrap(), "sold");
    bench.client.net.set_rules(rules(None, Some(Vec::new())));
    for uri in ["http://shop/", "http://198.51.100.1/"] {
        let error = get(&bench.client, uri).await.unwrap_err();
        assert!(matches!(error, WasiHttpError::HttpRequestDenied), "{error}");
    }
    bench.client.net.set_rules(None);
    bench.shop.set_rules(rules(Some(Vec::new()), None));
    bench.client.close();
    let error = get(&bench.client, "http://shop/").await.unwrap_err();
    assert!(matches!(error, WasiHttpError::ConnectionRefused), "{error}");
    bench.shop.set_rules(None);
    assert_eq!(get(&bench.client, "http://shop/").await.unwrap(), "sold");
}
