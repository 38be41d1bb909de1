//! May this pod go to this node? Pure; in the order and in the words of Kubernetes' plugins.

use super::node_info::{NodeInfo, Offer, Taint};
use super::pod_info::{Amounts, Fit, Operator, Term, Tolerated, Wanted};
use crate::api::annotations::TAINT_UNSCHEDULABLE;

/// Why not: the first rule that a node breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Pods are there, the node is not.
    Absent,
    Unschedulable,
    /// Its place in the offer's taints.
    Taint(usize),
    NotReady,
    Selector,
    /// A volume of the pod cannot be reached from there.
    Volume,
    Resources(Lacking),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacking {
    pods: bool,
    cpu: bool,
    memory: bool,
    storage: bool,
}

pub(super) fn filter(fit: &Fit, node: &NodeInfo) -> Result<(), Refusal> {
    let Some(offer) = &node.offer else {
        return Err(Refusal::Absent);
    };
    if offer.is_unschedulable && !tolerates_all(fit, &cordon()) {
        return Err(Refusal::Unschedulable);
    }
    let untolerated = offer
        .taints
        .iter()
        .position(|taint| !tolerates_all(fit, taint));
    if let Some(index) = untolerated {
        return Err(Refusal::Taint(index));
    }
    if !offer.is_ready {
        return Err(Refusal::NotReady);
    }
    if !is_selected(fit, &node.name, offer) {
        return Err(Refusal::Selector);
    }
    let reaches = |group: &Vec<Term>| group.iter().any(|term| term_holds(term, &node.name, offer));
    if !fit.volumes.iter().all(reaches) {
        return Err(Refusal::Volume);
    }
    let lacking = lacking(fit.requests, node, offer);
    if lacking == Lacking::default() {
        Ok(())
    } else {
        Err(Refusal::Resources(lacking))
    }
}

impl Refusal {
    /// The reasons, as `kubectl describe` shows them.
    pub(super) fn words(self, offer: &Offer) -> Vec<String> {
        match self {
            Self::Absent => Vec::new(),
            Self::Unschedulable => vec!["node(s) were unschedulable".to_owned()],
            Self::Taint(index) => {
                let Taint { key, value, .. } = &offer.taints[index];
                vec![format!("node(s) had untolerated taint {{{key}: {value}}}")]
            }
            Self::NotReady => vec!["node(s) were not ready".to_owned()],
            Self::Selector => vec!["node(s) didn't match Pod's node affinity/selector".to_owned()],
            Self::Volume => vec!["node(s) had volume node affinity conflict".to_owned()],
            Self::Resources(lacking) => [
                (lacking.pods, "Too many pods"),
                (lacking.cpu, "Insufficient cpu"),
                (lacking.memory, "Insufficient memory"),
                (lacking.storage, "Insufficient ephemeral-storage"),
            ]
            .into_iter()
            .filter(|(is_lacking, _)| *is_lacking)
            .map(|(_, word)| word.to_owned())
            .collect(),
        }
    }
}

fn cordon() -> Taint {
    Taint {
        key: TAINT_UNSCHEDULABLE.to_owned(),
        value: String::new(),
        effect: "NoSchedule".to_owned(),
    }
}

pub(super) fn tolerates_all(fit: &Fit, taint: &Taint) -> bool {
    fit.tolerations
        .iter()
        .any(|tolerated| tolerates(tolerated, taint))
}

fn tolerates(tolerated: &Tolerated, taint: &Taint) -> bool {
    tolerated
        .effect
        .as_ref()
        .is_none_or(|effect| *effect == taint.effect)
        && tolerated.key.as_ref().is_none_or(|key| *key == taint.key)
        && tolerated
            .value
            .as_ref()
            .is_none_or(|value| *value == taint.value)
}

pub(super) fn is_selected(fit: &Fit, name: &str, offer: &Offer) -> bool {
    let has = |(key, value): (&String, &String)| offer.labels.get(key) == Some(value);
    fit.selector.iter().all(has)
        && (fit.affinity.is_empty()
            || fit
                .affinity
                .iter()
                .any(|term| term_holds(term, name, offer)))
}

/// An empty term selects nothing.
pub(super) fn term_holds(term: &Term, name: &str, offer: &Offer) -> bool {
    let label = |wanted: &Wanted| holds(wanted, offer.labels.get(&wanted.key).map(String::as_str));
    let field = |wanted: &Wanted| wanted.key == "metadata.name" && holds(wanted, Some(name));
    !(term.labels.is_empty() && term.fields.is_empty())
        && term.labels.iter().all(label)
        && term.fields.iter().all(field)
}

fn holds(wanted: &Wanted, value: Option<&str>) -> bool {
    let is_among = || value.is_some_and(|value| wanted.values.iter().any(|v| v == value));
    let numbers = || -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, wanted.values.first()?.parse().ok()?))
    };
    match wanted.operator {
        Operator::In => is_among(),
        Operator::NotIn => !is_among(),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::Gt => numbers().is_some_and(|(value, bound)| value > bound),
        Operator::Lt => numbers().is_some_and(|(value, bound)| value < bound),
        Operator::Unknown => false,
    }
}

