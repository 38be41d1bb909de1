//! Numbers of things: descriptors, files, sockets, handles.

use wasmorch::runtime::spec::ExitReason;

use super::arena::{Arena, start};
use super::attacks;
use crate::runtime_pods::bench::{ended, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_million_open_files_end_at_the_limit_of_descriptors() {
    let arena = Arena::new().await;
    let attacked = arena.pod();
    let artifact = arena.bench.wat(&attacks::a_million_files(false)).await;
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
    let artifact = arena.bench.wat(&attacks::a_million_files(true)).await;
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
    let artifact = arena
        .bench
        .wat(&attacks::a_hundred_thousand_sockets())
        .await;
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
    for text in [
        &attacks::ten_million_pollables(),
        attacks::TEN_MILLION_HANDLES,
        attacks::TEN_MILLION_CALLS,
    ] {
        let (exit, stats) = arena.run(text).await;
        assert_eq!((exit.code, exit.reason), (134, ExitReason::Error));
        assert_eq!(stats.refused.handles, 1);
        assert!(
            exit.message.contains("limit of 20000 host objects"),
            "{exit:?}"
        );
    }
}
