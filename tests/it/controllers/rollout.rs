//! Deployments and ReplicaSets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::json;
use wasmorch::api::annotations::REVISION;
use wasmorch::api::{owner, pod};
use wasmorch::registry::{Caller, TypedEvent};

use super::{Cluster, NS, by_node, deployment, image, ready};

fn replicas(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.as_ref().unwrap().replicas.unwrap()
}

fn revision(deployment: &Deployment) -> &str {
    &deployment.metadata.annotations.as_ref().unwrap()[REVISION]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_becomes_ready_pods_on_every_node() {
    let cluster = Cluster::new().await;
    cluster.create::<Deployment>(NS, deployment("web", 6)).await;
    let web = cluster.rolled_out("web").await;
    assert_eq!(revision(&web), "1");
    let conditions = web.status.as_ref().unwrap().conditions.as_ref().unwrap();
    let is_true = |kind: &str| {
        conditions
            .iter()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    assert!(
        is_true("Available") && is_true("Progressing"),
        "{conditions:?}"
    );

    let sets = cluster.replica_sets();
    assert_eq!(sets.len(), 1);
    let name = sets[0].metadata.name.clone().unwrap();
    assert!(name.starts_with("web-"), "{name}");
    assert_eq!(owner::controller_of(&sets[0].metadata).unwrap().name, "web");
    let pods = cluster.pods();
    assert!(
        pods.iter()
            .all(|pod| pod.metadata.name.as_ref().unwrap().starts_with(&name))
    );
    assert!(
        by_node(&pods).values().all(|&count| count == 2),
        "{:?}",
        by_node(&pods)
    );
    cluster
        .until::<Event>(Some(NS), "the events of a rollout", |events| {
            ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled"]
                .iter()
                .all(|reason| {
                    events
                        .iter()
                        .any(|event| event.reason.as_deref() == Some(reason))
                })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_keeps_its_fences_and_an_undo_uses_the_old_replica_set() {
    let cluster = Cluster::new().await;
    let mut web = deployment("web", 4);
    web["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}});
    cluster.create::<Deployment>(NS, web).await;
    cluster.rolled_out("web").await;

    // Whoever watches pods never sees fewer than three ready, nor more than five.
    let (fewest, most) = (
        Arc::new(AtomicUsize::new(usize::MAX)),
        Arc::new(AtomicUsize::new(0)),
    );
    let api = cluster.registry.api::<Pod>(Caller::system("test"));
    let mut changes = api.watch(Some(NS)).await.unwrap();
    let (low, high) = (Arc::clone(&fewest), Arc::clone(&most));
    let watcher = cluster.tasks.spawn_contained("watcher", async move {
        let mut pods = std::collections::BTreeMap::new();
        while let Some(change) = changes.next().await {
            match change.unwrap() {
                TypedEvent::Added(pod) | TypedEvent::Modified(pod) => {
                    pods.insert(pod.metadata.name.clone(), pod);
                }
                TypedEvent::Deleted(pod) => {
                    pods.remove(&pod.metadata.name);
                }
                TypedEvent::Bookmark(_) => {}
            }
            if pods.len() >= 4 {
                let all: Vec<Arc<Pod>> = pods.values().cloned().collect();
                low.fetch_min(ready(&all), Ordering::Relaxed);
                let active = all.iter().filter(|pod| pod::is_active(pod)).count();
                high.fetch_max(active, Ordering::Relaxed);
            }
        }
    });

    cluster.merge::<Deployment>("web", image("v2")).await;
    let web = cluster.rolled_out("web").await;
    assert_eq!(revision(&web), "2");
    cluster.merge::<Deployment>("web", image("v1")).await;
    let web = cluster.rolled_out("web").await;
    assert_eq!(revision(&web), "3");
    watcher.abort();
    assert!(fewest.load(Ordering::Relaxed) >= 3, "{fewest:?} ready");
    assert!(most.load(Ordering::Relaxed) <= 5, "{most:?} active");

    let sets = cluster.replica_sets();
    let mut sizes: Vec<i32> = sets.iter().map(|set| replicas(set)).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 4], "the undo made no third ReplicaSet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_never_runs_two_versions() {
    let cluster = Cluster::new().await;
    let mut web = deployment("web", 3);
    web["spec"]["strategy"] = json!({"type": "Recreate"});
    cluster.create::<Deployment>(NS, web).await;
    cluster.rolled_out("web").await;
    cluster.merge::<Deployment>("web", image("v2")).await;
    cluster.rolled_out("web").await;
    let images: Vec<String> = cluster
        .pods()
        .iter()
        .map(|pod| {
            pod.spec.as_ref().unwrap().containers[0]
                .image
                .clone()
                .unwrap()
        })
        .collect();
    assert!(images.iter().all(|image| image == "hello:v2"), "{images:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_up_and_down_is_even() {
    let cluster = Cluster::new().await;
    cluster.create::<Deployment>(NS, deployment("web", 1)).await;
    for size in [150, 30, 0, 3] {
        cluster
            .merge::<Deployment>("web", json!({"spec": {"replicas": size}}))
            .await;
        cluster.rolled_out("web").await;
        let pods = cluster
            .until::<Pod>(Some(NS), "the pods", |pods| {
                pods.len() == size && ready(pods) == size
            })
            .await;
        let counts = by_node(&pods);
        let even =
            |(node, &count): (&String, &usize)| node.starts_with("dev-") && count == size / 3;
        assert!(counts.iter().all(even), "{counts:?}");
    }
    assert_eq!(cluster.replica_sets().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_set_adopts_and_releases_by_label() {
    let cluster = Cluster::new().await;
    let orphan = json!({"metadata": {"name": "orphan", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "hello"}]}});
    cluster.create::<Pod>(NS, orphan).await;
    let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "hello"}]}}}});
    cluster.create::<ReplicaSet>(NS, set).await;
    let pods = cluster.until::<Pod>(Some(NS), "two pods", |pods| ready(pods) == 2);
    let pods = pods.await;
    assert!(
        pods.iter()
            .any(|pod| pod.metadata.name.as_deref() == Some("orphan"))
    );
    assert!(
        pods.iter()
            .all(|pod| owner::controller_of(&pod.metadata).is_some())
    );

    cluster
        .merge::<Pod>("orphan", json!({"metadata": {"labels": {"app": "debug"}}}))
        .await;
    let pods = cluster
        .until::<Pod>(Some(NS), "a replacement", |pods| ready(pods) == 3)
        .await;
    let orphan = pods
        .iter()
        .find(|pod| pod.metadata.name.as_deref() == Some("orphan"));
    assert!(owner::controller_of(&orphan.unwrap().metadata).is_none());
}

