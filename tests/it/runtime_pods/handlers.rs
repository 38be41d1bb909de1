//! Programs that answer: what a caller gets, and what becomes of the guest.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wasmorch::api::unseen::Unseen;
use wasmorch::runtime::http::{Body, Error, Handler};
use wasmorch::runtime::spec::{ExitReason, LogSink};
use wasmorch::runtime::{ContainerHandle, PodSandbox};

use super::bench::{Bench, Log, container, ended, until, within};
use super::guests::{ANSWER, ENDLESS, HOG, SPIN, handler};

struct Served {
    bench: Bench,
    pod: Arc<PodSandbox>,
    container: ContainerHandle,
    handler: Arc<Handler>,
    log: Arc<Log>,
}

async fn serve(bench: Bench, code: &str) -> Served {
    let pod = bench.pod("10.64.0.80");
    let artifact = bench.wat(&handler(code)).await;
    let log = Arc::new(Log::default());
    let sink = Arc::clone(&log) as Arc<dyn LogSink>;
    let container = pod.start(container("web", &[]), artifact, sink).unwrap();
    let handler = pod.http_handler(8080).unwrap();
    Served {
        bench,
        pod,
        container,
        handler,
        log,
    }
}

async fn get(handler: &Arc<Handler>) -> Result<http::Response<Body>, Error> {
    within(handler.call(http::Request::get("/page").body(Body::empty()).unwrap())).await
}

async fn text(body: Body) -> Result<String, Error> {
    let bytes = within(body.collect()).await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_answers_calls_and_connections_and_drains_when_stopped() {
    let served = serve(Bench::new(), ANSWER).await;
    for _ in 0..3 {
        let response = get(&served.handler).await.unwrap();
        assert_eq!(response.status(), 200);
        // Sent in one piece, with its length.
        assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(6));
        assert_eq!(text(response.into_body()).await.unwrap(), "hello\n");
    }
    let mut conn = served.pod.dial(8080).unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    conn.write_all(request).await.unwrap();
    let mut answer = String::new();
    within(conn.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-length: 6\r\n") && answer.ends_with("\r\n\r\nhello\n"));

    let stats = served.container.stats();
    assert_eq!(
        (stats.requests, stats.requests_failed, stats.in_flight),
        (4, 0, 0)
    );
    assert_eq!(stats.memory_bytes, 0);
    assert!(stats.cpu > Duration::ZERO && stats.memory_peak_bytes > 0);
    served.container.stop();
    let exit = ended(&served.container).await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Completed));
    assert!(served.pod.dial(8080).is_err() && served.pod.http_handler(8080).is_none());
    let late = get(&served.handler).await.unwrap_err();
    assert!(matches!(late, Error::Stopping) && late.unseen() == Some(Unseen::Gone));
    assert!(served.log.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_guest_is_a_status_for_the_client_and_words_in_the_log() {
    let cases = [
        ("unreachable", 502, "unreachable"),
        ("", 502, "returned without a response"),
        (
            &format!("{SPIN} drop") as &str,
            504,
            "no response within 300ms",
        ),
        (HOG, 502, "memory limit 256Mi"),
        // A trap after the head, before anything was sent.
        (
            "(call $begin (local.get $out)) (drop (call $write)) unreachable",
            502,
            "unreachable",
        ),
    ];
    for (code, status, words) in cases {
        let bench = Bench::tuned(|tuning| tuning.request_deadline = Duration::from_millis(300));
        let served = serve(bench, code).await;
        let error = get(&served.handler).await.unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        let log = served.log.text();
        assert!(
            log.starts_with("wasmorch: GET /page failed: ") && log.contains(words),
            "{log}"
        );
        let stats = served.container.stats();
        assert_eq!(
            (stats.requests_failed, stats.in_flight, stats.memory_bytes),
            (1, 0, 0)
        );
        // The container lives on; the next request has a fresh instance.
        assert!(served.container.exit().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_ends_the_guest_and_so_does_a_kill() {
    let served = serve(Bench::new(), ENDLESS).await;
    let mut body = get(&served.handler).await.unwrap().into_body();
    let frame = within(body.frame()).await.unwrap().unwrap();
    assert!(frame.into_data().unwrap().starts_with(b"hello\n"));
    assert_eq!(served.container.stats().in_flight, 1);
    drop(body);
    assert_eq!(served.container.stats().in_flight, 0);

    let body = get(&served.handler).await.unwrap().into_body();
    // A client that never reads holds the exit up for a moment, not for ever.
    let unread = get(&served.handler).await.unwrap();
    served.container.kill();
    assert!(matches!(text(body).await, Err(Error::Killed)));
    let exit = ended(&served.container).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Killed));
    drop(unread);
    assert_eq!(
        served.pod.stats().memory_bytes,
        served.bench.pod("10.64.0.9").stats().memory_bytes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_ends_the_guest_also_while_it_computes() {
    let served = serve(Bench::new(), &format!("{SPIN} drop")).await;
    let mut conn = served.pod.dial(8080).unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    conn.write_all(request).await.unwrap();
    let in_flight = || served.container.stats().in_flight;
    until("the guest computes", || in_flight() == 1).await;
    drop(conn);
    until("the guest is gone", || in_flight() == 0).await;
    assert_eq!(served.container.stats().memory_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_as_many_requests_as_the_container_says() {
    // Each request is answered with one line more than the one before in the same instance.
    let code = "(i32.store (i32.const 5000) (i32.add (i32.load (i32.const 5000)) (i32.const 1)))
      (i32.store (i32.const 5004) (i32.load (i32.const 5000)))
      (call $begin (local.get $out))
      (loop $l
        (drop (call $write))
        (i32.store (i32.const 5004) (i32.sub (i32.load (i32.const 5004)) (i32.const 1)))
        (br_if $l (i32.load (i32.const 5004))))
      (call $end)";
    for (reuse, lines) in [(1, [1, 1, 1, 1]), (3, [1, 2, 3, 1])] {
        let bench = Bench::new();
        let pod = bench.pod("10.64.0.80");
        let artifact = bench.wat(&handler(code)).await;
        let mut spec = container("web", &[]);
        spec.instance_reuse = reuse;
        let sink: Arc<dyn LogSink> = Arc::new(Log::default());
        pod.start(spec, artifact, sink).unwrap();
        let handler = pod.http_handler(8080).unwrap();
        for expected in lines {
            let body = get(&handler).await.unwrap().into_body();
            assert_eq!(text(body).await.unwrap().lines().count(), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_there_is_room_for_are_refused_and_may_go_elsewhere() {
    let bench = Bench::tuned(|tuning| tuning.handler_concurrency = 2);
    let served = serve(bench, ENDLESS).await;
    let bodies = [
        get(&served.handler).await.unwrap().into_body(),
        get(&served.handler).await.unwrap().into_body(),
    ];
    let error = get(&served.handler).await.unwrap_err();
    assert_eq!(error.status(), 503);
    assert_eq!(error.unseen(), Some(Unseen::Busy), "{error}");
    drop(bodies);
    get(&served.handler).await.unwrap();
    until("nothing is left", || {
        served.container.stats().in_flight == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_went_round_too_often_is_a_loop() {
    let served = serve(Bench::new(), ANSWER).await;
    let call = async |hops: &str| {
        let request = http::Request::get("/").header("x-wasmorch-hops", hops);
        within(served.handler.call(request.body(Body::empty()).unwrap())).await
    };
    assert!(call("16").await.is_ok());
    assert_eq!(call("17").await.unwrap_err().status(), 508);
    assert_eq!(call("many").await.unwrap_err().status(), 400);
}
