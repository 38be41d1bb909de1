//! Programs in text form that want too much.

use std::fmt::Write as _;

/// A WASI 0.1 program: `imports` by name and parameters (`i` is 32 bits, `l` is 64), the pages of its
/// memory, and its `_start`.
pub(super) fn core(imports: &[(&str, &str)], pages: u32, code: &str) -> String {
    let imports: Vec<String> = imports
        .iter()
        .map(|(name, types)| import(name, types))
        .collect();
    let imports = imports.join("\n");
    format!(
        r#"(module
  {imports}
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") {pages})
  (data (i32.const 128) "tmp/0000000")
  (data (i32.const 160) "/etc/passwd")
  (data (i32.const 192) "../../../../../../etc/passwd")
  (data (i32.const 224) "tmp/link")
  (data (i32.const 256) "tmp/../../proc/self/environ")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  {code})"#
    )
}

fn import(name: &str, types: &str) -> String {
    let types = types
        .chars()
        .map(|kind| if kind == 'i' { " i32" } else { " i64" });
    let types: String = types.collect();
    format!(
        "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param{types}) (result i32)))"
    )
}

pub(super) const RANDOM: (&str, &str) = ("random_get", "ii");
pub(super) const POLL: (&str, &str) = ("poll_oneoff", "iiii");
pub(super) const OPEN: (&str, &str) = ("path_open", "iiiiillii");
pub(super) const CLOSE: (&str, &str) = ("fd_close", "i");
pub(super) const WRITE: (&str, &str) = ("fd_write", "iiii");
pub(super) const SYMLINK: (&str, &str) = ("path_symlink", "iiiii");

/// A WASI 0.2 command: `imports` declares instances, `lowers` are (name in the code, instance,
/// function, parameters and results), `code` leaves 0 or 1.
pub(super) fn command(imports: &str, lowers: &[(&str, &str, &str, &str)], code: &str) -> String {
    let mut lowered = String::new();
    let mut wanted = String::new();
    let mut given = String::new();
    for (name, instance, function, signature) in lowers {
        let _ = writeln!(
            lowered,
            "(core func ${name} (canon lower (func ${instance} \"{function}\")\
               (memory $memory) (realloc (core func $m \"realloc\"))))"
        );
        let _ = writeln!(
            wanted,
            "(import \"host\" \"{name}\" (func ${name} {signature}))"
        );
        let _ = writeln!(given, "(export \"{name}\" (func ${name}))");
    }
    format!(
        r#"(component
  {imports}
  (core module $memory
    (memory (export "memory") 64)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 2097152)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $memory))
  {lowered}
  (core module $main
    {wanted}
    (import "host" "memory" (memory 1))
    (func (export "run") (result i32) {code}))
  (core instance $i (instantiate $main (with "host" (instance
    {given}
    (export "memory" (memory $memory))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $r)))"#
    )
}

pub(super) const POLLABLES: &str = r#"
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $p (sub resource)))
    (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $o))
    (export "pollable" (type $p (eq $o)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))"#;

pub(super) const RANDOM_BYTES: &str = r#"
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#;

pub(super) const SOCKETS: &str = r#"
  (import "wasi:sockets/network@0.2.0" (instance $network
    (type $e (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory"
      "timeout" "concurrency-conflict" "not-in-progress" "would-block" "invalid-state"
      "new-socket-limit" "address-not-bindable" "address-in-use" "remote-unreachable"
      "connection-refused" "connection-reset" "connection-aborted" "datagram-too-large"
      "name-unresolvable" "temporary-resolver-failure" "permanent-resolver-failure"))
    (export "error-code" (type $error-code (eq $e)))
    (type $f (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type $family (eq $f)))))
  (alias export $network "error-code" (type $error-code))
  (alias export $network "ip-address-family" (type $family))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp
    (export "tcp-socket" (type $t (sub resource)))))
  (alias export $tcp "tcp-socket" (type $tcp-socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
    (alias outer 1 $error-code (type $e))
    (export "error-code" (type $error-code (eq $e)))
    (alias outer 1 $family (type $f))
    (export "ip-address-family" (type $family (eq $f)))
    (alias outer 1 $tcp-socket (type $t))
    (export "tcp-socket" (type $tcp-socket (eq $t)))
    (export "create-tcp-socket" (func (param "address-family" $family)
      (result (result (own $tcp-socket) (error $error-code)))))))"#;

pub(super) const FIELDS: &str = r#"
  (import "wasi:http/types@0.2.0" (instance $http
    (type $h (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $header-error (eq $h)))
    (export "fields" (type $fields (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]fields.append" (func (param "self" (borrow $fields))
      (param "name" string) (param "value" (list u8)) (result (result (error $header-error)))))))"#;
