//! Which pods must leave a tainted node, and when. Pure; Kubernetes' taint manager.
//!
//! A pod leaves at once if it does not tolerate one of the node's `NoExecute` taints; if it
//! tolerates all, it leaves when the shortest `tolerationSeconds` of the tolerations in use has run
//! out since the taint was added; never, if none of them has any.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

use crate::api::condition::{self, Status};
use crate::api::pod;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    Evict,
    EvictIn(Duration),
}

pub(super) fn verdict(pod: &Pod, taints: &[&Taint], now: Timestamp) -> Verdict {
    let spec = pod.spec.as_ref();
    let tolerations = spec
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let mut shortest: Option<Duration> = None;
    for taint in taints {
        let mut matching = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        if matching.peek().is_none() {
            return Verdict::Evict;
        }
        for left in matching.filter_map(|toleration| left(toleration, taint, now)) {
            shortest = Some(shortest.map_or(left, |other| other.min(left)));
        }
    }
    match shortest {
        None => Verdict::Stay,
        Some(left) if left.is_zero() => Verdict::Evict,
        Some(left) => Verdict::EvictIn(left),
    }
}

/// How much of a toleration is left; `None` for one without end.
fn left(toleration: &Toleration, taint: &Taint, now: Timestamp) -> Option<Duration> {
    let seconds = toleration.toleration_seconds?;
    let whole = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let added = taint.time_added.as_ref().map_or(now, |time| time.0);
    let been = Duration::try_from(now.duration_since(added)).unwrap_or(Duration::ZERO);
    Some(whole.saturating_sub(been))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is_for = |field: &Option<String>, value: &str| {
        field
            .as_deref()
            .is_none_or(|field| field.is_empty() || field == value)
    };
    let value_matches = match toleration.operator.as_deref() {
        Some("Exists") => true,
        Some(_) | None => {
            toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default()
        }
    };
    is_for(&toleration.effect, &taint.effect)
        && is_for(&toleration.key, &taint.key)
        && value_matches
}

/// The pod with the conditions that its node's state and its eviction call for; `None` if it has
/// them already.
pub(super) fn marked(pod: &Pod, is_node_ready: bool, evict: bool, now: Timestamp) -> Option<Pod> {
    if pod::phase(pod).is_terminal() {
        return None;
    }
    let mut marked = pod.clone();
    let conditions = marked
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    if !is_node_ready {
        for kind in ["Ready", "ContainersReady"] {
            if condition::is_true(conditions, kind) {
                condition::set(
                    conditions,
                    kind,
                    Status::False,
                    (pod::NODE_LOST, "The node of the pod stopped answering"),
                    now,
                );
            }
        }
    }
    if evict {
        let why = (
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        );
        condition::set(conditions, "DisruptionTarget", Status::True, why, now);
    }
    (pod::conditions(&marked) != pod::conditions(pod)).then_some(marked)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn taint(key: &str) -> Taint {
        serde_json::from_value(
            json!({"key": key, "effect": "NoExecute", "timeAdded": "1970-01-01T00:00:00Z"}),
        )
        .unwrap()
    }

    fn pod(tolerations: Value) -> Pod {
        serde_json::from_value(
            json!({"spec": {"containers": [], "tolerations": tolerations},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
        )
        .unwrap()
    }

    #[test]
    fn tolerations_decide_who_leaves_and_when() {
        use crate::api::annotations::{TAINT_NOT_READY, TAINT_UNREACHABLE};
        let admitted = |key: &str, seconds: i64| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let check = |tolerations: &Value, keys: &[&str], at: i64| {
            let taints: Vec<Taint> = keys.iter().map(|key| taint(key)).collect();
            let taints: Vec<&Taint> = taints.iter().collect();
            verdict(
                &pod(tolerations.clone()),
                &taints,
                Timestamp::from_second(at).unwrap(),
            )
        };
        let lost = [TAINT_UNREACHABLE];
        assert_eq!(check(&json!([]), &[], 0), Verdict::Stay);
        assert_eq!(check(&json!([]), &lost, 0), Verdict::Evict);
        let usual = json!([
            admitted(TAINT_UNREACHABLE, 300),
            admitted(TAINT_NOT_READY, 300)
        ]);
        assert_eq!(
            check(&usual, &lost, 100),
            Verdict::EvictIn(Duration::from_secs(200))
        );
        assert_eq!(check(&usual, &lost, 300), Verdict::Evict);
        assert_eq!(
            check(&usual, &[TAINT_UNREACHABLE, "maintenance"], 0),
            Verdict::Evict
        );
        assert_eq!(
            check(&json!([admitted(TAINT_UNREACHABLE, 0)]), &lost, 0),
            Verdict::Evict,
            "dev"
        );
        let for_ever = json!([{"operator": "Exists"}]);
        assert_eq!(
            check(&for_ever, &[TAINT_UNREACHABLE, "maintenance"], 9999),
            Verdict::Stay
        );
        let own = json!([{"key": TAINT_UNREACHABLE, "operator": "Exists", "tolerationSeconds": 7}]);
        assert_eq!(
            check(&own, &lost, 5),
            Verdict::EvictIn(Duration::from_secs(2))
        );
        let other_value = json!([{"key": TAINT_UNREACHABLE, "value": "x"}]);
        assert_eq!(check(&other_value, &lost, 0), Verdict::Evict);
        let other_effect =
            json!([{"key": TAINT_UNREACHABLE, "operator": "Exists", "effect": "NoSchedule"}]);
        assert_eq!(check(&other_effect, &lost, 0), Verdict::Evict);
    }

    #[test]
    fn a_pod_on_a_lost_node_is_not_ready_and_is_marked_once() {
        let now = Timestamp::UNIX_EPOCH;
        let marked_pod = marked(&pod(json!([])), false, true, now).unwrap();
        assert!(!pod::is_ready(&marked_pod));
        assert!(condition::is_true(
            pod::conditions(&marked_pod),
            "DisruptionTarget"
        ));
        assert!(marked(&marked_pod, false, true, now).is_none());
        assert!(marked(&pod(json!([])), true, false, now).is_none());
    }
}
