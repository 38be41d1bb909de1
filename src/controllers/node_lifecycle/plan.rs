//! What a node's silence or report makes of its conditions and taints. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pressure_taints;
use crate::api::annotations::{TAINT_NOT_READY, TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE};
use crate::api::condition::{self, Condition as _, Status};
use crate::controllers::events::Notice;

/// What a worker reports; all of it is unknown once the worker is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

const STOPPED: &str = "NodeStatusUnknown";
const NEVER: &str = "NodeStatusNeverUpdated";

pub(super) struct Plan {
    pub(super) conditions: Vec<NodeCondition>,
    pub(super) taints: Vec<Taint>,
    pub(super) is_ready: bool,
    pub(super) notices: Vec<Notice>,
    pub(super) look_again: Option<Duration>,
}

/// Whether a node can run pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    NotReady,
    Unknown,
    /// Registered, and has not reported anything yet.
    Unreported,
}

pub(super) fn plan(
    node: &Node,
    silence: Duration,
    anyone_speaks: bool,
    grace: Duration,
    now: Timestamp,
) -> Plan {
    let reported = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let mut conditions = reported.unwrap_or_default();
    let before = readiness(&conditions);
    let is_silent = silence >= grace;
    if is_silent {
        for kind in REPORTED {
            unknown(&mut conditions, kind, now);
        }
    }
    let after = readiness(&conditions);
    let mut notices = Vec::new();
    if before != after && after == Readiness::Unknown {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        notices.push(Notice::normal(
            "NodeNotReady",
            format!("Node {name} status is now: NodeNotReady"),
        ));
    }
    Plan {
        taints: taints(node, &conditions, after, anyone_speaks, now),
        conditions,
        is_ready: match after {
            Readiness::Ready | Readiness::Unreported => true,
            Readiness::NotReady | Readiness::Unknown => false,
        },
        notices,
        // A silent node is looked at again too: another may speak, and then its pods must go.
        look_again: Some(if is_silent {
            grace
        } else {
            grace.saturating_sub(silence)
        }),
    }
}

fn readiness(conditions: &[NodeCondition]) -> Readiness {
    match condition::find(conditions, "Ready").map(|ready| ready.status.as_str()) {
        Some("True") => Readiness::Ready,
        Some("False") => Readiness::NotReady,
        Some(_) => Readiness::Unknown,
        None => Readiness::Unreported,
    }
}

/// Whether a condition is this controller's word for silence.
pub(super) fn is_ours(condition: &NodeCondition) -> bool {
    matches!(condition.reason.as_deref(), Some(STOPPED | NEVER))
}

/// The heartbeat time stays the worker's: this is not a heartbeat.
fn unknown(conditions: &mut Vec<NodeCondition>, kind: &str, now: Timestamp) {
    match conditions
        .iter_mut()
        .find(|condition| condition.kind() == kind)
    {
        Some(condition) if condition.status == Status::Unknown.as_str() => {}
        Some(condition) => {
            Status::Unknown.as_str().clone_into(&mut condition.status);
            condition.reason = Some(STOPPED.to_owned());
            condition.message = Some("Kubelet stopped posting node status.".to_owned());
            condition.last_transition_time = Some(Time(now));
        }
        None => conditions.push(NodeCondition {
            type_: kind.to_owned(),
            status: Status::Unknown.as_str().to_owned(),
            reason: Some(NEVER.to_owned()),
            message: Some("Kubelet never posted node status.".to_owned()),
            last_transition_time: Some(Time(now)),
            last_heartbeat_time: None,
        }),
    }
}

