//! Programs in text form, for what no compiler writes: traps, loops and bombs on purpose.

/// A WASI 0.2 command whose `run` is `code`; it leaves 0 for success, 1 for failure.
pub(crate) fn command(code: &str) -> String {
    format!(
        r#"(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32) {code}))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $r)))"#
    )
}

/// Computes for ever.
pub(crate) const SPIN: &str = "(loop $l (br $l)) (i32.const 0)";

/// Takes memory until it gets no more, and then fails as programs do.
pub(crate) const HOG: &str = "(loop $l
  (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
  unreachable";

/// A WASI 0.1 command whose `_start` is `code`, with what it may call and some texts.
pub(crate) fn core(code: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "hello\n")
  (data (i32.const 120) "tmp/shared")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  ;; One buffer: its address and length.
  (func $buffer (param $address i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $address))
    (i32.store (i32.const 4) (local.get $length)))
  ;; Opens `tmp/shared` below the first preopened directory; the descriptor is at 16.
  (func $open (param $flags i32) (param $rights i64) (result i32)
    (call $path_open (i32.const 3) (i32.const 1) (i32.const 120) (i32.const 10)
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 16)))
  (func (export "_start") {code}))"#
    )
}

/// Prints a line.
pub(crate) const HELLO: &str = "(call $buffer (i32.const 100) (i32.const 6))
  (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";

/// Writes `hello` to the file that the pod's containers share.
pub(crate) const WRITE: &str = "(call $check (call $open (i32.const 1) (i64.const 64)))
  (call $buffer (i32.const 100) (i32.const 6))
  (call $check (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))";

/// Waits for that file and prints what is in it.
pub(crate) const READ: &str = "(loop $again
    (drop (call $yield))
    (br_if $again (call $open (i32.const 0) (i64.const 2)))
    (call $buffer (i32.const 200) (i32.const 100))
    (call $check (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
    (br_if $again (i32.eqz (i32.load (i32.const 8)))))
  (call $buffer (i32.const 200) (i32.load (i32.const 8)))
  (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";

/// A WASI 0.1 server on its one declared port: reads up to 100 bytes and sends them back.
pub(crate) const ECHO_SERVER: &str = r#"(module
  (import "wasi_snapshot_preview1" "sock_accept"
    (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv"
    (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send"
    (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $next
      (i32.store (i32.const 0) (i32.const 200))
      (i32.store (i32.const 4) (i32.const 100))
      (if (call $accept (i32.const 4) (i32.const 0) (i32.const 16)) (then unreachable))
      (if (call $recv (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 0)
            (i32.const 8) (i32.const 12)) (then unreachable))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (if (call $send (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 0)
            (i32.const 8)) (then unreachable))
      (drop (call $close (i32.load (i32.const 16))))
      (br $next))))"#;

/// A `wasi:http` 0.2 handler; `code` may call `$begin`, `$write` and `$end`.
pub(crate) fn handler(code: &str) -> String {
    let interfaces = interfaces();
    let signatures = r#"
    (import "http" "fields" (func $fields (result i32)))
    (import "http" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "http" "response" (func $response (param i32) (result i32)))
    (import "http" "body" (func $body (param i32 i32)))
    (import "http" "stream" (func $stream (param i32 i32)))
    (import "http" "finish" (func $finish (param i32 i32 i32 i32)))
    (import "http" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "http" "write" (func $write-to (param i32 i32 i32 i32)))
    (import "http" "drop-stream" (func $drop-stream (param i32)))
    (import "http" "memory" (memory 1))
    (global $the-body (mut i32) (i32.const 0))
    (global $the-stream (mut i32) (i32.const 0))
    ;; Headers with the `content-length` whose one digit is at that address.
    (func $claim (param $digit i32) (result i32) (local $headers i32)
      (local.set $headers (call $fields))
      (call $append (local.get $headers) (i32.const 300) (i32.const 14)
        (local.get $digit) (i32.const 1) (i32.const 400))
      (local.get $headers))
    (func $begin (param $out i32) (call $begin-with (local.get $out) (call $fields)))
    (func $begin-with (param $out i32) (param $headers i32)
      (local $answer i32)
      (local.set $answer (call $response (local.get $headers)))
      (call $body (local.get $answer) (i32.const 0))
      (global.set $the-body (i32.load (i32.const 4)))
      (call $set (local.get $out) (i32.const 0) (local.get $answer)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $stream (global.get $the-body) (i32.const 0))
      (global.set $the-stream (i32.load (i32.const 4))))
    ;; Writes `hello\n`; gives 1 when nobody reads any more.
    (func $write (result i32)
      (call $write-to (global.get $the-stream) (i32.const 100) (i32.const 6) (i32.const 0))
      (i32.load8_u (i32.const 0)))
    (func $end
      (call $drop-stream (global.get $the-stream))
      (call $finish (global.get $the-body) (i32.const 0) (i32.const 0) (i32.const 200)))"#;
    format!(
        r#"(component
  {interfaces}
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 100) "hello\n")
    (data (i32.const 300) "content-length396")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  (core func $fields (canon lower (func $http "[constructor]fields")))
  (core func $append (canon lower (func $http "[method]fields.append") (memory $memory)))
  (core func $response (canon lower (func $http "[constructor]outgoing-response")))
  (core func $body (canon lower (func $http "[method]outgoing-response.body")
    (memory $memory)))
  (core func $stream (canon lower (func $http "[method]outgoing-body.write") (memory $memory)))
  (core func $finish (canon lower (func $http "[static]outgoing-body.finish")
    (memory $memory) (realloc (core func $m "realloc"))))
  (core func $set (canon lower (func $http "[static]response-outparam.set")
    (memory $memory) (realloc (core func $m "realloc"))))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $drop-stream (canon resource.drop $output-stream))
  (core module $main {signatures}
    (func (export "handle") (param $request i32) (param $out i32) {code}))
  (core instance $i (instantiate $main (with "http" (instance
    (export "fields" (func $fields)) (export "response" (func $response))
    (export "append" (func $append))
    (export "body" (func $body)) (export "stream" (func $stream))
    (export "finish" (func $finish)) (export "set" (func $set))
    (export "write" (func $write)) (export "drop-stream" (func $drop-stream))
    (export "memory" (memory $memory))))))
  (alias export $http "incoming-request" (type $incoming-request))
  (alias export $http "response-outparam" (type $response-outparam))
  (func $handle (param "request" (own $incoming-request))
    (param "response-out" (own $response-outparam)) (canon lift (core func $i "handle")))
  (instance $h (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $h)))"#
    )
}

