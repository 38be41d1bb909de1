//! `wasmorch:lifecycle/signals`: a program that waits for its end and for nothing else.

use std::sync::Arc;
use std::time::Duration;

use wasmorch::runtime::spec::ExitReason;

use super::bench::{Bench, Log, container, ended, until};

const WITH_0_2: &str = r#"(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasmorch:lifecycle/signals@0.2.0" (instance $signals
    (alias outer 1 $pollable (type $p))
    (export "pollable" (type $pollable (eq $p)))
    (export "terminated" (func (result (own $pollable))))))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $drop (canon resource.drop $pollable))
  (core func $terminated (canon lower (func $signals "terminated")))
  (core module $main
    (import "h" "ready" (func $ready (param i32) (result i32)))
    (import "h" "block" (func $block (param i32)))
    (import "h" "drop" (func $drop (param i32)))
    (import "h" "terminated" (func $terminated (result i32)))
    (func (export "run") (result i32) (local $end i32)
      (local.set $end (call $terminated))
      (if (call $ready (local.get $end)) (then (return (i32.const 1))))
      (call $block (local.get $end))
      (call $drop (local.get $end))
      ;; Who asks late is told at once.
      (call $block (call $terminated))
      (i32.const 0)))
  (core instance $i (instantiate $main (with "h" (instance
    (export "ready" (func $ready)) (export "block" (func $block))
    (export "drop" (func $drop)) (export "terminated" (func $terminated))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $x (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $x)))"#;

const WITH_0_3: &str = r#"(component
  (import "wasmorch:lifecycle/signals@0.3.0" (instance $signals
    (export "terminated" (func async))))
  (core func $terminated (canon lower (func $signals "terminated")))
  (core module $main
    (import "h" "terminated" (func $terminated))
    (func (export "run") (result i32)
      (call $terminated)
      (call $terminated)
      (i32.const 0)))
  (core instance $i (instantiate $main
    (with "h" (instance (export "terminated" (func $terminated))))))
  (type $run-type (func async (result (result))))
  (func $run (type $run-type) (canon lift (core func $i "run")))
  (instance $x (export "run" (func $run)))
  (export "wasi:cli/run@0.3.0" (instance $x)))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_waits_for_the_stop_request_and_ends() {
    let bench = Bench::new();
    for (ip, text) in [("10.64.0.1", WITH_0_2), ("10.64.0.2", WITH_0_3)] {
        let pod = bench.pod(ip);
        let program = bench.wat(text).await;
        let log = Arc::new(Log::default());
        let running = pod
            .start(container("app", &[]), program, Arc::clone(&log) as _)
            .unwrap();
        until("it waits", || running.stats().cpu > Duration::ZERO).await;
        assert!(running.exit().is_none(), "{}", log.text());
        running.stop();
        let exit = ended(&running).await;
        assert_eq!(
            (exit.code, exit.reason),
            (0, ExitReason::Completed),
            "{exit:?}"
        );
    }
}
