//! Requests: responses that never end, more in progress than may be.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use wasmorch::api::unseen::Unseen;
use wasmorch::runtime::http::Body;
use wasmorch::runtime::spec::LogSink;
use wasmorch::tasks::TaskGroup;

use super::arena::{Arena, start};
use crate::runtime_pods::bench::{Log, container, ended, until, within};
use crate::runtime_pods::calls::caller;
use crate::runtime_pods::guests::{ENDLESS, HOG, SPIN, handler};

const PLACES: u32 = 6;
const CALLS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_never_end_take_their_own_places_and_end_with_their_readers() {
    // The pool has 16 slots, of which one container gets six.
    let arena = Arena::tuned(|tuning| tuning.requests_per_container = PLACES).await;
    let attacked = arena.pod();
    let artifact = arena.bench.wat(&handler(ENDLESS)).await;
    let log: Arc<dyn LogSink> = Arc::new(Log::default());
    let running = attacked
        .pod
        .start(container("app", &[]), artifact, log)
        .unwrap();
    let handler = attacked.pod.http_handler(8080).unwrap();
    let request = || http::Request::get("/").body(Body::empty()).unwrap();
    let mut bodies = Vec::new();
    for _ in 0..PLACES {
        bodies.push(within(handler.call(request())).await.unwrap().into_body());
    }
    arena
        .during(async {
            for body in &mut bodies {
                for _ in 0..200 {
                    body.frame().await.unwrap().unwrap();
                }
            }
            let error = handler.call(request()).await.err().unwrap();
            assert_eq!(
                (error.status().as_u16(), error.unseen()),
                (503, Some(Unseen::Busy))
            );
            assert!(
                error.to_string().contains("6 requests are in progress"),
                "{error}"
            );
        })
        .await;
    let said = within(attacked.pod.limit_reached()).await;
    assert!(
        said.contains("1 requests refused (6 may be in progress)"),
        "{said}"
    );
    assert_eq!(running.stats().refused.requests, 1);
    drop(bodies);
    until("nothing is in progress", || running.stats().in_flight == 0).await;
    drop(handler);
    attacked.close(&arena).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_spin_or_take_everything_are_ended_one_by_one() {
    let deadline = std::time::Duration::from_millis(300);
    for (code, status, word) in [
        (HANDLES_, 502, "limit of 4000 host objects"),
        (SPIN_, 504, "no response within"),
        (HOG_, 502, "memory limit"),
    ] {
        let arena = Arena::tuned(|tuning| tuning.request_deadline = deadline).await;
        let attacked = arena.pod();
        let artifact = arena.bench.wat(&handler(&code())).await;
        let log = Arc::new(Log::default());
        let sink = Arc::clone(&log) as Arc<dyn LogSink>;
        let running = attacked
            .pod
            .start(container("app", &[]), artifact, sink)
            .unwrap();
        let handler = attacked.pod.http_handler(8080).unwrap();
        let tasks = TaskGroup::new();
        let (ended, mut ends) = tokio::sync::mpsc::channel(CALLS);
        for _ in 0..CALLS {
            let (handler, ended) = (Arc::clone(&handler), ended.clone());
            tasks.spawn("attack", async move {
                let request = http::Request::get("/").body(Body::empty()).unwrap();
                let error = handler.call(request).await.err().unwrap();
                ended.send(error.status().as_u16()).await.unwrap();
            });
        }
        let mut all = Vec::new();
        arena.during(ends.recv_many(&mut all, 1)).await;
        while all.len() < CALLS {
            all.push(within(ends.recv()).await.unwrap());
        }
        let ends = all;
        // Beside each other, some find no memory at all, which is no failure of theirs.
        assert!(
            ends.iter().all(|end| [status, 503].contains(end)),
            "{ends:?}"
        );
        assert!(log.text().contains(word), "{}", log.text());
        until("nothing is in progress", || running.stats().in_flight == 0).await;
        drop(handler);
        attacked.close(&arena).await;
    }
}

/// Ten thousand requests that nobody waits for, to one who never answers; the last is told so.
const FAN_OUT: &str = "(loop $l
        (call $send)
        (if (i32.load8_u (i32.const 0)) (then (return (i32.const 1))))
        (local.set $future (i32.load (i32.const 8)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 10000))))
      (call $block (call $subscribe (local.get $future)))
      (call $get (local.get $future) (i32.const 0))
      (if (i32.eqz (i32.load8_u (i32.const 16))) (then (return (i32.const 1))))
      ;; connection-limit-reached
      (i32.ne (i32.load8_u (i32.const 24)) (i32.const 11))";

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_at_once_end_at_the_limit_of_requests_on_their_way() {
    let arena = Arena::tuned(|tuning| tuning.calls_per_pod = CALLS as u32).await;
    let log: Arc<dyn LogSink> = Arc::new(Log::default());
    let slow = arena.bench.pod("10.64.0.81");
    let spinning = arena.bench.wat(&handler(&SPIN_())).await;
    let called = slow.start(container("slow", &[]), spinning, log).unwrap();
    let attacked = arena.pod();
    let caller = arena
        .bench
        .wat(&caller(false, "10.64.0.81:8080", FAN_OUT))
        .await;
    let running = start(&attacked.pod, &caller);
    let exit = arena.during(ended(&running)).await;
    assert_eq!(exit.code, 0, "{exit:?}");
    let said = within(attacked.pod.limit_reached()).await;
    assert!(
        said.contains("outgoing requests refused (4 of the pod may be on their way)"),
        "{said}"
    );
    assert!(attacked.pod.stats().calls_refused > 9_000);
    assert!(called.stats().requests <= 10_000 - attacked.pod.stats().calls_refused);
    called.kill();
    within(slow.close()).await;
    drop((called, slow));
    attacked.close(&arena).await;
}

/// The body has six bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_lies_about_its_length_fails_and_the_next_does_not() {
    let arena = Arena::new().await;
    let attacked = arena.pod();
    for (claims, digit) in [(6, 316), (3, 314), (9, 315), (6, 316)] {
        let code = format!(
            "(call $begin-with (local.get $out) (call $claim (i32.const {digit})))
             (drop (call $write)) (call $end)"
        );
        let artifact = arena.bench.wat(&handler(&code)).await;
        let log: Arc<dyn LogSink> = Arc::new(Log::default());
        let running = attacked.pod.start(container("app", &[]), artifact, log);
        let running = running.unwrap();
        let handler = attacked.pod.http_handler(8080).unwrap();
        let request = http::Request::get("/").body(Body::empty()).unwrap();
        let whole = match within(handler.call(request)).await {
            Ok(response) => within(response.into_body().collect()).await,
            Err(error) => Err(error),
        };
        match whole {
            Ok(body) => assert_eq!((claims, body.to_bytes().len()), (6, 6)),
            Err(error) => {
                assert_ne!(claims, 6, "{error}");
                assert_eq!(error.status(), 502, "{error}");
            }
        }
        running.kill();
        ended(&running).await;
    }
    attacked.close(&arena).await;
}

type Code = fn() -> String;
const SPIN_: Code = || format!("(drop (block (result i32) {SPIN}))");
const HANDLES_: Code = || "(loop $l (drop (call $fields)) (br $l))".to_owned();
const HOG_: Code = || HOG.to_owned();
