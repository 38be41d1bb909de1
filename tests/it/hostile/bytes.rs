//! Bytes that leave the guest: output, files, and paths that want out.

use std::sync::Arc;

use wasmorch::clock::Clock;
use wasmorch::runtime::spec::{ExitReason, LogSink};
use wasmorch::worker::logs::{Limits, LogId, Logs};

use super::arena::{Arena, start};
use super::attacks;
use super::guests::{OPEN, SYMLINK, core};
use crate::runtime_pods::bench::{container, ended, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_is_dropped_counted_and_bounded_on_disk() {
    let arena = Arena::new().await;
    let attacked = arena.pod();
    let directory = arena.bench.dir.path().join("logs");
    let limits = Limits {
        file_bytes: 1 << 20,
        bytes_per_second: 1 << 20,
        burst_bytes: 1 << 20,
    };
    let logs = Logs::new(directory.clone(), limits, Clock::system()).unwrap();
    let id = LogId {
        namespace: "default".to_owned(),
        pod: "p".to_owned(),
        uid: "u".to_owned(),
        container: "app".to_owned(),
    };
    let sink = logs.open(&id, 0) as Arc<dyn LogSink>;
    let artifact = arena.bench.wat(&attacks::flood()).await;
    let running = attacked
        .pod
        .start(container("app", &[]), artifact, sink)
        .unwrap();
    let exit = arena.during(ended(&running)).await;
    assert_eq!(exit.reason, ExitReason::Completed, "{exit:?}");
    assert!(
        running.stats().refused.log_bytes > 100 << 20,
        "{:?}",
        running.stats()
    );
    let said = within(attacked.pod.limit_reached()).await;
    assert!(
        said.contains("of output dropped, above the log rate"),
        "{said}"
    );
    logs.flush().await;
    let kept = size(&directory);
    assert!(kept > 0 && kept < 3 << 20, "{kept} bytes on disk");
    attacked.close(&arena).await;
}

fn size(path: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => size(&entry.path()),
        metadata => metadata.len(),
    });
    sizes.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_the_pods_own() {
    let arena = Arena::new().await;
    let attacked = arena.pod();
    let artifact = arena.bench.wat(&attacks::full_disk()).await;
    let running = start(&attacked.pod, &artifact);
    let exit = arena.during(ended(&running)).await;
    assert_eq!((exit.code, exit.reason), (51, ExitReason::Error), "ENOSPC");
    let said = within(attacked.pod.storage_full()).await;
    assert!(said.contains("files have 64 MiB of 64 MiB"), "{said}");
    assert!(attacked.pod.stats().storage_bytes <= 64 << 20);
    attacked.close(&arena).await;
}

/// Counts the ways out that were open; it exits with their number.
#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out() {
    let arena = Arena::new().await;
    let open = |at: u32, length: u32, follow: u32| {
        format!(
            "(local.set $out (i32.add (local.get $out) (i32.eqz (call $path_open (i32.const 3)
               (i32.const {follow}) (i32.const {at}) (i32.const {length}) (i32.const 0) (i64.const 2)
               (i64.const 0) (i32.const 0) (i32.const 16)))))"
        )
    };
    let tries = [
        open(160, 11, 1),
        open(192, 28, 1),
        open(256, 27, 1),
        open(224, 8, 1),
        open(224, 8, 0),
    ];
    let code = format!(
        "(func (export \"_start\") (local $out i32)
           (drop (call $path_symlink (i32.const 160) (i32.const 11) (i32.const 3) (i32.const 224) (i32.const 8)))
           {}
           (call $exit (local.get $out)))",
        tries.join("\n")
    );
    let (exit, _) = arena.run(&core(&[OPEN, SYMLINK], 1, &code)).await;
    assert_eq!(
        (exit.code, exit.reason),
        (0, ExitReason::Completed),
        "{exit:?}"
    );
}
