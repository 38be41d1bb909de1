//! Requests that are large: through the router, the wire and a handler, each a process of its own.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use wasmorch::tasks::TaskGroup;

use crate::cluster::{Cluster, PATIENCE, until};
use crate::runtime_pods::echoes::{echo2, echo3};
use crate::runtime_pods::guests::{SPIN, handler};

const CHUNK: usize = 64 << 10;
const LARGE: usize = 256 << 20;
/// What a process may grow by while it passes `LARGE` on.
const GROWTH: u64 = 32 << 20;

/// A Pod and its Service, of a program in text form.
pub(super) async fn run(cluster: &Cluster, name: &str, text: &str) {
    let file = cluster.root().join(format!("{name}.wasm"));
    std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
    cluster.wasmorch(&["push", file.to_str().unwrap(), "--name", name]);
    cluster.apply(&format!(
        r"
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{ app: {name} }}
  annotations: {{ wasmorch.dev/request-timeout: 10m }}
spec:
  containers: [{{ name: main, image: {name}, ports: [{{ containerPort: 8080 }}] }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec:
  selector: {{ app: {name} }}
  ports: [{{ name: http, port: 80, targetPort: 8080 }}]
"
    ));
    until("the pod to be ready", async || {
        let ready = cluster.wasmorch(&["get", "pod", name]);
        ready.contains("1/1").then_some(())
    })
    .await;
}

pub(super) async fn send<B>(
    cluster: &Cluster,
    name: &str,
    body: B,
    tasks: &TaskGroup,
) -> http::Response<Incoming>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    request(cluster, http::Request::post("/"), name, body, tasks).await
}

async fn request<B>(
    cluster: &Cluster,
    request: http::request::Builder,
    name: &str,
    body: B,
    tasks: &TaskGroup,
) -> http::Response<Incoming>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(cluster.ingress()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tasks.spawn_contained("client", async move {
        // A failure is the response's.
        let _ = connection.await;
    });
    let request = request.header("host", format!("{name}.default.localhost"));
    sender
        .send_request(request.body(body).unwrap())
        .await
        .unwrap()
}

pub(super) fn memory(pid: u64, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_the_router_both_ways() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    let tasks = TaskGroup::new();
    for (name, text) in [("echo2", echo2()), ("echo3", echo3(""))] {
        run(&cluster, name, &text).await;
        let collected = until("an answer", async || {
            let head = http::Request::post("/")
                .header("te", "trailers")
                .header("trailer", "x-sum");
            let trailers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("x-sum"),
                http::HeaderValue::from_static("7"),
            )]);
            let frames = [
                Frame::data(Bytes::from_static(b"body")),
                Frame::trailers(trailers),
            ];
            let body = StreamBody::new(futures::stream::iter(frames.map(Ok)));
            let answer = request(&cluster, head, name, body, &tasks).await;
            let is_good = answer.status() == 200;
            let collected = answer.into_body().collect().await.unwrap();
            is_good.then_some(collected)
        })
        .await;
        let trailers = collected.trailers().cloned();
        assert_eq!(trailers.unwrap()["x-sum"], "7", "{name}");
        assert_eq!(collected.to_bytes(), "body", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_megabytes_pass_in_bounded_memory() {
    let cluster = Cluster::start(&[]).await;
    let tasks = TaskGroup::new();
    let processes = ["router", "dev-1", "dev-2", "dev-3"].map(|name| cluster.pid(name));
    for (name, text) in [("echo2", echo2()), ("echo3", echo3(""))] {
        run(&cluster, name, &text).await;
        until("the router to know the service", async || {
            let answer = send(&cluster, name, Empty::new(), &tasks).await;
            (answer.status() == 200).then_some(())
        })
        .await;
        let before = processes.map(|pid| {
            // Forgets the most it ever had.
            std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
            memory(pid, "VmRSS:")
        });
        let chunk = Bytes::from(vec![b'x'; CHUNK]);
        let frames = (0..LARGE / CHUNK).map(move |_| Ok(Frame::data(chunk.clone())));
        let upload = StreamBody::new(futures::stream::iter(frames));
        let passing = async {
            let answer = send(&cluster, name, upload, &tasks).await;
            assert_eq!(answer.status(), 200);
            let (mut body, mut length) = (answer.into_body(), 0);
            while let Some(frame) = body.frame().await {
                length += frame.unwrap().into_data().map_or(0, |data| data.len());
            }
            assert_eq!(length, LARGE);
        };
        cluster.wait_within(PATIENCE, "echo", passing).await;
        for (pid, before) in processes.into_iter().zip(before) {
            let growth = memory(pid, "VmHWM:").saturating_sub(before);
            assert!(growth < GROWTH, "{name}: {pid} grew by {growth} bytes");
        }
    }
}

/// Requests in progress in the pod's container, as its worker counts them.
async fn in_flight(cluster: &Cluster, pod: &str) -> Option<u64> {
    let path = "/api/v1/nodes/dev-1/proxy/stats/summary";
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let text = cluster.client.request_text(request).await.unwrap();
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pods = summary["pods"].as_array()?;
    let pod = pods.iter().find(|each| each["podRef"]["name"] == pod)?;
    pod["containers"][0]["requests"]["inFlight"].as_u64()
}

async fn ask(cluster: &Cluster, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(cluster.ingress()).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_stops_a_guest_that_computes() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    let spin2 = handler(&format!("{SPIN} drop"));
    let spin3 = echo3(&format!("{SPIN} drop"));
    for (name, text) in [("spin2", spin2), ("spin3", spin3)] {
        run(&cluster, name, &text).await;
        let request = format!("GET / HTTP/1.1\r\nhost: {name}.default.localhost\r\n\r\n");
        // Until the router knows the service it answers by itself, and the request is made anew.
        let mut client = ask(&cluster, &request).await;
        until("the guest to compute", async || {
            if in_flight(&cluster, name).await == Some(1) {
                return Some(());
            }
            if client.try_read(&mut [0]).is_ok() {
                client = ask(&cluster, &request).await;
            }
            None
        })
        .await;
        drop(client);
        until("the guest to be stopped", async || {
            (in_flight(&cluster, name).await == Some(0)).then_some(())
        })
        .await;
    }
}
