//! Images that are not there yet.

use serde_json::json;

use super::harness::{World, container, is_ready, waiting};
use crate::runtime_pods::bench::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_its_module_and_starts_when_it_is_pushed() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    world
        .create("web", json!({"containers": [container("hello")]}))
        .await;
    let pod = world
        .until("web", |pod| {
            ["ErrImagePull", "ImagePullBackOff"].contains(&waiting(pod).as_str())
        })
        .await;
    let statuses = pod.status.unwrap().container_statuses.unwrap();
    let waiting = statuses[0].state.clone().unwrap().waiting.unwrap();
    assert!(waiting.message.unwrap().contains("wasmorch push hello"));
    world.push_hello().await;
    world.until("web", is_ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_means_never() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    let spec =
        json!({"containers": [{"name": "main", "image": "hello", "imagePullPolicy": "Never"}]});
    world.create("web", spec).await;
    world
        .until("web", |pod| waiting(pod) == "ErrImageNeverPull")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_modules_that_nobody_uses_are_removed() {
    let world = World::start().await;
    let mut config = world.config("one");
    config.image_gc = wasmorch::worker::images::Policy {
        high: 0,
        low: 0,
        minimum_age: std::time::Duration::ZERO,
    };
    let left = "a".repeat(64);
    let images = config.data_dir.join("images");
    let files = [
        images.join(format!("{left}.wasm")),
        config.compiled_dir.join(format!("{left}.code.cwasm")),
    ];
    for file in &files {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "left by a pod of before").unwrap();
    }
    let _worker = world.worker_with(config).await;
    world.push_hello().await;
    world
        .create("web", json!({"containers": [container("hello")]}))
        .await;
    world.until("web", is_ready).await;
    until("they are gone", || !files.iter().any(|it| it.exists())).await;
}
