//! Small WASI 0.1 programs that do one thing with one file and say by their exit code how it went:
//! 0, or 100 and the error's number.

/// Appends `text` to the file, made if it is missing.
pub(super) fn appends(path: &str, text: &str) -> Vec<u8> {
    program(
        path,
        text,
        r"
    (call $check (call $open (i32.const 3) (i32.const 1) (i32.const 256) (i32.const $PATH)
      (i32.const 1) (i64.const 64) (i64.const 64) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 0) (i32.const 512))
    (i32.store (i32.const 4) (i32.const $TEXT))
    (call $check (call $write (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 12)))",
    )
}

/// Reads the file again and again until it is exactly `text`.
pub(super) fn awaits(path: &str, text: &str) -> Vec<u8> {
    program(
        path,
        text,
        r"
    (local $at i32)
    (loop $again
      (call $check (call $open (i32.const 3) (i32.const 1) (i32.const 256) (i32.const $PATH)
        (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8)))
      (i32.store (i32.const 0) (i32.const 2048))
      (i32.store (i32.const 4) (i32.const 1024))
      (call $check (call $read (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 12)))
      (call $check (call $close (i32.load (i32.const 8))))
      (drop (call $yield))
      (br_if $again (i32.ne (i32.load (i32.const 12)) (i32.const $TEXT)))
      (local.set $at (i32.const 0))
      (block $same (loop $next
        (br_if $same (i32.eq (local.get $at) (i32.const $TEXT)))
        (br_if $again (i32.ne
          (i32.load8_u (i32.add (local.get $at) (i32.const 512)))
          (i32.load8_u (i32.add (local.get $at) (i32.const 2048)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))",
    )
}

fn program(path: &str, text: &str, body: &str) -> Vec<u8> {
    let (path, text) = (
        path.trim_start_matches('/'),
        text.escape_default().to_string(),
    );
    let length = text.len();
    let body = body
        .replace("$PATH", &path.len().to_string())
        .replace("$TEXT", &length.to_string());
    let module = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 256) "{path}")
  (data (i32.const 512) "{text}")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (i32.add (i32.const 100) (local.get $errno))))))
  (func (export "_start") {body}))"#
    );
    wat::parse_str(module).unwrap()
}
