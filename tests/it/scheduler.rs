//! The scheduler on a real registry: binding, refusing in words, and trying again when it helps.

mod neighbours;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use serde_json::{Value, json};
use wasmorch::api::{condition, pod};
use wasmorch::registry::Propagation;

use crate::controllers::{Cluster, NS};

fn pod_of(name: &str, change: &Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "hello", "resources": {"requests": {"cpu": "1"}}}]}});
    json_patch::merge(&mut pod, change);
    pod
}

fn reason(pods: &[Arc<Pod>], name: &str) -> String {
    let pod = pods
        .iter()
        .find(|pod| pod.metadata.name.as_deref() == Some(name));
    let scheduled = pod.and_then(|pod| condition::find(pod::conditions(pod), "PodScheduled"));
    scheduled
        .and_then(|scheduled| scheduled.message.clone())
        .unwrap_or_default()
}

fn node_of(pods: &[Arc<Pod>], name: &str) -> String {
    let pod = pods
        .iter()
        .find(|pod| pod.metadata.name.as_deref() == Some(name));
    pod.and_then(|pod| pod::node_name(pod))
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_a_node_says_why_and_is_bound_when_one_comes() {
    let cluster = Cluster::empty().await;
    cluster.create::<Pod>(NS, pod_of("p", &json!({}))).await;
    cluster
        .until::<Pod>(Some(NS), "the first words", |pods| {
            reason(pods, "p") == "no nodes available to schedule pods"
        })
        .await;
    cluster
        .kubelets
        .start("small", json!({"status": {"allocatable": {"cpu": "500m"}}}))
        .await;
    let words = "0/1 nodes are available: 1 Insufficient cpu.";
    cluster
        .until::<Pod>(Some(NS), "the second words", |pods| {
            reason(pods, "p") == words
        })
        .await;
    cluster
        .until::<Event>(Some(NS), "the event", |events| {
            events.iter().any(|event| {
                event.reason.as_deref() == Some("FailedScheduling")
                    && event.message.as_deref() == Some(words)
            })
        })
        .await;
    cluster.kubelets.start("large", json!({})).await;
    cluster
        .until::<Pod>(Some(NS), "a node", |pods| node_of(pods, "p") == "large")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_taints_and_cordons_are_obeyed() {
    let cluster = Cluster::empty().await;
    let taint = json!([{"key": "gpu", "value": "a100", "effect": "NoSchedule"}]);
    cluster
        .kubelets
        .start("plain", json!({"metadata": {"labels": {"disk": "hdd"}}}))
        .await;
    cluster
        .kubelets
        .start(
            "gpu",
            json!({"metadata": {"labels": {"disk": "ssd"}}, "spec": {"taints": taint}}),
        )
        .await;
    cluster
        .create::<Pod>(NS, pod_of("anywhere", &json!({})))
        .await;
    cluster
        .create::<Pod>(
            NS,
            pod_of("picky", &json!({"spec": {"nodeSelector": {"disk": "ssd"}}})),
        )
        .await;
    let tolerant = json!({"spec": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}});
    cluster
        .create::<Pod>(NS, pod_of("tolerant", &tolerant))
        .await;
    let words = "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {gpu: a100}.";
    cluster
        .until::<Pod>(Some(NS), "the right nodes", |pods| {
            node_of(pods, "anywhere") == "plain"
                && node_of(pods, "tolerant") == "gpu"
                && reason(pods, "picky") == words
        })
        .await;

    let nodes = cluster.api::<Node>();
    let cordon =
        |value: bool| wasmorch::registry::Patch::Merge(json!({"spec": {"unschedulable": value}}));
    nodes.patch("", "plain", None, cordon(true)).await.unwrap();
    cluster
        .until::<Node>(None, "the taint of the cordon", |nodes| {
            let mut taints = nodes.iter().flat_map(|node| {
                node.spec
                    .as_ref()
                    .and_then(|spec| spec.taints.clone())
                    .unwrap_or_default()
            });
            taints.any(|taint| taint.key == "node.kubernetes.io/unschedulable")
        })
        .await;
    cluster.create::<Pod>(NS, pod_of("late", &json!({}))).await;
    cluster
        .until::<Pod>(Some(NS), "a refusal", |pods| {
            !reason(pods, "late").is_empty()
        })
        .await;
    nodes.patch("", "plain", None, cordon(false)).await.unwrap();
    cluster
        .until::<Pod>(Some(NS), "a node after all", |pods| {
            node_of(pods, "late") == "plain"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_filled_and_never_over_committed() {
    let cluster = Cluster::new().await;
    // Three nodes of four cores: twelve fit, three wait.
    let pods = (0..15).map(|n| pod_of(&format!("p{n}"), &json!({})));
    futures::future::join_all(pods.map(|pod| cluster.create::<Pod>(NS, pod))).await;
    let bound = |pods: &[Arc<Pod>]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for node in pods.iter().filter_map(|pod| pod::node_name(pod)) {
            *counts.entry(node.to_owned()).or_default() += 1;
        }
        counts
    };
    let is_full = |pods: &[Arc<Pod>]| {
        let waiting = pods.iter().filter(|pod| {
            reason(pods, pod.metadata.name.as_deref().unwrap()).contains("3 Insufficient cpu")
        });
        bound(pods).values().sum::<usize>() == 12 && waiting.count() == 3
    };
    let pods = cluster.until::<Pod>(Some(NS), "full nodes", is_full).await;
    assert!(
        bound(&pods).values().all(|&count| count == 4),
        "{:?}",
        bound(&pods)
    );
    // One goes, one of the waiting comes.
    let one = pods
        .iter()
        .find(|pod| pod::node_name(pod).is_some())
        .unwrap();
    cluster
        .delete::<Pod>(
            NS,
            one.metadata.name.as_deref().unwrap(),
            Propagation::Background,
        )
        .await;
    cluster
        .until::<Pod>(Some(NS), "the next in line", |pods| {
            pods.len() == 14 && bound(pods).values().sum::<usize>() == 12
        })
        .await;
}
