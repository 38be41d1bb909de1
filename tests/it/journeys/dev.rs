//! The life of `wasmorch dev`: it ends, it is killed, it comes back, it is left alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, WatchParams};
use serde_json::json;

use super::{run_hello, with_hello};
use crate::cluster::{Cluster, cpu_time, dev, is_alive, until};

/// A pod that nobody would make again.
fn lonely() -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lonely"}, "spec": {
        "containers": [{"name": "hello", "image": "hello"}],
    }})
    .to_string()
}

async fn pods(cluster: &Cluster) -> BTreeMap<String, Pod> {
    let pods = cluster.pods("").await.into_iter();
    pods.map(|pod| (pod.metadata.uid.clone().unwrap(), pod))
        .collect()
}

/// The same pods, every one of them started once more and ready.
async fn wait_for_all_again(cluster: &Cluster, before: &BTreeMap<String, Pod>) {
    until("every pod to be back", async || {
        let now = pods(cluster).await;
        let is_back = |pod: &Pod| {
            let statuses = pod.status.as_ref().unwrap().container_statuses.as_ref();
            let restarted = statuses.unwrap().iter().all(|it| it.restart_count == 1);
            restarted && wasmorch::api::pod::is_ready(pod)
        };
        (now.keys().eq(before.keys()) && now.values().all(is_back)).then_some(())
    })
    .await;
    until("an answer", async || {
        (cluster.get("hello.default.localhost", "/").await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_ends_at_once_and_comes_back_as_it_was() {
    let cluster = with_hello(3).await;
    cluster.apply(&lonely());
    let before = until("the lonely pod", async || {
        let pods = pods(&cluster).await;
        let all = pods.len() == 4 && pods.values().all(wasmorch::api::pod::is_ready);
        all.then_some(pods)
    })
    .await;
    let pids = cluster.pids();
    assert_eq!(pids.len(), 6, "{pids:?}");
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    let (took, said, directory) = cluster.stop();
    eprintln!("a cluster of 6 processes ended in {took:.2?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(!said.contains("was killed"), "{said}");
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "{pids:?}");

    let cluster = Cluster::start_in(directory, &[]).await;
    wait_for_all_again(&cluster, &before).await;
}

/// Nobody is left behind, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_children_of_a_killed_dev_end_and_the_next_one_goes_on() {
    let cluster = with_hello(2).await;
    cluster.apply(&lonely());
    let before = until("the lonely pod", async || {
        let pods = pods(&cluster).await;
        let all = pods.len() == 3 && pods.values().all(wasmorch::api::pod::is_ready);
        all.then_some(pods)
    })
    .await;
    let pids = cluster.pids();
    let directory = cluster.kill_dev();
    let since = Instant::now();
    let cluster = Cluster::start_in(directory, &[]).await;
    until("the old processes to end", async || {
        (!pids.iter().any(|pid| is_alive(*pid))).then_some(())
    })
    .await;
    eprintln!(
        "a killed dev's successor was up, its children gone, after {:.2?}",
        since.elapsed()
    );
    wait_for_all_again(&cluster, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_dev_in_the_same_directory_is_refused_in_words() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    run_hello(&cluster, 1).await;
    for more in [&[][..], &["--fresh"]] {
        let output = dev(&cluster.root()).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(
            said.contains("already runs in") && said.contains("help:"),
            "{said}"
        );
        assert!(said.contains("(pid "), "{said}");
    }
    assert_eq!(cluster.get("hello.default.localhost", "/").await.0, 200);
    assert_eq!(cluster.pods("").await.len(), 1, "nothing was deleted");
}

/// A cluster that nobody uses costs next to nothing, pods and their probes included.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_rests() {
    let cluster = with_hello(6).await;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
    let used = || -> Duration { cluster.pids().into_iter().map(cpu_time).sum() };
    // Time is told by the workers' own leases, renewed twice a second by each of three.
    let params = WatchParams::default().timeout(60);
    let mut beats = Box::pin(leases.watch(&params, "0").await.unwrap());
    let mut wait = async |count: usize| {
        for _ in 0..count {
            beats.next().await.unwrap().unwrap();
        }
    };
    wait(6).await;
    let (since, before) = (Instant::now(), used());
    wait(24).await;
    let share = used().saturating_sub(before).as_secs_f64() / since.elapsed().as_secs_f64();
    eprintln!(
        "an idle cluster of 6 processes and 6 pods takes {:.1} % of a core",
        share * 100.0
    );
    // A debug build, and six probes a second.
    assert!(share < 0.5, "{share}");
}
