//! A worker that ends and comes back.

use serde_json::json;

use super::harness::{World, container, is_ready, phase, restarts};

#[tokio::test(flavor = "multi_thread")]
async fn pods_outlive_their_worker_and_deleted_ones_are_finished() {
    let world = World::start().await;
    let worker = world.worker("one").await;
    world.push_hello().await;
    for name in ["stays", "goes"] {
        world
            .create(name, json!({"containers": [container("hello")]}))
            .await;
    }
    let before = world.until("stays", is_ready).await;
    world.until("goes", is_ready).await;
    worker.stop().await;
    world.delete("goes").await;
    let _worker = world.worker("one").await;
    world.until_gone("goes").await;
    let after = world
        .until("stays", |pod| is_ready(pod) && restarts(pod) == 1)
        .await;
    assert_eq!(after.metadata.uid, before.metadata.uid);
    let ip = |pod: &k8s_openapi::api::core::v1::Pod| pod.status.as_ref().unwrap().pod_ip.clone();
    assert_eq!(ip(&after), ip(&before));
    let (code, _) = world.get(&after, 8080, "/").await;
    assert_eq!(code, 200);
    let checkpoints = world.directory.path().join("one/pods");
    assert_eq!(std::fs::read_dir(checkpoints).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_toolbox_that_an_earlier_worker_compiled_runs_again() {
    let world = World::start().await;
    for name in ["first", "second"] {
        let worker = world.worker("one").await;
        let container = json!({"name": "main", "image": "toolbox", "command": ["true"]});
        world
            .create(
                name,
                json!({"restartPolicy": "Never", "containers": [container]}),
            )
            .await;
        world.until(name, |pod| phase(pod) == "Succeeded").await;
        worker.stop().await;
    }
}