/// Answers `hello`.
pub(crate) const ANSWER: &str = "(call $begin (local.get $out)) (drop (call $write)) (call $end)";

/// Answers for ever.
pub(crate) const ENDLESS: &str = "(call $begin (local.get $out))
  (loop $l (br_if $l (i32.eqz (call $write))))";

fn interfaces() -> String {
    format!(
        r#"
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $e))
    (export "error" (type $error (eq $e)))
    (export "output-stream" (type $output-stream (sub resource)))
    (type $s (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $s)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:http/types@0.2.0" (instance $http
    (alias outer 1 $output-stream (type $o))
    (export "output-stream" (type $output-stream (eq $o)))
    {ERROR_CODE}
    (type $h (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $header-error (eq $h)))
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $incoming-request (sub resource)))
    (export "response-outparam" (type $response-outparam (sub resource)))
    (export "outgoing-response" (type $outgoing-response (sub resource)))
    (export "outgoing-body" (type $outgoing-body (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]fields.append" (func (param "self" (borrow $fields))
      (param "name" string) (param "value" (list u8)) (result (result (error $header-error)))))
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
      (param "response" (result (own $outgoing-response) (error $error-code)))))))"#
    )
}

/// The `error-code` of `wasi:http` 0.2, inside of its instance.
pub(crate) const ERROR_CODE: &str = r#"(type $d (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $d)))
    (type $t (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $t)))
    (type $f (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $field-size (eq $f)))
    (type $c (variant
      (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found")
      (case "destination-unavailable") (case "destination-IP-prohibited")
      (case "destination-IP-unroutable") (case "connection-refused")
      (case "connection-terminated") (case "connection-timeout")
      (case "connection-read-timeout") (case "connection-write-timeout")
      (case "connection-limit-reached") (case "TLS-protocol-error")
      (case "TLS-certificate-error") (case "TLS-alert-received" $tls)
      (case "HTTP-request-denied") (case "HTTP-request-length-required")
      (case "HTTP-request-body-size" (option u64)) (case "HTTP-request-method-invalid")
      (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
      (case "HTTP-request-header-section-size" (option u32))
      (case "HTTP-request-header-size" (option $field-size))
      (case "HTTP-request-trailer-section-size" (option u32))
      (case "HTTP-request-trailer-size" $field-size) (case "HTTP-response-incomplete")
      (case "HTTP-response-header-section-size" (option u32))
      (case "HTTP-response-header-size" $field-size)
      (case "HTTP-response-body-size" (option u64))
      (case "HTTP-response-trailer-section-size" (option u32))
      (case "HTTP-response-trailer-size" $field-size)
      (case "HTTP-response-transfer-coding" (option string))
      (case "HTTP-response-content-coding" (option string)) (case "HTTP-response-timeout")
      (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
      (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type $error-code (eq $c)))"#;
