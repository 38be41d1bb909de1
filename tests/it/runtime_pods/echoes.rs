//! Handlers that send a request's body and trailers back as they come, in text form: one for WASI 0.2,
//! which copies, and one for WASI 0.3, which hands the stream itself on.

use super::guests::ERROR_CODE;

/// The 0.2 one. It declares the trailer that it sends, as HTTP/1.1 wants.
#[expect(clippy::too_many_lines, reason = "one component in text form")]
pub(crate) fn echo2() -> String {
    format!(
        r#"(component
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $e))
    (export "error" (type $error (eq $e)))
    (export "input-stream" (type $input-stream (sub resource)))
    (export "output-stream" (type $output-stream (sub resource)))
    (type $s (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $s)))
    (export "[method]output-stream.blocking-splice" (func
      (param "self" (borrow $output-stream)) (param "src" (borrow $input-stream))
      (param "len" u64) (result (result u64 (error $stream-error)))))))
  (alias export $streams "input-stream" (type $input-stream))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:http/types@0.2.0" (instance $http
    (alias outer 1 $input-stream (type $in))
    (export "input-stream" (type $input-stream (eq $in)))
    (alias outer 1 $output-stream (type $o))
    (export "output-stream" (type $output-stream (eq $o)))
    (alias outer 1 $pollable (type $p))
    (export "pollable" (type $pollable (eq $p)))
    {ERROR_CODE}
    (export "fields" (type $fields (sub resource)))
    (type $h (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $header-error (eq $h)))
    (export "incoming-request" (type $incoming-request (sub resource)))
    (export "incoming-body" (type $incoming-body (sub resource)))
    (export "future-trailers" (type $future-trailers (sub resource)))
    (export "response-outparam" (type $response-outparam (sub resource)))
    (export "outgoing-response" (type $outgoing-response (sub resource)))
    (export "outgoing-body" (type $outgoing-body (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]fields.append" (func (param "self" (borrow $fields)) (param "name" string)
      (param "value" (list u8)) (result (result (error $header-error)))))
    (export "[method]incoming-request.consume" (func
      (param "self" (borrow $incoming-request)) (result (result (own $incoming-body)))))
    (export "[method]incoming-body.stream" (func
      (param "self" (borrow $incoming-body)) (result (result (own $input-stream)))))
    (export "[static]incoming-body.finish" (func
      (param "this" (own $incoming-body)) (result (own $future-trailers))))
    (export "[method]future-trailers.subscribe" (func
      (param "self" (borrow $future-trailers)) (result (own $pollable))))
    (export "[method]future-trailers.get" (func (param "self" (borrow $future-trailers))
      (result (option (result (result (option (own $fields)) (error $error-code)))))))
    (export "[constructor]outgoing-response" (func
      (param "headers" (own $fields)) (result (own $outgoing-response))))
    (export "[method]outgoing-response.body" (func
      (param "self" (borrow $outgoing-response)) (result (result (own $outgoing-body)))))
    (export "[method]outgoing-body.write" (func
      (param "self" (borrow $outgoing-body)) (result (result (own $output-stream)))))
    (export "[static]outgoing-body.finish" (func
      (param "this" (own $outgoing-body)) (param "trailers" (option (own $fields)))
      (result (result (error $error-code)))))
    (export "[static]response-outparam.set" (func
      (param "param" (own $response-outparam))
      (param "response" (result (own $outgoing-response) (error $error-code)))))))
  (alias export $http "incoming-request" (type $incoming-request))
  (alias export $http "response-outparam" (type $response-outparam))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 1000) "trailer")
    (data (i32.const 1010) "x-sum")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "realloc" (core func $re))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $splice (canon lower (func $streams "[method]output-stream.blocking-splice")
    (memory $mem)))
  (core func $fields (canon lower (func $http "[constructor]fields")))
  (core func $append (canon lower (func $http "[method]fields.append") (memory $mem)))
  (core func $consume (canon lower (func $http "[method]incoming-request.consume") (memory $mem)))
  (core func $in (canon lower (func $http "[method]incoming-body.stream") (memory $mem)))
  (core func $read (canon lower (func $http "[static]incoming-body.finish")))
  (core func $subscribe (canon lower (func $http "[method]future-trailers.subscribe")))
  (core func $get (canon lower (func $http "[method]future-trailers.get")
    (memory $mem) (realloc $re)))
  (core func $response (canon lower (func $http "[constructor]outgoing-response")))
  (core func $body (canon lower (func $http "[method]outgoing-response.body") (memory $mem)))
  (core func $out (canon lower (func $http "[method]outgoing-body.write") (memory $mem)))
  (core func $finish (canon lower (func $http "[static]outgoing-body.finish")
    (memory $mem) (realloc $re)))
  (core func $set (canon lower (func $http "[static]response-outparam.set")
    (memory $mem) (realloc $re)))
  (core func $drop-in (canon resource.drop $input-stream))
  (core func $drop-out (canon resource.drop $output-stream))
  (core func $drop-poll (canon resource.drop $pollable))
  (core module $main
    (import "h" "memory" (memory 1))
    (import "h" "block" (func $block (param i32)))
    (import "h" "splice" (func $splice (param i32 i32 i64 i32)))
    (import "h" "fields" (func $fields (result i32)))
    (import "h" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "h" "consume" (func $consume (param i32 i32)))
    (import "h" "in" (func $in (param i32 i32)))
    (import "h" "read" (func $read (param i32) (result i32)))
    (import "h" "subscribe" (func $subscribe (param i32) (result i32)))
    (import "h" "get" (func $get (param i32 i32)))
    (import "h" "response" (func $response (param i32) (result i32)))
    (import "h" "body" (func $body (param i32 i32)))
    (import "h" "out" (func $out (param i32 i32)))
    (import "h" "finish" (func $finish (param i32 i32 i32 i32)))
    (import "h" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "h" "drop-in" (func $drop-in (param i32)))
    (import "h" "drop-out" (func $drop-out (param i32)))
    (import "h" "drop-poll" (func $drop-poll (param i32)))
    (func (export "handle") (param $request i32) (param $outparam i32)
      (local $inbody i32) (local $in i32) (local $body i32) (local $out i32)
      (local $answer i32) (local $trailers i32) (local $poll i32)
      (call $consume (local.get $request) (i32.const 0))
      (local.set $inbody (i32.load (i32.const 4)))
      (call $in (local.get $inbody) (i32.const 0))
      (local.set $in (i32.load (i32.const 4)))
      (local.set $answer (call $fields))
      (call $append (local.get $answer) (i32.const 1000) (i32.const 7)
        (i32.const 1010) (i32.const 5) (i32.const 0))
      (local.set $answer (call $response (local.get $answer)))
      (call $body (local.get $answer) (i32.const 0))
      (local.set $body (i32.load (i32.const 4)))
      (call $set (local.get $outparam) (i32.const 0) (local.get $answer)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $out (local.get $body) (i32.const 0))
      (local.set $out (i32.load (i32.const 4)))
      (loop $more
        (call $splice (local.get $out) (local.get $in) (i64.const 65536) (i32.const 0))
        (br_if $more (i32.eqz (i32.load8_u (i32.const 0)))))
      (call $drop-out (local.get $out))
      (call $drop-in (local.get $in))
      (local.set $trailers (call $read (local.get $inbody)))
      (local.set $poll (call $subscribe (local.get $trailers)))
      (call $block (local.get $poll))
      (call $drop-poll (local.get $poll))
      (call $get (local.get $trailers) (i32.const 0))
      (call $finish (local.get $body) (i32.load8_u (i32.const 24)) (i32.load (i32.const 28))
        (i32.const 200))))
  (core instance $i (instantiate $main (with "h" (instance
    (export "memory" (memory $mem)) (export "block" (func $block))
    (export "splice" (func $splice)) (export "fields" (func $fields))
    (export "append" (func $append)) (export "consume" (func $consume))
    (export "in" (func $in)) (export "read" (func $read))
    (export "subscribe" (func $subscribe)) (export "get" (func $get))
    (export "response" (func $response)) (export "body" (func $body))
    (export "out" (func $out)) (export "finish" (func $finish)) (export "set" (func $set))
    (export "drop-in" (func $drop-in)) (export "drop-out" (func $drop-out))
    (export "drop-poll" (func $drop-poll))))))
  (func $handle (param "request" (own $incoming-request))
    (param "response-out" (own $response-outparam)) (canon lift (core func $i "handle")))
  (instance $h (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $h)))"#
    )
}

