//! Nodes that fall silent, return, or are deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use wasmorch::api::condition;
use wasmorch::api::pod;
use wasmorch::registry::Propagation;

use super::{Cluster, NS, by_node, deployment, ready};

fn ready_status(nodes: &[Arc<Node>], name: &str) -> String {
    let node = nodes
        .iter()
        .find(|node| node.metadata.name.as_deref() == Some(name));
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_deref());
    let ready = condition::find(conditions.unwrap_or_default(), "Ready");
    ready.map(|ready| ready.status.clone()).unwrap_or_default()
}

fn taints(node: &Node) -> usize {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_silent_node_are_replaced_and_its_return_is_noticed() {
    let cluster = Cluster::new().await;
    cluster.create::<Deployment>(NS, deployment("web", 6)).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.create::<Service>(NS, service).await;
    cluster.rolled_out("web").await;

    cluster.kubelets.kill("dev-2").await;
    let pods = cluster
        .until::<Pod>(Some(NS), "replacements elsewhere", |pods| {
            ready(pods) == 6 && !by_node(pods).contains_key("dev-2")
        })
        .await;
    let stranded = pods
        .iter()
        .filter(|pod| pod::node_name(pod) == Some("dev-2"));
    assert!(
        stranded
            .clone()
            .all(|pod| !pod::is_ready(pod) && pod::is_terminating(pod))
    );
    assert_eq!(stranded.count(), 2, "nobody says that they have ended");
    cluster
        .until::<Node>(None, "a silent node", |nodes| {
            ready_status(nodes, "dev-2") == "Unknown"
        })
        .await;
    assert_eq!(taints(&cluster.node("dev-2")), 2);
    cluster
        .until::<EndpointSlice>(Some(NS), "endpoints without the silent node", |slices| {
            let endpoints = || slices.iter().flat_map(|slice| &slice.endpoints);
            let is_ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
                e.conditions.as_ref().unwrap().ready == Some(true)
            };
            endpoints().filter(is_ready).count() == 6
                && endpoints()
                    .filter(is_ready)
                    .all(|e| e.node_name.as_deref() != Some("dev-2"))
        })
        .await;

    cluster.kubelets.start("dev-2", json!({})).await;
    cluster
        .until::<Node>(None, "its return", |nodes| {
            nodes.iter().all(|node| taints(node) == 0) && ready_status(nodes, "dev-2") == "True"
        })
        .await;
    cluster
        .until::<Pod>(Some(NS), "only living pods", |pods| {
            pods.len() == 6 && ready(pods) == 6
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_are_silent_nobody_is_evicted() {
    let cluster = Cluster::empty().await;
    cluster.kubelets.start("dev-1", json!({})).await;
    cluster.create::<Deployment>(NS, deployment("web", 2)).await;
    cluster.rolled_out("web").await;
    cluster.kubelets.kill("dev-1").await;
    cluster
        .until::<Node>(None, "a silent node", |nodes| {
            ready_status(nodes, "dev-1") == "Unknown"
        })
        .await;
    cluster
        .until::<Pod>(Some(NS), "pods that are not ready", |pods| ready(pods) == 0)
        .await;
    assert!(cluster.pods().iter().all(|pod| !pod::is_terminating(pod)));
    // Another node speaks: now the first is known to be lost.
    cluster.kubelets.start("dev-2", json!({})).await;
    cluster
        .until::<Pod>(Some(NS), "replacements", |pods| ready(pods) == 2)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_deleted_node_are_removed() {
    let cluster = Cluster::new().await;
    cluster.create::<Deployment>(NS, deployment("web", 3)).await;
    cluster.rolled_out("web").await;
    cluster.kubelets.kill("dev-3").await;
    cluster
        .delete::<Node>("", "dev-3", Propagation::Background)
        .await;
    cluster
        .until::<Pod>(Some(NS), "pods on the two that remain", |pods| {
            ready(pods) == 3 && pods.iter().all(|pod| pod::node_name(pod) != Some("dev-3"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_has_a_pod_network_of_its_own() {
    let cluster = Cluster::empty().await;
    let names: Vec<String> = (0..12).map(|n| format!("node-{n}")).collect();
    futures::future::join_all(
        names
            .iter()
            .map(|name| cluster.kubelets.start(name, json!({}))),
    )
    .await;
    let block = |node: &Arc<Node>| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
    let nodes = cluster
        .until::<Node>(None, "pod networks", |nodes| {
            nodes.len() == 12 && nodes.iter().all(|node| block(node).is_some())
        })
        .await;
    let blocks: BTreeSet<String> = nodes.iter().filter_map(block).collect();
    assert_eq!(blocks.len(), 12);
    assert!(
        blocks.iter().all(|block| block.ends_with("/19")),
        "{blocks:?}"
    );
}
