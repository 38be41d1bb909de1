//! Which pod goes first: Kubernetes' `ActivePodsWithRanks`, from `pkg/controller/controller_utils.go`.
//!
//! Unassigned before assigned; Pending before Unknown before Running; not ready before ready; the
//! lower deletion cost; on the node with more siblings; ready for a shorter time; restarted more
//! often; younger; and at last by name, so that the order is total and a test can rely on it.
//!
//! Better than Kubernetes' in one point: siblings are counted *after* those that go before, so
//! that scaling down leaves the nodes even. Kubernetes also compares times in powers of two to
//! spread its choice; here the plain time decides.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::api::condition;
use crate::api::pod::{self, Phase};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What a pod is worth: assigned, phase, ready, cost.
type Worth = (bool, u8, bool, i32);
/// Among pods of the same worth: ready since, restarts, created, name.
type Age = (
    Reverse<Option<Timestamp>>,
    Reverse<i32>,
    Reverse<Option<Timestamp>>,
    Option<String>,
);

/// Sorts pods so that those to be deleted first come first.
pub(in crate::controllers) fn sort(
    pods: &mut [Arc<Pod>],
    siblings_by_node: &BTreeMap<String, usize>,
) {
    pods.sort_by_cached_key(|pod| (worth(pod), age(pod)));
    let mut siblings = siblings_by_node.clone();
    let mut crowds: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for pod in pods.iter() {
        let on_node = pod::node_name(pod).and_then(|node| siblings.get_mut(node));
        if let Some(on_node) = on_node {
            crowds.insert(pod.metadata.name.clone(), *on_node);
            *on_node = on_node.saturating_sub(1);
        }
    }
    pods.sort_by_cached_key(|pod| {
        let crowd = crowds.get(&pod.metadata.name).copied();
        (worth(pod), Reverse(crowd.unwrap_or(0)), age(pod))
    });
}

fn worth(pod: &Pod) -> Worth {
    (
        pod::node_name(pod).is_some(),
        phase_rank(pod::phase(pod)),
        pod::is_ready(pod),
        deletion_cost(pod),
    )
}

fn age(pod: &Pod) -> Age {
    let ready_since = condition::find(pod::conditions(pod), "Ready")
        .filter(|_| pod::is_ready(pod))
        .and_then(condition::Condition::since);
    (
        Reverse(ready_since),
        Reverse(restarts(pod)),
        Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        pod.metadata.name.clone(),
    )
}

fn phase_rank(phase: Phase) -> u8 {
    match phase {
        Phase::Pending => 0,
        Phase::Unknown => 1,
        Phase::Running | Phase::Succeeded | Phase::Failed => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations.and_then(|annotations| annotations.get(DELETION_COST));
    // A wrong value counts as none, as in Kubernetes: an annotation must not block scaling down.
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref());
    let counts = statuses.into_iter().flatten();
    counts
        .map(|container| container.restart_count)
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A ready, assigned, running pod with `change` merged over it.
    fn pod(change: Value) -> Pod {
        let mut base = json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {}},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "containerStatuses": [],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}]},
        });
        json_patch::merge(&mut base, &change);
        serde_json::from_value(base).unwrap()
    }

    #[test]
    fn the_less_useful_pod_goes_first() {
        let siblings = BTreeMap::from([("n1".to_owned(), 1), ("n2".to_owned(), 2)]);
        let usual = Arc::new(pod(json!({"metadata": {"name": "b"}})));
        let first = [
            ("unassigned", json!({"spec": {"nodeName": ""}})),
            ("pending", json!({"status": {"phase": "Pending"}})),
            ("unknown", json!({"status": {"phase": "Odd"}})),
            (
                "not ready",
                json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            ),
            (
                "cheap",
                json!({"metadata": {"annotations": {DELETION_COST: "-5"}}}),
            ),
            ("doubled up", json!({"spec": {"nodeName": "n2"}})),
            (
                "ready later",
                json!({"status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T02:00:00Z"}]}}),
            ),
            (
                "restarted",
                json!({"status": {"containerStatuses": [
                {"name": "c", "restartCount": 3, "ready": true, "image": "", "imageID": ""}]}}),
            ),
            (
                "younger",
                json!({"metadata": {"creationTimestamp": "2026-01-01T00:30:00Z"}}),
            ),
            ("by name", json!({})),
        ];
        for (why, change) in first {
            let loser = Arc::new(pod(change));
            for mut pair in [
                [Arc::clone(&loser), Arc::clone(&usual)],
                [Arc::clone(&usual), Arc::clone(&loser)],
            ] {
                sort(&mut pair, &siblings);
                assert!(Arc::ptr_eq(&pair[0], &loser), "{why}");
            }
        }
    }

    #[test]
    fn scaling_down_leaves_the_nodes_even() {
        let on = |node: &str, index: i32| {
            Arc::new(pod(
                json!({"metadata": {"name": format!("{node}-{index}")}, "spec": {"nodeName": node}}),
            ))
        };
        let mut pods: Vec<Arc<Pod>> = (0..5).map(|index| on("a", index)).collect();
        pods.extend((0..3).map(|index| on("b", index)));
        pods.extend((0..4).map(|index| on("c", index)));
        let siblings = [("a", 5), ("b", 3), ("c", 4)].map(|(node, count)| (node.to_owned(), count));
        sort(&mut pods, &BTreeMap::from(siblings));
        for gone in 3..12 {
            let mut left: BTreeMap<&str, i32> = [("a", 0), ("b", 0), ("c", 0)].into();
            for pod in &pods[gone..] {
                *left.entry(pod::node_name(pod).unwrap()).or_default() += 1;
            }
            let (most, least) = (left.values().max().unwrap(), left.values().min().unwrap());
            assert!(most - least <= 1, "{gone} gone: {left:?}");
        }
    }

    #[test]
    fn the_order_of_reasons_is_kubernetes() {
        let none = BTreeMap::new();
        // Unassigned loses against not ready; not ready against a low cost.
        let unassigned = pod(json!({"spec": {"nodeName": null}}));
        let pending = pod(json!({"status": {"phase": "Pending", "conditions": []}}));
        let cheap = pod(json!({"metadata": {"annotations": {DELETION_COST: "-100"}}}));
        let mut pods = [cheap, pending, unassigned].map(Arc::new);
        sort(&mut pods, &none);
        assert!(pods[0].spec.as_ref().unwrap().node_name.is_none());
        assert_eq!(pod::phase(&pods[1]), Phase::Pending);
    }
}