/// G13 on a fake kubelet; run by hand with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn a_thousand_replicas() {
    let cluster = Cluster::new().await;
    cluster
        .create::<Deployment>(NS, deployment("warm", 3))
        .await;
    cluster.rolled_out("warm").await;
    let start = std::time::Instant::now();
    cluster
        .create::<Deployment>(NS, deployment("web", 1000))
        .await;
    let what = "a thousand pods";
    cluster
        .until::<Pod>(Some(NS), what, |pods| pods.len() == 1003)
        .await;
    println!("created after {:?}", start.elapsed());
    let is_bound = |pod: &Arc<Pod>| pod::node_name(pod).is_some();
    cluster
        .until::<Pod>(Some(NS), what, |pods| {
            pods.iter().filter(|p| is_bound(p)).count() == 1003
        })
        .await;
    println!("bound after {:?}", start.elapsed());
    cluster
        .until::<Pod>(Some(NS), what, |pods| ready(pods) == 1003)
        .await;
    println!("ready after {:?}", start.elapsed());
    cluster.rolled_out("web").await;
    println!("reported after {:?}", start.elapsed());
    for (name, counters) in cluster.handle.counters() {
        println!(
            "{name}: {} reconciles, {} errors, {:?} busy",
            counters.reconciles(),
            counters.errors(),
            counters.busy()
        );
    }
}
