//! Which pod goes first: Kubernetes' `ActivePodsWithRanks`, from `pkg/controller/controller_utils.go`.
//!
//! Unassigned before assigned; Pending before Unknown before Running; not ready before ready; the
//! lower deletion cost; on the node with more siblings; ready for a shorter time; restarted more
//! often; younger; and at last by name, so that the order is total and a test can rely on it.
//! Kubernetes compares times in powers of two to spread the choice; here the plain time decides.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::api::condition;
use crate::api::pod::{self, Phase};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `Less` means that `a` is deleted before `b`.
pub(super) fn first_to_go(
    a: &Pod,
    b: &Pod,
    siblings_by_node: &BTreeMap<String, usize>,
) -> Ordering {
    importance(a, siblings_by_node).cmp(&importance(b, siblings_by_node))
}

/// Compared field by field; the least important pod is the smallest.
type Importance<'a> = (
    bool,
    u8,
    bool,
    i32,
    Reverse<usize>,
    Reverse<Option<Timestamp>>,
    Reverse<i32>,
    Reverse<Option<Timestamp>>,
    Option<&'a str>,
);

fn importance<'a>(pod: &'a Pod, siblings_by_node: &BTreeMap<String, usize>) -> Importance<'a> {
    let node = pod::node_name(pod);
    let siblings = node.and_then(|node| siblings_by_node.get(node)).copied();
    let ready = pod::is_ready(pod);
    let ready_since = condition::find(pod::conditions(pod), "Ready")
        .filter(|_| ready)
        .and_then(condition::Condition::since);
    (
        node.is_some(),
        phase_rank(pod::phase(pod)),
        ready,
        deletion_cost(pod),
        Reverse(siblings.unwrap_or(0)),
        Reverse(ready_since),
        Reverse(restarts(pod)),
        Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        pod.metadata.name.as_deref(),
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
        let usual = pod(json!({"metadata": {"name": "b"}}));
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
            let loser = pod(change);
            assert_eq!(
                first_to_go(&loser, &usual, &siblings),
                Ordering::Less,
                "{why}"
            );
            assert_eq!(
                first_to_go(&usual, &loser, &siblings),
                Ordering::Greater,
                "{why}"
            );
        }
    }

    #[test]
    fn the_order_of_reasons_is_kubernetes() {
        let none = BTreeMap::new();
        // Unassigned loses against not ready; not ready against a low cost.
        let unassigned = pod(json!({"spec": {"nodeName": null}}));
        let pending = pod(json!({"status": {"phase": "Pending", "conditions": []}}));
        let cheap = pod(json!({"metadata": {"annotations": {DELETION_COST: "-100"}}}));
        let mut pods = [cheap, pending, unassigned];
        pods.sort_by(|a, b| first_to_go(a, b, &none));
        assert!(pods[0].spec.as_ref().unwrap().node_name.is_none());
        assert_eq!(pod::phase(&pods[1]), Phase::Pending);
    }
}
