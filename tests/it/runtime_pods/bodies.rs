//! Bodies that stream both ways, their trailers, and clients that leave: both versions of handlers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use wasmorch::runtime::spec::LogSink;
use wasmorch::runtime::{ContainerHandle, PodSandbox};
use wasmorch::tasks::TaskGroup;

use super::bench::{Bench, Log, container, until, within};
use super::echoes::{echo2, echo3};
use super::guests::SPIN;

const CHUNK: usize = 64 << 10;

struct Served {
    _bench: Bench,
    pod: Arc<PodSandbox>,
    container: ContainerHandle,
    log: Arc<Log>,
}

async fn serve(bench: Bench, text: &str) -> Served {
    let pod = bench.pod("10.64.0.80");
    let artifact = bench.wat(text).await;
    let log = Arc::new(Log::default());
    let sink = Arc::clone(&log) as Arc<dyn LogSink>;
    let container = pod.start(container("web", &[]), artifact, sink).unwrap();
    Served {
        _bench: bench,
        pod,
        container,
        log,
    }
}

/// `chunks` pieces that tell their place, and a trailer.
fn upload(chunks: usize) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> {
    let data = (0..chunks).map(|at| Frame::data(Bytes::from(vec![at as u8; CHUNK])));
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("x-sum"),
        http::HeaderValue::from(chunks),
    )]);
    let frames = data.chain([Frame::trailers(trailers)]).map(Ok);
    StreamBody::new(futures::stream::iter(frames))
}

/// A request over the pod's own network, as a container of the pod would send it.
async fn post(
    served: &Served,
    chunks: usize,
    tasks: &TaskGroup,
) -> http::Response<hyper::body::Incoming> {
    let conn = served.pod.dial(8080).unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(conn)).await.unwrap();
    tasks.spawn_contained("client", async move {
        // A failure is the response's.
        let _ = connection.await;
    });
    let request = http::Request::post("/")
        .header("host", "web")
        .header("te", "trailers")
        .header("trailer", "x-sum");
    let sent = sender.send_request(request.body(upload(chunks)).unwrap());
    let answer = within(sent).await.unwrap();
    assert_eq!(answer.status(), 200, "{}", served.log.text());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_go_through_in_bounded_memory() {
    for text in [echo2(), echo3("")] {
        let served = serve(Bench::new(), &text).await;
        let tasks = TaskGroup::new();
        let chunks = (100 << 20) / CHUNK;
        let mut body = post(&served, chunks, &tasks).await.into_body();
        let (mut length, mut most) = (0, 0);
        while let Some(frame) = within(body.frame()).await {
            let Ok(data) = frame.unwrap().into_data() else {
                continue;
            };
            let is_right = |(at, byte): (usize, &u8)| *byte == ((length + at) / CHUNK) as u8;
            let wrong = data
                .iter()
                .enumerate()
                .step_by(1023)
                .find(|it| !is_right(*it));
            assert_eq!(wrong, None, "at {length} of {}", data.len());
            length += data.len();
            most = most.max(served.pod.stats().memory_bytes);
        }
        assert_eq!(length, 100 << 20, "{}", served.log.text());
        assert!(most < 4 << 20, "{most} bytes");
        until("done", || served.container.stats().in_flight == 0).await;
        assert_eq!(served.container.stats().requests_failed, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_go_both_ways() {
    let tasks = TaskGroup::new();
    for text in [echo2(), echo3("")] {
        let served = serve(Bench::new(), &text).await;
        let answer = post(&served, 2, &tasks).await;
        let collected = within(answer.into_body().collect()).await.unwrap();
        assert_eq!(
            collected.trailers().unwrap()["x-sum"],
            "2",
            "{}",
            served.log.text()
        );
        assert_eq!(collected.to_bytes().len(), 2 * CHUNK);
    }

    // HTTP/2 needs no declaration.
    for text in [echo2(), echo3("")] {
        let served = serve(Bench::new(), &text).await;
        let (mut sender, connection) = {
            let conn = served.pod.dial(8080).unwrap();
            hyper::client::conn::http2::handshake(tasks.executor("client"), TokioIo::new(conn))
                .await
                .unwrap()
        };
        tasks.spawn_contained("client", async move {
            let _ = connection.await;
        });
        let request = http::Request::post("http://web/").body(upload(3)).unwrap();
        let answer = within(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), 200, "{}", served.log.text());
        let collected = within(answer.into_body().collect()).await.unwrap();
        assert_eq!(
            collected.trailers().unwrap()["x-sum"],
            "3",
            "{}",
            served.log.text()
        );
        assert_eq!(collected.to_bytes().len(), 3 * CHUNK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_ends_the_guest_of_either_version() {
    for text in [echo2(), echo3("")] {
        let served = serve(Bench::new(), &text).await;
        let mut conn = served.pod.dial(8080).unwrap();
        let head = b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 1000000\r\n\r\nhello";
        conn.write_all(head).await.unwrap();
        let in_flight = || served.container.stats().in_flight;
        until("the guest waits for more", || in_flight() == 1).await;
        drop(conn);
        until("the guest is gone", || in_flight() == 0).await;
    }
    let served = serve(Bench::new(), &echo3(&format!("{SPIN} drop"))).await;
    let mut conn = served.pod.dial(8080).unwrap();
    conn.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
        .await
        .unwrap();
    let stats = || served.container.stats();
    until("the guest computes", || stats().in_flight == 1).await;
    drop(conn);
    until("the guest is gone", || stats().in_flight == 0).await;
    assert_eq!(stats().memory_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_may_say_how_long_its_handler_may_take() {
    for text in [
        super::guests::handler(&format!("{SPIN} drop")),
        echo3(&format!("{SPIN} drop")),
    ] {
        let bench = Bench::new();
        let mut spec = super::bench::pod_spec("10.64.0.80");
        spec.request_timeout = Some(Duration::from_millis(200));
        let pod = bench.runtime.create_sandbox(spec).unwrap();
        let log: Arc<dyn LogSink> = Arc::new(Log::default());
        pod.start(container("web", &[]), bench.wat(&text).await, log)
            .unwrap();
        let handler = pod.http_handler(8080).unwrap();
        let request = http::Request::get("/").body(wasmorch::runtime::http::Body::empty());
        let error = within(handler.call(request.unwrap())).await.unwrap_err();
        assert_eq!(error.status(), 504, "{error}");
        assert!(error.to_string().contains("200ms"), "{error}");
    }
}