/// The user's taints stay; ours are exactly those that the conditions and the cordon ask for.
fn taints(
    node: &Node,
    conditions: &[NodeCondition],
    readiness: Readiness,
    anyone_speaks: bool,
    now: Timestamp,
) -> Vec<Taint> {
    let spec = node.spec.as_ref();
    let current = spec
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match readiness {
        Readiness::Ready | Readiness::Unreported => {}
        Readiness::NotReady => {
            wanted.extend([
                (TAINT_NOT_READY, "NoSchedule"),
                (TAINT_NOT_READY, "NoExecute"),
            ]);
        }
        Readiness::Unknown => {
            wanted.push((TAINT_UNREACHABLE, "NoSchedule"));
            if anyone_speaks {
                wanted.push((TAINT_UNREACHABLE, "NoExecute"));
            }
        }
    }
    if spec.and_then(|spec| spec.unschedulable).unwrap_or(false) {
        wanted.push((TAINT_UNSCHEDULABLE, "NoSchedule"));
    }
    let pressures = pressure_taints();
    for (kind, taint) in &pressures {
        if condition::is_true(conditions, kind) {
            wanted.push((taint, "NoSchedule"));
        }
    }
    let is_ours = |key: &str| {
        [TAINT_NOT_READY, TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE].contains(&key)
            || pressures.values().any(|taint| *taint == key)
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = current
        .into_iter()
        .filter(|taint| !is_ours(&taint.key) || is_wanted(taint))
        .collect();
    for (key, effect) in wanted {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    taints
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const GRACE: Duration = Duration::from_secs(40);

    fn node(conditions: Value, spec: Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}),
        )
        .unwrap()
    }

    fn ready(status: &str) -> Value {
        json!([{"type": "Ready", "status": status, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}])
    }

    fn check(node: &Node, silence: u64, anyone_speaks: bool) -> (String, String) {
        let plan = plan(
            node,
            Duration::from_secs(silence),
            anyone_speaks,
            GRACE,
            Timestamp::UNIX_EPOCH,
        );
        let condition = condition::find(&plan.conditions, "Ready");
        let taints: Vec<String> = plan
            .taints
            .iter()
            .map(|taint| format!("{}:{}", taint.key.rsplit('/').next().unwrap(), taint.effect))
            .collect();
        (
            condition.map(|c| c.status.clone()).unwrap_or_default(),
            taints.join(" "),
        )
    }

    #[test]
    fn silence_and_reports_become_conditions_and_taints() {
        let well = node(ready("True"), json!({}));
        let ill = node(
            ready("False"),
            json!({"taints": [{"key": "gpu", "effect": "NoSchedule", "value": "a"}]}),
        );
        let lost = "unreachable:NoSchedule unreachable:NoExecute";
        let cases = [
            (&well, 0, true, "True", ""),
            (&well, 39, true, "True", ""),
            (&well, 40, true, "Unknown", lost),
            (&well, 40, false, "Unknown", "unreachable:NoSchedule"),
            (
                &ill,
                0,
                true,
                "False",
                "gpu:NoSchedule not-ready:NoSchedule not-ready:NoExecute",
            ),
            (
                &ill,
                41,
                true,
                "Unknown",
                "gpu:NoSchedule unreachable:NoSchedule unreachable:NoExecute",
            ),
            (&node(json!([]), json!({})), 1, true, "", ""),
            (&node(json!([]), json!({})), 40, true, "Unknown", lost),
            (
                &node(ready("True"), json!({"unschedulable": true})),
                0,
                true,
                "True",
                "unschedulable:NoSchedule",
            ),
            // Recovered: our taints go.
            (
                &node(
                    ready("True"),
                    json!({"taints": [{"key": TAINT_UNREACHABLE, "effect": "NoExecute"}, {"key": TAINT_UNSCHEDULABLE, "effect": "NoSchedule"}]}),
                ),
                0,
                true,
                "True",
                "",
            ),
        ];
        for (index, (node, silence, anyone, status, taints)) in cases.into_iter().enumerate() {
            assert_eq!(
                check(node, silence, anyone),
                (status.into(), taints.into()),
                "case {index}"
            );
        }
    }

    #[test]
    fn a_silent_node_stays_as_it_is_and_its_heartbeat_is_not_ours() {
        let mut node = node(ready("True"), json!({}));
        let first = plan(&node, GRACE, true, GRACE, Timestamp::UNIX_EPOCH);
        assert_eq!(first.notices.len(), 1);
        assert_eq!(first.conditions.len(), 4);
        let heartbeat = &first.conditions[0].last_heartbeat_time;
        assert_eq!(
            heartbeat.as_ref().unwrap().0.to_string(),
            "2026-01-01T00:00:00Z"
        );
        node.status.as_mut().unwrap().conditions = Some(first.conditions.clone());
        node.spec.as_mut().unwrap().taints = Some(first.taints.clone());
        let second = plan(
            &node,
            GRACE * 2,
            true,
            GRACE,
            Timestamp::from_second(99).unwrap(),
        );
        assert_eq!(
            (&second.conditions, &second.taints),
            (&first.conditions, &first.taints)
        );
        assert!(second.notices.is_empty());
    }
}
