//! Many pods at once.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use super::harness::{World, container, is_ready, within};

/// Wide enough to find what serialises pods; the figure is printed, not asserted.
const PODS: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_pods_becomes_ready() {
    let world = World::start().await;
    let _worker = world.worker("one").await;
    world.push_hello().await;
    world
        .create("first", json!({"containers": [container("hello")]}))
        .await;
    world.until("first", is_ready).await;
    let started = Instant::now();
    let creating = (0..PODS).map(|index| {
        let world = &world;
        async move {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{index}")},
                "spec": {"containers": [container("hello")]}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            world.pods().create(&PostParams::default(), &pod).await.unwrap();
        }
    });
    futures::future::join_all(creating).await;
    let created = started.elapsed();
    for index in 0..PODS {
        world.until(&format!("p{index}"), is_ready).await;
    }
    eprintln!(
        "{PODS} pods: created in {created:?}, ready in {:?}",
        started.elapsed()
    );
    let pods = within(world.pods().list(&ListParams::default()))
        .await
        .unwrap();
    let mut ips: Vec<_> = pods
        .items
        .iter()
        .map(|pod| pod.status.as_ref().unwrap().pod_ip.clone())
        .collect();
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), PODS + 1, "every pod has an address of its own");
}