/// What is not asked for cannot be lacking, also on a node that is full of it.
fn lacking(asked: Amounts, node: &NodeInfo, offer: &Offer) -> Lacking {
    let is_short = |asked: u64, used: u64, all: u64| asked > 0 && used.saturating_add(asked) > all;
    Lacking {
        pods: node.pods >= offer.pods,
        cpu: is_short(asked.cpu, node.used.cpu, offer.allocatable.cpu),
        memory: is_short(asked.memory, node.used.memory, offer.allocatable.memory),
        storage: is_short(asked.storage, node.used.storage, offer.allocatable.storage),
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use crate::scheduler::pod_info::{PodInfo, Shape};
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn node(change: Value) -> NodeInfo {
        let mut base = json!({
            "metadata": {"name": "n1", "labels": {"disk": "ssd", "size": "8"}},
            "spec": {},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        json_patch::merge(&mut base, &change);
        let node: Node = serde_json::from_value(base).unwrap();
        let mut info = NodeInfo::new("n1");
        info.offer = Some(Offer::new(&node));
        info
    }

    fn shape(spec: Value) -> Arc<Shape> {
        let mut base = json!({"containers": [{"name": "c"}]});
        json_patch::merge(&mut base, &spec);
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "uid": "p"}, "spec": base}))
                .unwrap();
        PodInfo::new(Arc::new(pod)).shape
    }

    /// The reasons, or nothing if the pod fits.
    fn check(spec: Value, change: Value) -> String {
        let node = node(change);
        match filter(&shape(spec).fit, &node) {
            Ok(()) => String::new(),
            Err(refusal) => refusal.words(node.offer.as_ref().unwrap()).join(", "),
        }
    }

    fn asks(cpu: &str, memory: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
    }

    fn affinity(expressions: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}}})
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn each_rule_lets_pass_and_refuses_in_kubernetes_words() {
        let selector = "node(s) didn't match Pod's node affinity/selector";
        let taint =
            json!({"spec": {"taints": [{"key": "gpu", "value": "a100", "effect": "NoSchedule"}]}});
        let cordoned = json!({"spec": {"unschedulable": true, "taints": [{"key": TAINT_UNSCHEDULABLE, "effect": "NoSchedule"}]}});
        let tolerate = |key: &str, value: &str| json!({"tolerations": [{"key": key, "value": value, "effect": "NoSchedule"}]});
        let cases = [
            (json!({}), json!({}), ""),
            (asks("2", "1Gi"), json!({}), ""),
            (asks("2001m", "1Gi"), json!({}), "Insufficient cpu"),
            (
                asks("3", "2Gi"),
                json!({}),
                "Insufficient cpu, Insufficient memory",
            ),
            (
                json!({}),
                json!({"status": {"allocatable": {"pods": "0"}}}),
                "Too many pods",
            ),
            (json!({"nodeSelector": {"disk": "ssd"}}), json!({}), ""),
            (
                json!({"nodeSelector": {"disk": "hdd"}}),
                json!({}),
                selector,
            ),
            (
                affinity(json!([{"key": "size", "operator": "Gt", "values": ["4"]}])),
                json!({}),
                "",
            ),
            (
                affinity(json!([{"key": "size", "operator": "Lt", "values": ["4"]}])),
                json!({}),
                selector,
            ),
            (
                affinity(json!([{"key": "disk", "operator": "NotIn", "values": ["hdd"]}])),
                json!({}),
                "",
            ),
            (
                affinity(json!([{"key": "gpu", "operator": "Exists"}])),
                json!({}),
                selector,
            ),
            (
                affinity(
                    json!([{"key": "gpu", "operator": "DoesNotExist"}, {"key": "disk", "operator": "In", "values": ["ssd"]}]),
                ),
                json!({}),
                "",
            ),
            (affinity(json!([])), json!({}), selector),
            (
                json!({}),
                taint.clone(),
                "node(s) had untolerated taint {gpu: a100}",
            ),
            (tolerate("gpu", "a100"), taint.clone(), ""),
            (
                tolerate("gpu", "v100"),
                taint.clone(),
                "node(s) had untolerated taint {gpu: a100}",
            ),
            (json!({"tolerations": [{"operator": "Exists"}]}), taint, ""),
            (
                json!({}),
                json!({"spec": {"taints": [{"key": "a", "effect": "PreferNoSchedule"}]}}),
                "",
            ),
            (json!({}), cordoned.clone(), "node(s) were unschedulable"),
            (tolerate(TAINT_UNSCHEDULABLE, ""), cordoned, ""),
            (
                json!({}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
                "node(s) were not ready",
            ),
        ];
        for (index, (spec, change, expected)) in cases.into_iter().enumerate() {
            assert_eq!(check(spec, change), expected, "case {index}");
        }
    }

    #[test]
    fn a_full_node_still_takes_what_asks_for_nothing() {
        let mut node = node(json!({}));
        node.add(&shape(asks("2", "1Gi")));
        assert_eq!(filter(&shape(json!({})).fit, &node), Ok(()));
        assert!(filter(&shape(asks("1m", "0")).fit, &node).is_err());
        assert_eq!(
            filter(&shape(json!({})).fit, &NodeInfo::new("gone")),
            Err(Refusal::Absent)
        );
    }
}
