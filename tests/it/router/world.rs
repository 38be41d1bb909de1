//! A router, and workers that are one TCP listener each.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wasmorch::api::unseen::{RETRIABLE, Unseen};
use wasmorch::router::table::{Index, Key};
use wasmorch::router::tunnel::{self, Answer, Source};
use wasmorch::router::{Config, Limits, Router};
use wasmorch::tasks::TaskGroup;

const SECRET: &[u8] = b"wire secret";
const PATIENCE: Duration = Duration::from_secs(20);

/// What a pod does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Says what it was asked.
    Echo,
    EchoBody,
    /// Its worker is not there.
    Dead,
    /// Closes the connection when it has read a request.
    HangUp,
    /// Says that no guest has seen the request, because there is no room.
    TurnAway,
    /// The same, because the pod is gone.
    Gone,
    /// Never answers.
    Silent,
    /// Answers when released.
    Slow,
    /// Switches protocols and echoes; says bye at the end.
    Upgrade,
    /// Echoes bytes; says bye at the end.
    RawEcho,
    /// Wants to know each client, and says that it was told.
    Isolated,
    /// Lets nobody in.
    Closed,
}

struct State {
    behaviour: Behaviour,
    connections: AtomicUsize,
    seen: watch::Sender<usize>,
    left: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

/// A worker with one pod.
pub(super) struct Pod {
    wire: SocketAddr,
    state: Arc<State>,
    tasks: TaskGroup,
}

impl Pod {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = listener.local_addr().unwrap();
        let state = Arc::new(State {
            behaviour,
            connections: AtomicUsize::new(0),
            seen: watch::Sender::new(0),
            left: watch::Sender::new(0),
            released: watch::Sender::new(false),
        });
        let tasks = TaskGroup::new();
        if behaviour != Behaviour::Dead {
            let (state, group) = (Arc::clone(&state), tasks.clone());
            tasks.spawn("worker", async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let state = Arc::clone(&state);
                    group.spawn_contained("wire", serve(stream, state));
                }
            });
        }
        Self { wire, state, tasks }
    }

    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    pub(super) async fn wait_until_seen(&self) {
        wait(&self.state.seen, |seen| *seen > 0).await;
    }

    pub(super) async fn wait_until_left(&self) {
        wait(&self.state.left, |left| *left > 0).await;
    }

    pub(super) fn release(&self) {
        self.state.released.send_replace(true);
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

async fn wait<T>(sender: &watch::Sender<T>, reached: impl FnMut(&T) -> bool) {
    let mut receiver = sender.subscribe();
    let reached = receiver.wait_for(reached);
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap()
        .unwrap();
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let preamble = tunnel::read(&mut stream).await.unwrap();
    assert_eq!(preamble.secret, SECRET);
    assert!(preamble.target.ip().to_string().starts_with("10.64."));
    state.connections.fetch_add(1, Ordering::Relaxed);
    let said = match (state.behaviour, preamble.source) {
        (Behaviour::Isolated | Behaviour::Closed, Source::Requests) => Answer::Isolated,
        (Behaviour::Closed, Source::Peer(_)) => Answer::Denied,
        (_, Source::Peer(client)) => {
            assert!(client.ip().is_loopback(), "{client}");
            Answer::Ok
        }
        (_, Source::Requests) => Answer::Ok,
    };
    stream.write_all(&[said.code()]).await.unwrap();
    if said != Answer::Ok {
        return;
    }
    match state.behaviour {
        Behaviour::RawEcho => return echo(stream).await,
        Behaviour::HangUp => {
            read_head(&mut stream).await;
            state.seen.send_modify(|seen| *seen += 1);
            return;
        }
        _ => {}
    }
    let service = service_fn(|request| answer(request, Arc::clone(&state)));
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

/// Counts a request that ends without an answer.
struct Left(Option<Arc<State>>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.left.send_modify(|left| *left += 1);
        }
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed(),
    )
}

