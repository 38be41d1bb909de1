//! What each hostile guest does: the programs of the arena, and of the journey that a worker's memory
//! comes back from.

use super::guests::{CLOSE, FIELDS, OPEN, POLLABLES, SOCKETS, WRITE, command, core};

/// Takes memory page by page, and touches each.
pub(crate) fn memory_bomb() -> String {
    let code = "(func (export \"_start\") (local $at i32)
      (loop $l
        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 65536)))
        (i32.store (local.get $at) (i32.const 1))
        (br $l)))";
    core(&[], 1, code)
}

/// Takes table elements until it gets no more.
pub(crate) fn table_bomb() -> String {
    let code = "(table $t 1 funcref)
      (func (export \"_start\") (loop $l
        (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 100000)) (i32.const -1))))
        unreachable)";
    core(&[], 1, code)
}

/// Opens a file a million times; its name is a new one each time if `renames`, and it is closed again.
pub(crate) fn a_million_files(renames: bool) -> String {
    let rename = if renames {
        // The digits of the name count up.
        "(call $check (call $fd_close (i32.load (i32.const 16))))
         (local.set $at (i32.const 138))
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
    core(&[OPEN, CLOSE], 1, &code)
}

/// Makes a hundred thousand sockets; leaves 1 at the first error, which is `new-socket-limit` (10).
pub(crate) fn a_hundred_thousand_sockets() -> String {
    let code = "(local $i i32)
      (loop $l
        (call $create (i32.const 0) (i32.const 16))
        (if (i32.load8_u (i32.const 16))
          (then (return (i32.eq (i32.load8_u (i32.const 20)) (i32.const 10)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 100000))))
      (i32.const 0)";
    let lowers = [("create", "create", "create-tcp-socket", "(param i32 i32)")];
    command(SOCKETS, &lowers, code)
}

/// Asks for ten million pollables.
pub(crate) fn ten_million_pollables() -> String {
    let code = "(local $i i32)
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
    command(POLLABLES, &lowers, code)
}

/// Makes ten million handles of its own.
pub(crate) const TEN_MILLION_HANDLES: &str = r#"(component
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

/// Calls of WASI 0.3 that are begun and never waited for.
pub(crate) const TEN_MILLION_CALLS: &str = r#"(component
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

/// Waits for thousands of timers at once, two hundred times; each wait arms them anew.
pub(crate) fn thousands_of_timers() -> String {
    let code = "(local $i i32)
      (loop $fill
        (i32.store (i32.shl (local.get $i) (i32.const 2)) (call $subscribe (i64.const 3600000000000)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $i) (i32.const 4000))))
      (local.set $i (i32.const 0))
      (loop $l
        (i32.store (i32.const 16000) (call $subscribe (i64.const 500000)))
        (call $poll (i32.const 0) (i32.const 4001) (i32.const 60000))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 200))))
      (i32.const 0)";
    command(POLLABLES, &TIMERS, code)
}

/// Fills one set of header fields without end.
pub(crate) fn full_fields() -> String {
    let code = "(local $fields i32)
      (local.set $fields (call $fields))
      (i32.store8 (i32.const 0) (i32.const 120))
      (memory.fill (i32.const 1024) (i32.const 118) (i32.const 1000))
      (loop $l
        (call $append (local.get $fields) (i32.const 0) (i32.const 1) (i32.const 1024)
          (i32.const 1000) (i32.const 512))
        (br_if $l (i32.eqz (i32.load8_u (i32.const 512)))))
      (i32.const 0)";
    command(FIELDS, &APPEND, code)
}

/// What a guest calls that waits for clocks.
pub(crate) const TIMERS: [(&str, &str, &str, &str); 2] = [
    (
        "subscribe",
        "clock",
        "subscribe-duration",
        "(param i64) (result i32)",
    ),
    ("poll", "poll", "poll", "(param i32 i32 i32)"),
];

const APPEND: [(&str, &str, &str, &str); 2] = [
    ("fields", "http", "[constructor]fields", "(result i32)"),
    (
        "append",
        "http",
        "[method]fields.append",
        "(param i32 i32 i32 i32 i32 i32)",
    ),
];

/// Lets the host keep headers: one buffer of 60 KiB again and again.
pub(crate) fn headers() -> String {
    let code = "(i32.store8 (i32.const 0) (i32.const 120))
      (memory.fill (i32.const 1024) (i32.const 118) (i32.const 60000))
      (loop $l
        (call $append (call $fields) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 60000)
          (i32.const 512))
        (br $l))
      (i32.const 0)";
    command(FIELDS, &APPEND, code)
}

/// Writes 64 KiB without a newline, 5,000 times.
pub(crate) fn flood() -> String {
    let code = "(func (export \"_start\") (local $i i32)
      (memory.fill (i32.const 65536) (i32.const 27) (i32.const 65536))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.const 65536))
      (loop $l
        (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 5000)))))";
    core(&[WRITE], 2, code)
}

/// Writes to one file until an error, and leaves with that.
pub(crate) fn full_disk() -> String {
    let code = "(func (export \"_start\")
      (call $check (call $path_open (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 11)
        (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.const 1000000))
      (loop $l
        (call $check (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $l)))";
    core(&[OPEN, WRITE], 20, code)
}
