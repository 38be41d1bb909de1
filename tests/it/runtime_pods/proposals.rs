//! `wasi:config`, `wasi:keyvalue` and `wasi:logging`, called by guests.

use std::sync::Arc;

use wasmorch::runtime::spec::{ExitReason, MountSpec, VolumeSource, VolumeSpec};

use super::bench::{Bench, container, pod_spec, run};

/// Logs what `GREETING` says and adds 5 to `hits`; fails if the sum is not `expected`.
pub(crate) fn counting(expected: u64) -> String {
    let code = format!(
        r"
    (call $config (i32.const 100) (i32.const 8) (i32.const 0))
    (if (i32.or (i32.load8_u (i32.const 0)) (i32.eqz (i32.load8_u (i32.const 4))))
      (then unreachable))
    (call $log (i32.const 3) (i32.const 110) (i32.const 3)
      (i32.load (i32.const 8)) (i32.load (i32.const 12)))
    (call $open (i32.const 0) (i32.const 0) (i32.const 0))
    (if (i32.load8_u (i32.const 0)) (then unreachable))
    (local.set $bucket (i32.load (i32.const 4)))
    (call $increment (local.get $bucket) (i32.const 120) (i32.const 4) (i64.const 5) (i32.const 0))
    (if (i32.load8_u (i32.const 0)) (then unreachable))
    (if (i64.ne (i64.load (i32.const 8)) (i64.const {expected})) (then (return (i32.const 1))))
    (call $set (local.get $bucket) (i32.const 100) (i32.const 300)
      (i32.const 120) (i32.const 4) (i32.const 0))
    (if (i32.eqz (i32.load8_u (i32.const 0))) (then unreachable))
    (call $log (i32.const 4) (i32.const 0) (i32.const 0)
      (i32.load (i32.const 8)) (i32.load (i32.const 12)))
    (call $drop (local.get $bucket))
    (i32.const 0)"
    );
    component(&code)
}

fn component(code: &str) -> String {
    format!(
        r#"(component
  (import "wasi:config/store@0.2.0-rc.1" (instance $config
    (type $v (variant (case "upstream" string) (case "io" string)))
    (export "error" (type $error (eq $v)))
    (export "get" (func (param "key" string) (result (result (option string) (error $error)))))))
  (import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $l)))
    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
  (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
    (export "bucket" (type $bucket (sub resource)))
    (type $v (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $v)))
    (export "open" (func (param "identifier" string)
      (result (result (own $bucket) (error $error)))))
    (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
      (param "value" (list u8)) (result (result (error $error)))))))
  (alias export $store "bucket" (type $bucket))
  (alias export $store "error" (type $kv-error))
  (import "wasi:keyvalue/atomics@0.2.0-draft" (instance $atomics
    (alias outer 1 $bucket (type $b))
    (alias outer 1 $kv-error (type $e))
    (export "bucket" (type $bucket (eq $b)))
    (export "error" (type $error (eq $e)))
    (export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string)
      (param "delta" u64) (result (result u64 (error $error)))))))
  (core module $memory
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $next))
      (global.set $next (i32.add (global.get $next) (local.get 3)))
      (local.get $at))
    (data (i32.const 100) "GREETING")
    (data (i32.const 110) "app")
    (data (i32.const 120) "hits"))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "realloc" (core func $realloc))
  (core func $get (canon lower (func $config "get") (memory $mem) (realloc $realloc)))
  (core func $log (canon lower (func $logging "log") (memory $mem)))
  (core func $open (canon lower (func $store "open") (memory $mem) (realloc $realloc)))
  (core func $set (canon lower (func $store "[method]bucket.set")
    (memory $mem) (realloc $realloc)))
  (core func $increment (canon lower (func $atomics "increment")
    (memory $mem) (realloc $realloc)))
  (core func $drop (canon resource.drop $bucket))
  (core module $main
    (import "h" "memory" (memory 1))
    (import "h" "get" (func $config (param i32 i32 i32)))
    (import "h" "log" (func $log (param i32 i32 i32 i32 i32)))
    (import "h" "open" (func $open (param i32 i32 i32)))
    (import "h" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
    (import "h" "increment" (func $increment (param i32 i32 i32 i64 i32)))
    (import "h" "drop" (func $drop (param i32)))
    (func (export "run") (result i32) (local $bucket i32) {code}))
  (core instance $i (instantiate $main (with "h" (instance
    (export "memory" (memory $mem)) (export "get" (func $get)) (export "log" (func $log))
    (export "open" (func $open)) (export "set" (func $set))
    (export "increment" (func $increment)) (export "drop" (func $drop))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $r)))"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_the_environment_and_logs_have_levels() {
    let bench = Bench::new();
    let pod = bench.pod("10.64.0.1");
    let mut spec = container("app", &[]);
    spec.env = vec![("GREETING".to_owned(), "hello\nworld".to_owned())];
    let (exit, log) = run(&pod, spec, &bench.wat(&counting(5)).await).await;
    assert_eq!(
        (exit.code, exit.reason),
        (0, ExitReason::Completed),
        "{exit:?}"
    );
    assert_eq!(
        log.text(),
        "WARN app: hello\n  world\nERROR: a key has at most 120 bytes, this one has 300\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_shared_by_a_namespace_and_a_volumes_by_its_pod() {
    let bench = Bench::new();
    let greeting = || {
        let mut spec = container("app", &[]);
        spec.env = vec![("GREETING".to_owned(), "hi".to_owned())];
        spec
    };
    let count = async |pod: &wasmorch::runtime::PodSandbox, expected| {
        let program = bench.wat(&counting(expected)).await;
        let (exit, log) = run(pod, greeting(), &program).await;
        assert_eq!(exit.code, 0, "{expected}: {exit:?} {}", log.text());
    };
    let (first, second) = (bench.pod("10.64.0.1"), bench.pod("10.64.0.2"));
    let other = {
        let mut spec = pod_spec("10.64.0.3");
        spec.namespace = "other".to_owned();
        bench.runtime.create_sandbox(spec).unwrap()
    };
    let kept = {
        let mut spec = pod_spec("10.64.0.4");
        spec.keyvalue_volume = Some("data".to_owned());
        spec.volumes = vec![VolumeSpec {
            name: "data".to_owned(),
            source: VolumeSource::Empty {
                size_limit: None,
                is_memory: false,
            },
        }];
        bench.runtime.create_sandbox(spec).unwrap()
    };
    count(&first, 5).await;
    count(&second, 10).await;
    count(&first, 15).await;
    count(&other, 5).await;
    count(&kept, 5).await;
    count(&kept, 10).await;
    // What is on a volume are files of the volume.
    let mut spec = greeting();
    spec.mounts = vec![MountSpec {
        volume: "data".to_owned(),
        path: "/data".to_owned(),
        sub_path: None,
        read_only: true,
    }];
    let (exit, log) = run(&kept, spec, &bench.wat(&counting(15)).await).await;
    assert_eq!(exit.code, 0, "{exit:?} {}", log.text());
    let usage = kept.stats().storage_bytes;
    assert!(usage > 0, "{usage}");
    // The last pods of a namespace take its memory along.
    drop((first, second));
    let again = bench.pod("10.64.0.5");
    count(&again, 5).await;

    let mut lost = pod_spec("10.64.0.6");
    lost.keyvalue_volume = Some("lost".to_owned());
    let error = bench.runtime.create_sandbox(lost).err().unwrap();
    assert_eq!(error.to_string(), "there is no volume `lost`");
    let _: Arc<_> = other;
}