async fn answer(
    mut request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Body>, Infallible> {
    state.seen.send_modify(|seen| *seen += 1);
    let mut left = Left(Some(Arc::clone(&state)));
    let response = match state.behaviour {
        Behaviour::EchoBody => Response::new(request.into_body().boxed()),
        Behaviour::TurnAway | Behaviour::Gone => {
            let mut response = text("no\n");
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let why = if state.behaviour == Behaviour::Gone {
                Unseen::Gone
            } else {
                Unseen::Busy
            };
            response.headers_mut().insert(RETRIABLE, why.value());
            response
        }
        Behaviour::Silent => std::future::pending().await,
        Behaviour::Slow => {
            wait(&state.released, |released| *released).await;
            text("done")
        }
        Behaviour::Upgrade => {
            let upgraded = hyper::upgrade::on(&mut request);
            TaskGroup::new().spawn("upgraded", async move {
                echo(TokioIo::new(upgraded.await.unwrap())).await;
            });
            let mut response = text("");
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert("connection", "upgrade".parse().unwrap());
            headers.insert("upgrade", "websocket".parse().unwrap());
            response
        }
        Behaviour::Echo
        | Behaviour::Dead
        | Behaviour::HangUp
        | Behaviour::RawEcho
        | Behaviour::Isolated
        | Behaviour::Closed => {
            let header = |name| {
                request
                    .headers()
                    .get(name)
                    .map_or("-", |it| it.to_str().unwrap())
            };
            text(format!(
                "{} {} from {} host {}",
                request.method(),
                request.uri(),
                header("x-forwarded-for"),
                header("host"),
            ))
        }
    };
    left.0 = None;
    Ok(response)
}

async fn echo(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.write_all(b"bye").await.unwrap();
    writer.shutdown().await.unwrap();
}

/// How a world differs from the usual one.
pub(super) struct WorldOptions {
    pub(super) head_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) publish: bool,
}

impl Default for WorldOptions {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            head_timeout: limits.head_timeout,
            response_timeout: limits.response_timeout,
            data_dir: None,
            publish: true,
        }
    }
}

/// A running router in front of pods; the services are in namespace `shop`.
pub(super) struct World {
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) pods: Vec<Pod>,
    pub(super) tasks: TaskGroup,
    pub(super) router_tasks: TaskGroup,
    services: Vec<String>,
    /// The node port of each service.
    node_ports: HashMap<String, u16>,
    front: Arc<wasmorch::router::Front>,
}

impl World {
    pub(super) async fn start(services: &[(&str, &[Behaviour])]) -> Self {
        Self::start_with(services, WorldOptions::default()).await
    }

    pub(super) async fn start_with(
        services: &[(&str, &[Behaviour])],
        options: WorldOptions,
    ) -> Self {
        let limits = Limits {
            head_timeout: options.head_timeout,
            response_timeout: options.response_timeout,
            ..Limits::default()
        };
        let config = Config {
            http: "127.0.0.1:0".parse().unwrap(),
            lanes: 2,
            limits,
            data_dir: options.data_dir,
            ..Config::default()
        };
        let router = Router::bind(config).unwrap();
        router.front().dialer.set_secret(SECRET.to_vec());
        let mut pods = Vec::new();
        let mut ready = Vec::new();
        let mut node_ports = HashMap::new();
        for (name, behaviours) in services {
            let first = pods.len();
            for behaviour in *behaviours {
                pods.push(Pod::start(*behaviour).await);
            }
            ready.push((*name, (first..pods.len()).collect::<Vec<_>>()));
            node_ports.insert((*name).to_owned(), free_port());
        }
        let tasks = TaskGroup::new();
        let world = Self {
            http: router.http_address(),
            admin: router.admin_address(),
            pods,
            router_tasks: tasks.child(),
            tasks,
            services: services
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            node_ports,
            front: Arc::clone(router.front()),
        };
        if options.publish {
            let ready: Vec<_> = ready
                .iter()
                .map(|(name, pods)| (*name, &pods[..]))
                .collect();
            world.publish(&ready);
        }
        let group = world.router_tasks.clone();
        world.tasks.spawn("router", async move {
            router.run(None, &group).await.unwrap();
        });
        let url = format!("http://{}/healthz", world.admin);
        let health = reqwest::get(url);
        tokio::time::timeout(PATIENCE, health)
            .await
            .unwrap()
            .unwrap();
        world
    }

