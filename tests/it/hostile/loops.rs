//! Time: loops in the guest, in the host on its behalf, and sleeps without end.

use std::time::Duration;

use wasmorch::runtime::spec::ExitReason;

use super::arena::{Arena, start};
use super::attacks;
use super::guests::{POLL, POLLABLES, RANDOM, RANDOM_BYTES, command, core};
use crate::runtime_pods::bench::{container, ended, until};
use crate::runtime_pods::guests::{self, SPIN};

const LONG: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_ended_at_once() {
    let arena = Arena::new().await;
    let spin = guests::command(SPIN);
    let (exit, _) = arena.run_until(&spin, |stats| stats.cpu > LONG).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Killed));
}

/// What runs before there is anything to call.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_start_function_is_ended_at_once() {
    let arena = Arena::new().await;
    let spin = "(func $spin (loop $l (br $l))) (start $spin)";
    let memory = "(memory (export \"memory\") 1)";
    let module = core(&[], 1, &format!("{spin} (func (export \"_start\"))"));
    let component = guests::command("(i32.const 0)").replace(memory, &format!("{memory} {spin}"));
    for text in [module, component] {
        let (exit, _) = arena.run_until(&text, |stats| stats.cpu > LONG).await;
        assert_eq!((exit.code, exit.reason), (137, ExitReason::Killed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_timers_at_once_disturb_nobody() {
    let arena = Arena::new().await;
    let (exit, _) = arena.run(&attacks::thousands_of_timers()).await;
    assert_eq!(exit.code, 0, "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_under_a_cpu_limit_rests_and_that_is_counted() {
    let arena = Arena::new().await;
    let attacked = arena.pod();
    let artifact = arena.bench.wat(&guests::command(SPIN)).await;
    let mut spec = container("app", &[]);
    spec.cpu_limit_millis = Some(100);
    let log = std::sync::Arc::new(crate::runtime_pods::bench::Log::default());
    let running = attacked.pod.start(spec, artifact, log).unwrap();
    arena
        .during(until("it had to rest", || running.stats().throttled > LONG))
        .await;
    running.kill();
    ended(&running).await;
    attacked.close(&arena).await;
}

/// Each keeps the host busy: pieces of random bytes, the longest list of subscriptions, refused growth.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_host_calls_is_shared_and_ended_like_any_other() {
    let arena = Arena::new().await;
    let random = "(func (export \"_start\") (loop $l
        (drop (call $random_get (i32.const 4096) (i32.const 60000000))) (br $l)))";
    // 65,536 subscriptions to a clock that never comes and one that has.
    let poll = "(func (export \"_start\") (local $i i32)
      (loop $fill
        (i64.store (i32.add (i32.const 65560) (i32.mul (local.get $i) (i32.const 48))) (i64.const -1))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $i) (i32.const 65535))))
      (loop $l
        (call $check (call $poll_oneoff (i32.const 65536) (i32.const 4194304) (i32.const 65536)
          (i32.const 0)))
        (br $l)))";
    let grow = "(func (export \"_start\") (loop $l
        (drop (memory.grow (i32.const 65000))) (br $l)))";
    for (name, text) in [
        ("random", core(&[RANDOM], 1000, random)),
        ("poll", core(&[POLL], 1000, poll)),
        ("grow", core(&[], 1, grow)),
    ] {
        let (exit, stats) = arena.run_until(&text, |stats| stats.cpu > LONG).await;
        assert_eq!(exit.reason, ExitReason::Killed, "{name}: {exit:?}");
        assert_eq!(stats.refused.memory > 0, name == "grow", "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_ask_for_too_much_at_once_are_refused_with_the_limit() {
    let arena = Arena::new().await;
    let random = "(func (export \"_start\")
        (call $check (call $random_get (i32.const 0) (i32.const -1))))";
    let (exit, _) = arena.run(&core(&[RANDOM], 1, random)).await;
    assert_eq!(exit.code, 134);
    assert!(exit.message.contains("outside the memory"), "{exit:?}");

    let million = "(func (export \"_start\")
        (call $check (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 1000000) (i32.const 0))))";
    let (exit, _) = arena.run(&core(&[POLL], 1, million)).await;
    assert_eq!(exit.code, 28, "EINVAL: {exit:?}");

    let bytes = "(call $get (i64.const 4294967296) (i32.const 0)) (i32.const 0)";
    let get = [("get", "random", "get-random-bytes", "(param i64 i32)")];
    let (exit, _) = arena.run(&command(RANDOM_BYTES, &get, bytes)).await;
    assert_eq!(exit.code, 134);
    assert!(exit.message.contains("exceeds limit 4194304"), "{exit:?}");

    // The same pollable a million times, in 4 MiB of the guest's memory.
    let list = "(local $i i32) (local $p i32)
      (local.set $p (call $subscribe (i64.const -1)))
      (loop $fill
        (i32.store (i32.shl (local.get $i) (i32.const 2)) (local.get $p))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $i) (i32.const 1000000))))
      (call $poll (i32.const 0) (i32.const 1000000) (i32.const 4194000))
      (i32.const 0)";
    let (exit, stats) = arena.run(&command(POLLABLES, &attacks::TIMERS, list)).await;
    assert_eq!((exit.code, stats.refused.host_calls), (134, 1));
    assert!(
        exit.message.contains("limit of 2 MiB in one call"),
        "{exit:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_of_centuries_ends_when_it_is_told_to() {
    let arena = Arena::new().await;
    let sleep = "(func (export \"_start\")
        (i64.store (i32.const 24) (i64.const -1))
        (call $check (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2048))))";
    let artifact = arena.bench.wat(&core(&[POLL], 1, sleep)).await;
    let attacked = arena.pod();
    let running = start(&attacked.pod, &artifact);
    let exit = arena
        .during(async {
            until("it sleeps", || running.stats().cpu > Duration::ZERO).await;
            running.kill();
            ended(&running).await
        })
        .await;
    assert_eq!(exit.reason, ExitReason::Killed);
    attacked.close(&arena).await;
}
