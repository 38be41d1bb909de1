//! Pods that ask for each other, and budgets that preemption spares.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};
use wasmorch::api::pod;
use wasmorch::registry::{Patch, Propagation};

use super::{node_of, pod_of, reason};
use crate::controllers::{Cluster, NS, deployment};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

fn term(app: &str, key: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

/// How many pods each node has.
fn bound(pods: &[Arc<Pod>]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for node in pods.iter().filter_map(|pod| pod::node_name(pod)) {
        *counts.entry(node).or_default() += 1;
    }
    counts
}

fn labelled(name: &str, app: &str, spec: &Value) -> Value {
    pod_of(
        name,
        &json!({"metadata": {"labels": {"app": app}}, "spec": spec}),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_repel_each_other_have_a_node_each() {
    let cluster = Cluster::new().await;
    let mut web = deployment("web", 4);
    let host = "kubernetes.io/hostname";
    web["spec"]["template"]["spec"]["affinity"] =
        json!({"podAntiAffinity": {REQUIRED: [term("web", host)]}});
    cluster.create::<Deployment>(NS, web).await;
    let words = "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.";
    let is_full = |pods: &[Arc<Pod>]| {
        let refused = pods
            .iter()
            .filter(|it| reason(pods, it.metadata.name.as_deref().unwrap()) == words);
        bound(pods).len() == 3 && refused.count() == 1
    };
    let pods = cluster.until::<Pod>(Some(NS), "a node each", is_full).await;
    assert!(bound(&pods).values().all(|&count| count == 1));
    cluster
        .until::<Event>(Some(NS), "the event", |events| {
            events.iter().any(|it| it.message.as_deref() == Some(words))
        })
        .await;
    // A fourth node takes the fourth.
    cluster.kubelets.start("late", json!({})).await;
    cluster
        .until::<Pod>(Some(NS), "all of them", |pods| bound(pods).len() == 4)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_those_that_it_wants_to_be_near() {
    let cluster = Cluster::new().await;
    let blue = json!({"metadata": {"name": "elsewhere", "labels": {"team": "blue"}}});
    cluster.create::<Namespace>("", blue).await;
    let mut wanted = term("db", "kubernetes.io/hostname");
    wanted["namespaceSelector"] = json!({"matchLabels": {"team": "blue"}});
    let near = json!({"affinity": {"podAffinity": {REQUIRED: [wanted]}}});
    cluster
        .create::<Pod>(NS, labelled("web", "web", &near))
        .await;
    let words = "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.";
    cluster
        .until::<Pod>(Some(NS), "the refusal", |pods| reason(pods, "web") == words)
        .await;
    let there = json!({"nodeSelector": {"kubernetes.io/hostname": "dev-2"}});
    cluster
        .create::<Pod>("elsewhere", labelled("db", "db", &there))
        .await;
    cluster
        .until::<Pod>(Some(NS), "its neighbour's node", |pods| {
            node_of(pods, "web") == "dev-2"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_are_filled_evenly() {
    let cluster = Cluster::new().await;
    let nodes = cluster.api::<Node>();
    for (name, zone) in [("dev-1", "a"), ("dev-2", "b"), ("dev-3", "b")] {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"zone": zone}}}));
        nodes.patch("", name, None, patch).await.unwrap();
    }
    let mut web = deployment("web", 4);
    web["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    cluster.create::<Deployment>(NS, web).await;
    let pods = cluster
        .until::<Pod>(Some(NS), "nodes for all", |pods| {
            bound(pods).values().sum::<usize>() == 4
        })
        .await;
    assert_eq!(bound(&pods)["dev-1"], 2, "{:?}", bound(&pods));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preemption_spares_budgets() {
    let cluster = Cluster::empty().await;
    for name in ["dev-1", "dev-2"] {
        cluster.kubelets.start(name, json!({})).await;
    }
    // The budget's pod matters less by its priority.
    for (class, value) in [("low", 1), ("middle", 50), ("high", 1000)] {
        let class = json!({"metadata": {"name": class}, "value": value});
        cluster.create::<PriorityClass>("", class).await;
    }
    let large = |node: &str, class: &str| {
        json!({"priorityClassName": class, "nodeSelector": {"kubernetes.io/hostname": node},
        "containers": [{"name": "c", "image": "hello", "resources": {"requests": {"cpu": "3"}}}]})
    };
    let budget = json!({"metadata": {"name": "db"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "db"}}}});
    cluster.create::<PodDisruptionBudget>(NS, budget).await;
    let pods = [("db", "dev-1", "low"), ("web", "dev-2", "middle")];
    for (app, node, class) in pods {
        let spec = large(node, class);
        cluster.create::<Pod>(NS, labelled(app, app, &spec)).await;
    }
    cluster
        .until::<Pod>(Some(NS), "both running", |pods| {
            let runs = |pod: &&Arc<Pod>| pod::phase(pod) == pod::Phase::Running;
            pods.iter().filter(runs).count() == 2
        })
        .await;
    let mut never = large("dev-2", "high");
    never["preemptionPolicy"] = json!("Never");
    cluster
        .create::<PriorityClass>(
            "",
            json!({"metadata": {"name": "patient"}, "value": 2000, "preemptionPolicy": "Never"}),
        )
        .await;
    never = json!({"priorityClassName": "patient", "containers": never["containers"]});
    cluster
        .create::<Pod>(NS, labelled("patient", "x", &never))
        .await;
    cluster
        .until::<Pod>(Some(NS), "the patient one's refusal", |pods| {
            reason(pods, "patient").contains("2 Insufficient cpu")
        })
        .await;
    assert_eq!(cluster.pods().len(), 3, "nobody went for it");
    cluster
        .delete::<Pod>(NS, "patient", Propagation::Background)
        .await;
    let spec = json!({"priorityClassName": "high", "containers": large("", "")["containers"]});
    cluster
        .create::<Pod>(NS, labelled("high", "x", &spec))
        .await;
    let pods = cluster
        .until::<Pod>(Some(NS), "the high pod's node", |pods| {
            !node_of(pods, "high").is_empty()
        })
        .await;
    assert_eq!(node_of(&pods, "high"), "dev-2");
    assert_eq!(node_of(&pods, "db"), "dev-1");
}
