//! Numbers of things: descriptors, files, sockets, handles.

use wasmorch::runtime::spec::ExitReason;

use super::arena::{Arena, start};
use super::guests::{OPEN, POLLABLES, SOCKETS, command, core};
use crate::runtime_pods::bench::{ended, within};

/// Calls of WASI 0.3 that are begun and never waited for.
const PENDING: &str = r#"(component
  (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
    (export "wait-for" (func async (param "how-long" u64)))))
  (core func $wait (canon lower (func $clock "wait-for") async))
  (core module $main
    (import "host" "wait" (func $wait (param i64) (result i32)))
    (func (export "run") (result i32) (local $i i32)
      (loop $l
        (drop (call $wait (i64.const 3600000000000)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 10000000))))
      (i32.const 0)))
  (core instance $i (instantiate $main (with "host" (instance (export "wait" (func $wait))))))
  (type $run-type (func async (result (result))))
  (func $run (type $run-type) (canon lift (core func $i "run")))
  (instance $x (export "run" (func $run)))
  (export "wasi:cli/run@0.3.0" (instance $x)))"#;

/// Opens a file a million times; its name is a new one each time if `renames`.
fn open_a_million(renames: bool) -> String {
    let rename = if renames {
        // The digits of the name count up.
        "(local.set $at (i32.const 138))
         (block $done (loop $carry
           (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
           (br_if $done (i32.le_u (i32.load8_u (local.get $at)) (i32.const 57)))
           (i32.store8 (local.get $at) (i32.const 48))
           (local.set $at (i32.sub (local.get $at) (i32.const 1)))
           (br $carry)))"
    } else {
        ""
    };
    let code = format!(
        "(func (export \"_start\") (local $i i32) (local $at i32)
          (loop $l
            (call $check (call $path_open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 11)
              (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))
            {rename}
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 1000000)))))"
    );
    core(&[OPEN], 1, &code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_open_files_end_at_the_limit_of_descriptors() {
    let arena = Arena::new().await;
    let attacked = arena.pod();
    let artifact = arena.bench.wat(&open_a_million(false)).await;
    let running = start(&attacked.pod, &artifact);
    let exit = arena.during(ended(&running)).await;
    assert_eq!((exit.code, exit.reason), (33, ExitReason::Error), "EMFILE");
    assert!(running.stats().refused.descriptors > 0);
    let said = within(attacked.pod.limit_reached()).await;
    assert!(
        said.contains("descriptors refused (20000 may be open)"),
        "{said}"
    );
    attacked.close(&arena).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_new_files_end_at_the_limit_of_inodes() {
    let arena = Arena::new().await;
    let attacked = arena.pod();
    let artifact = arena.bench.wat(&open_a_million(true)).await;
    let running = start(&attacked.pod, &artifact);
    let exit = arena.during(ended(&running)).await;
    assert_eq!((exit.code, exit.reason), (51, ExitReason::Error), "ENOSPC");
    let said = within(attacked.pod.storage_full()).await;
    assert!(said.contains("of 10000 inodes"), "{said}");
    assert!(attacked.pod.stats().storage_refused > 0);
    attacked.close(&arena).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_sockets_end_at_the_limit_of_sockets() {
    let arena = Arena::new().await;
    let attacked = arena.pod();
    // Leaves 1 at the first error, which is `new-socket-limit` (10).
    let code = "(local $i i32)
      (loop $l
        (call $create (i32.const 0) (i32.const 16))
        (if (i32.load8_u (i32.const 16))
          (then (return (i32.eq (i32.load8_u (i32.const 20)) (i32.const 10)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 100000))))
      (i32.const 0)";
    let lowers = [("create", "create", "create-tcp-socket", "(param i32 i32)")];
    let artifact = arena.bench.wat(&command(SOCKETS, &lowers, code)).await;
    let running = start(&attacked.pod, &artifact);
    let exit = arena.during(ended(&running)).await;
    assert_eq!((exit.code, exit.reason), (1, ExitReason::Error), "{exit:?}");
    assert!(attacked.pod.stats().sockets_refused > 0);
    let said = within(attacked.pod.limit_reached()).await;
    assert!(
        said.contains("sockets refused (1000 may be open in the pod)"),
        "{said}"
    );
    attacked.close(&arena).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_million_handles_end_at_the_limit_of_handles() {
    let arena = Arena::new().await;
    let pollables = "(local $i i32)
      (loop $l
        (drop (call $subscribe (i64.const -1)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 10000000))))
      (i32.const 0)";
    let lowers = [(
        "subscribe",
        "clock",
        "subscribe-duration",
        "(param i64) (result i32)",
    )];
    let own = r#"(component
      (type $r (resource (rep i32)))
      (core func $new (canon resource.new $r))
      (core module $main
        (import "host" "new" (func $new (param i32) (result i32)))
        (func (export "run") (result i32) (local $i i32)
          (loop $l
            (drop (call $new (i32.const 0)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 10000000))))
          (i32.const 0)))
      (core instance $i (instantiate $main (with "host" (instance (export "new" (func $new))))))
      (func $run (result (result)) (canon lift (core func $i "run")))
      (instance $x (export "run" (func $run)))
      (export "wasi:cli/run@0.2.0" (instance $x)))"#;
    for text in [&command(POLLABLES, &lowers, pollables), own, PENDING] {
        let (exit, _) = arena.run(text).await;
        assert_eq!((exit.code, exit.reason), (134, ExitReason::Error));
        assert!(
            exit.message.contains("limit of 20000 host objects"),
            "{exit:?}"
        );
    }
}