/// The 0.3 one; `before` runs before it answers.
pub(crate) fn echo3(before: &str) -> String {
    let error_code = ERROR_CODE.replace(
        r#"(case "HTTP-response-header-size" (option $field-size))"#,
        r#"(case "HTTP-response-header-size" $field-size)"#,
    );
    format!(
        r#"(component
  (import "wasi:http/types@0.3.0" (instance $http
    {error_code}
    (export "fields" (type $fields (sub resource)))
    (export "request" (type $request (sub resource)))
    (export "response" (type $response (sub resource)))
    (type $sent (future (result (error $error-code))))
    (type $trailers (future (result (option (own $fields)) (error $error-code))))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[static]request.consume-body" (func (param "this" (own $request))
      (param "res" $sent) (result (tuple (stream u8) $trailers))))
    (export "[static]response.new" (func (param "headers" (own $fields))
      (param "contents" (option (stream u8))) (param "trailers" $trailers)
      (result (tuple (own $response) $sent))))))
  (alias export $http "request" (type $request))
  (alias export $http "response" (type $response))
  (alias export $http "error-code" (type $error-code))
  (type $sent (future (result (error $error-code))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "realloc" (core func $re))
  (core func $fields (canon lower (func $http "[constructor]fields")))
  (core func $consume (canon lower (func $http "[static]request.consume-body") (memory $mem)))
  (core func $response (canon lower (func $http "[static]response.new") (memory $mem)))
  (core func $future (canon future.new $sent))
  (core func $write (canon future.write $sent async (memory $mem)))
  (core module $main
    (import "h" "memory" (memory 1))
    (import "h" "fields" (func $fields (result i32)))
    (import "h" "consume" (func $consume (param i32 i32 i32)))
    (import "h" "response" (func $response (param i32 i32 i32 i32 i32)))
    (import "h" "future" (func $future (result i64)))
    (import "h" "write" (func $write (param i32 i32) (result i32)))
    (func (export "handle") (param $request i32) (result i32) (local $done i64)
      {before}
      (local.set $done (call $future))
      (call $consume (local.get $request) (i32.wrap_i64 (local.get $done)) (i32.const 0))
      ;; The body was read well: an `ok` at 104.
      (drop (call $write (i32.wrap_i64 (i64.shr_u (local.get $done) (i64.const 32)))
        (i32.const 104)))
      (call $response (call $fields) (i32.const 1) (i32.load (i32.const 0))
        (i32.load (i32.const 4)) (i32.const 16))
      (i32.store8 (i32.const 200) (i32.const 0))
      (i32.store (i32.const 208) (i32.load (i32.const 16)))
      (i32.const 200)))
  (core instance $i (instantiate $main (with "h" (instance
    (export "memory" (memory $mem)) (export "fields" (func $fields))
    (export "consume" (func $consume)) (export "response" (func $response))
    (export "future" (func $future)) (export "write" (func $write))))))
  (type $handle (func async (param "request" (own $request))
    (result (result (own $response) (error $error-code)))))
  (func $handle (type $handle) (canon lift (core func $i "handle")
    (memory $mem) (realloc $re)))
  (instance $h (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.0" (instance $h)))"#
    )
}
