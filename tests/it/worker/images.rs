//! Images that are not there yet.

use serde_json::json;

use super::harness::{World, container, is_ready, waiting};

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
