//! A program that calls a service: to a handler of this worker no socket is needed.

use std::sync::Arc;

use wasmorch::runtime::spec::LogSink;

use super::bench::{Bench, Log, container, pod_spec, run};
use super::guests::{ANSWER, ERROR_CODE, handler};

/// Calls `http://web/`; fails unless the status is 200.
pub(super) const ONCE: &str = "(call $send)
      (if (i32.load8_u (i32.const 0)) (then (return (i32.const 1))))
      (local.set $future (i32.load (i32.const 8)))
      (call $block (call $subscribe (local.get $future)))
      (call $get (local.get $future) (i32.const 0))
      (if (i32.load8_u (i32.const 16)) (then (return (i32.const 1))))
      (i32.ne (call $status (i32.load (i32.const 24))) (i32.const 200))";

/// A program that may `$send` a request for `/` of `authority`, which leaves the result at 0.
#[expect(clippy::too_many_lines, reason = "one component in text form")]
pub(crate) fn caller(is_secure: bool, authority: &str, run: &str) -> String {
    let (scheme, length) = (u32::from(is_secure), authority.len());
    format!(
        r#"(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:http/types@0.2.0" (instance $http
    (alias outer 1 $pollable (type $p))
    (export "pollable" (type $pollable (eq $p)))
    {ERROR_CODE}
    (type $s (variant (case "HTTP") (case "HTTPS") (case "other" string)))
    (export "scheme" (type $scheme (eq $s)))
    (export "fields" (type $fields (sub resource)))
    (export "outgoing-request" (type $outgoing-request (sub resource)))
    (export "request-options" (type $request-options (sub resource)))
    (export "incoming-response" (type $incoming-response (sub resource)))
    (export "future-incoming-response" (type $future (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[constructor]outgoing-request" (func
      (param "headers" (own $fields)) (result (own $outgoing-request))))
    (export "[method]outgoing-request.set-scheme" (func
      (param "self" (borrow $outgoing-request)) (param "scheme" (option $scheme))
      (result (result))))
    (export "[method]outgoing-request.set-authority" (func
      (param "self" (borrow $outgoing-request)) (param "authority" (option string))
      (result (result))))
    (export "[method]outgoing-request.set-path-with-query" (func
      (param "self" (borrow $outgoing-request)) (param "path-with-query" (option string))
      (result (result))))
    (export "[method]future-incoming-response.subscribe" (func
      (param "self" (borrow $future)) (result (own $pollable))))
    (export "[method]future-incoming-response.get" (func (param "self" (borrow $future))
      (result (option (result (result (own $incoming-response) (error $error-code)))))))
    (export "[method]incoming-response.status" (func
      (param "self" (borrow $incoming-response)) (result u16)))))
  (alias export $http "outgoing-request" (type $outgoing-request))
  (alias export $http "request-options" (type $request-options))
  (alias export $http "future-incoming-response" (type $future))
  (alias export $http "error-code" (type $error-code))
  (import "wasi:http/outgoing-handler@0.2.0" (instance $outgoing
    (alias outer 1 $outgoing-request (type $r))
    (export "outgoing-request" (type $outgoing-request (eq $r)))
    (alias outer 1 $request-options (type $o))
    (export "request-options" (type $request-options (eq $o)))
    (alias outer 1 $future (type $f))
    (export "future-incoming-response" (type $future (eq $f)))
    (alias outer 1 $error-code (type $e))
    (export "error-code" (type $error-code (eq $e)))
    (export "handle" (func (param "request" (own $outgoing-request))
      (param "options" (option (own $request-options)))
      (result (result (own $future) (error $error-code)))))))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 500) "/{authority}")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "realloc" (core func $re))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $fields (canon lower (func $http "[constructor]fields")))
  (core func $request (canon lower (func $http "[constructor]outgoing-request")))
  (core func $scheme (canon lower (func $http "[method]outgoing-request.set-scheme")
    (memory $mem)))
  (core func $authority (canon lower (func $http "[method]outgoing-request.set-authority")
    (memory $mem)))
  (core func $path (canon lower (func $http "[method]outgoing-request.set-path-with-query")
    (memory $mem)))
  (core func $subscribe (canon lower (func $http "[method]future-incoming-response.subscribe")))
  (core func $get (canon lower (func $http "[method]future-incoming-response.get")
    (memory $mem) (realloc $re)))
  (core func $status (canon lower (func $http "[method]incoming-response.status")))
  (core func $handle (canon lower (func $outgoing "handle") (memory $mem) (realloc $re)))
  (core module $main
    (import "h" "memory" (memory 1))
    (import "h" "block" (func $block (param i32)))
    (import "h" "fields" (func $fields (result i32)))
    (import "h" "request" (func $request (param i32) (result i32)))
    (import "h" "scheme" (func $scheme (param i32 i32 i32 i32 i32) (result i32)))
    (import "h" "authority" (func $authority (param i32 i32 i32 i32) (result i32)))
    (import "h" "path" (func $path (param i32 i32 i32 i32) (result i32)))
    (import "h" "subscribe" (func $subscribe (param i32) (result i32)))
    (import "h" "get" (func $get (param i32 i32)))
    (import "h" "status" (func $status (param i32) (result i32)))
    (import "h" "handle" (func $handle (param i32 i32 i32 i32)))
    (func $send (local $request i32)
      (local.set $request (call $request (call $fields)))
      (if (call $scheme (local.get $request) (i32.const 1) (i32.const {scheme}) (i32.const 0)
            (i32.const 0))
        (then unreachable))
      (if (call $authority (local.get $request) (i32.const 1) (i32.const 501) (i32.const {length}))
        (then unreachable))
      (if (call $path (local.get $request) (i32.const 1) (i32.const 500) (i32.const 1))
        (then unreachable))
      (call $handle (local.get $request) (i32.const 0) (i32.const 0) (i32.const 0)))
    (func (export "run") (result i32) (local $future i32) (local $i i32)
      {run}))
  (core instance $i (instantiate $main (with "h" (instance
    (export "memory" (memory $mem)) (export "block" (func $block))
    (export "fields" (func $fields)) (export "request" (func $request))
    (export "scheme" (func $scheme)) (export "authority" (func $authority)) (export "path" (func $path))
    (export "subscribe" (func $subscribe))
    (export "get" (func $get)) (export "status" (func $status))
    (export "handle" (func $handle))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $r)))"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_the_same_worker_is_called_without_a_socket() {
    let bench = Bench::new();
    let pod = |ip: &str| {
        let mut spec = pod_spec(ip);
        // Whoever connected would be refused.
        spec.limits.sockets = 0;
        bench.runtime.create_sandbox(spec).unwrap()
    };
    let (client, shop) = (pod("10.64.0.1"), pod("10.64.0.80"));
    let caller = bench.wat(&caller(false, "web", ONCE)).await;
    let (exit, _) = run(&client, container("app", &[]), &caller).await;
    assert_eq!(exit.code, 1, "nobody answers yet");
    let log: Arc<dyn LogSink> = Arc::new(Log::default());
    let web = bench.wat(&handler(ANSWER)).await;
    let web = shop.start(container("web", &[]), web, log).unwrap();
    let (exit, log) = run(&client, container("app", &[]), &caller).await;
    assert_eq!(exit.code, 0, "{exit:?} {}", log.text());
    assert_eq!(web.stats().requests, 1);
    assert!(shop.dial(8080).is_err(), "a socket is refused");
}