    /// Publishes the services with these pods ready; a service that is not named is gone.
    pub(super) fn publish(&self, ready: &[(&str, &[usize])]) {
        let mut index = Index::default();
        for (number, pod) in self.pods.iter().enumerate() {
            let name = format!("node-{number}");
            index.set_node(&name, Some(&node(&pod.wire)));
        }
        for (name, pods) in ready {
            let number = self.services.iter().position(|it| it == name).unwrap();
            let service: Service = serde_json::from_value(json!({
                "metadata": {},
                "spec": {
                    "type": "NodePort",
                    "clusterIP": format!("10.43.0.{number}"),
                    "ports": [{
                        "port": 80,
                        "name": if *name == "db" { "db" } else { "http" },
                        "nodePort": self.node_ports[*name],
                    }],
                },
            }))
            .unwrap();
            let key = Key::new("shop", name);
            index.set_service(&key, Some(&service));
            index.set_endpoint_slice(&key, Some(&slice(name, pods)));
        }
        self.front.publish(index.table());
    }

    pub(super) fn port(&self) -> u16 {
        self.http.port()
    }

    pub(super) fn url(&self, service: &str, path: &str) -> String {
        format!("http://{service}.shop.localhost:{}{path}", self.port())
    }

    /// A client that finds every host on this machine.
    pub(super) fn client(&self) -> reqwest::Client {
        let mut builder = reqwest::Client::builder();
        for name in ["web", "db", "empty", "gone"] {
            builder = builder.resolve(&format!("{name}.shop.localhost"), self.http);
        }
        builder.resolve("example.com", self.http).build().unwrap()
    }

    pub(super) async fn get(&self, service: &str, path: &str) -> reqwest::Response {
        self.get_host(&format!("{service}.shop.localhost"), path)
            .await
    }

    pub(super) async fn get_host(&self, host: &str, path: &str) -> reqwest::Response {
        let request = self.client().get(format!("http://{}{path}", self.http));
        request.header("host", host).send().await.unwrap()
    }

    pub(super) async fn post(&self, service: &str, body: Vec<u8>) -> reqwest::Response {
        let request = reqwest::Client::new().post(format!("http://{}/", self.http));
        let request = request.header("host", format!("{service}.shop.localhost"));
        request.body(body).send().await.unwrap()
    }

    pub(super) fn node_port(&self, service: &str) -> SocketAddr {
        SocketAddr::new(self.http.ip(), self.node_ports[service])
    }

    /// Requests that pods have seen.
    pub(super) fn seen(&self) -> usize {
        self.pods.iter().map(|pod| *pod.state.seen.borrow()).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn node(wire: &SocketAddr) -> Node {
    let annotations = json!({ "wasmorch.dev/wire-address": wire.to_string() });
    let object = json!({ "metadata": { "annotations": annotations } });
    serde_json::from_value(object).unwrap()
}

fn slice(service: &str, pods: &[usize]) -> EndpointSlice {
    let endpoints = pods.iter().map(|number| {
        json!({
            "addresses": [format!("10.64.0.{number}")],
            "conditions": { "ready": true },
            "nodeName": format!("node-{number}"),
        })
    });
    let endpoints: Vec<Value> = endpoints.collect();
    let port = if service == "db" { "db" } else { "http" };
    let object = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": port, "port": 8080 }],
    });
    serde_json::from_value(object).unwrap()
}

/// Writes what an earlier router would have kept: service `web` with one pod.
pub(super) fn write_routes(directory: &Path, pod: &Pod) {
    let with_name = |mut object: Value, namespace: Option<&str>, name: &str| {
        object["metadata"]["name"] = json!(name);
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object
    };
    let service = json!({ "metadata": {}, "spec": { "ports": [{ "port": 80, "name": "http" }] } });
    let slice = serde_json::to_value(slice("web", &[0])).unwrap();
    let node = serde_json::to_value(node(&pod.wire)).unwrap();
    let kept = json!({
        "services": [with_name(service, Some("shop"), "web")],
        "slices": [with_name(slice, Some("shop"), "web-1")],
        "nodes": [with_name(node, None, "node-0")],
        "ingresses": [],
        "secret": SECRET,
    });
    std::fs::write(directory.join("routes.json"), kept.to_string()).unwrap();
}

/// Reads up to the empty line.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tokio::time::timeout(PATIENCE, stream.read_u8())
            .await
            .unwrap()
        {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head)
        .unwrap()
        .to_ascii_lowercase()
        .replacen("http", "HTTP", 1)
}

/// Connects as soon as somebody listens.
pub(super) async fn connect(addr: SocketAddr) -> TcpStream {
    let connecting = async {
        loop {
            match TcpStream::connect(addr).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, connecting).await.unwrap()
}

/// Waits until nobody listens.
pub(super) async fn refused(addr: SocketAddr) {
    let refusing = async { while TcpStream::connect(addr).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refusing).await.unwrap();
}
