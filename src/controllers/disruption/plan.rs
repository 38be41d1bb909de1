//! What a disruption budget allows. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::{pod, share};

/// How long an eviction may take to show as a deletion before it counts as not carried out.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// Whether the number of pods that there should be decides, which only their controllers know.
pub(super) fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// `scale`: how many pods there should be, or why that is not known; `None` where nobody asks.
pub(super) fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: Option<Result<i32, String>>,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let spec = budget.spec.clone().unwrap_or_default();
    let old = budget.status.clone().unwrap_or_default();
    let (disrupted, look_again) = disrupted(&old, pods, now);
    let is_healthy = |pod: &&Arc<Pod>| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        pod::is_active(pod) && pod::is_ready(pod) && !disrupted.contains_key(name)
    };
    let current = pods.iter().filter(is_healthy).count() as i32;
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: current,
        observed_generation: budget.metadata.generation,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        ..old.clone()
    };
    let there = pods.len() as i32;
    let expected = match scale {
        Some(Ok(scale)) => scale,
        None => there,
        Some(Err(why)) => {
            status.disruptions_allowed = 0;
            let words = ("SyncFailed", why.as_str());
            status.conditions = Some(condition(&old, budget, false, words, now));
            return (status, look_again);
        }
    };
    let desired = match (&spec.min_available, &spec.max_unavailable) {
        (Some(least), _) => share::scaled(least, expected, true),
        (None, Some(most)) => (expected - share::scaled(most, expected, true)).max(0),
        (None, None) => 0,
    };
    let allowed = if expected <= 0 {
        0
    } else {
        (current - desired).max(0)
    };
    status.expected_pods = expected;
    status.desired_healthy = desired;
    status.disruptions_allowed = allowed;
    let reason = if allowed > 0 {
        "SufficientPods"
    } else {
        "InsufficientPods"
    };
    status.conditions = Some(condition(&old, budget, allowed > 0, (reason, ""), now));
    (status, look_again)
}

/// Evictions that were let through and do not show yet.
fn disrupted(
    old: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut kept = BTreeMap::new();
    let mut look_again: Option<Duration> = None;
    for (name, at) in old.disrupted_pods.iter().flatten() {
        let is_there = pods
            .iter()
            .any(|pod| pod.metadata.name.as_ref() == Some(name) && !pod::is_terminating(pod));
        let left = at.0.duration_since(now) + PATIENCE;
        let Ok(left) = Duration::try_from(left) else {
            continue;
        };
        if is_there && !left.is_zero() {
            kept.insert(name.clone(), at.clone());
            look_again = look_again.into_iter().chain([left]).min();
        }
    }
    (kept, look_again)
}

fn condition(
    old: &PodDisruptionBudgetStatus,
    budget: &PodDisruptionBudget,
    is_allowed: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let status = if is_allowed { "True" } else { "False" };
    let before = conditions.iter().position(|one| one.type_ == ALLOWED);
    let since = before
        .map(|place| conditions.remove(place))
        .filter(|before| before.status == status)
        .map_or(now, |before| before.last_transition_time.0);
    conditions.push(Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: budget.metadata.generation,
        last_transition_time: Time(since),
    });
    conditions
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(
            json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    /// `+` a healthy pod, `-` one that is not ready.
    fn pods(words: &str) -> Vec<Arc<Pod>> {
        let pod = |(index, word): (usize, char)| {
            let ready = if word == '+' { "True" } else { "False" };
            let pod = json!({"metadata": {"name": format!("p{index}")}, "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": ready}]}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        words.chars().enumerate().map(pod).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn as_many_as_may_be_missing() {
        let check = |spec: Value, words: &str, scale: i32, desired: i32, allowed: i32| {
            let budget = budget(
                spec.clone(),
                json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
            );
            let scale = needs_scale(budget.spec.as_ref().unwrap()).then_some(Ok(scale));
            let (status, _) = status(&budget, &pods(words), scale, at(0));
            assert_eq!(
                (status.desired_healthy, status.disruptions_allowed),
                (desired, allowed),
                "{spec} {words}"
            );
            assert_eq!(status.observed_generation, Some(3));
        };
        check(json!({"minAvailable": 2}), "+++", 9, 2, 1);
        check(json!({"minAvailable": 2}), "++-", 9, 2, 0);
        check(json!({"minAvailable": "50%"}), "+++", 5, 3, 0);
        check(json!({"maxUnavailable": 1}), "+++", 3, 2, 1);
        check(json!({"maxUnavailable": 1}), "++-", 3, 2, 0);
        check(json!({"maxUnavailable": "50%"}), "+++", 3, 1, 2);
        check(json!({"maxUnavailable": 0}), "", 0, 0, 0);
    }

    #[test]
    fn an_eviction_counts_until_it_shows() {
        let before = json!({"currentHealthy": 3, "desiredHealthy": 2, "disruptionsAllowed": 0, "expectedPods": 3,
            "disruptedPods": {"p0": at(1000), "gone": at(1000)}});
        let budget = budget(json!({"minAvailable": 2}), before);
        let (early, wait) = status(&budget, &pods("+++"), None, at(1010));
        assert_eq!((early.current_healthy, early.disruptions_allowed), (2, 0));
        assert_eq!(early.disrupted_pods.unwrap().len(), 1);
        assert_eq!(wait.map(|wait| wait.as_secs()), Some(110));
        let (late, _) = status(&budget, &pods("+++"), None, at(1120));
        assert_eq!((late.disrupted_pods, late.disruptions_allowed), (None, 1));
    }

    #[test]
    fn what_is_not_known_allows_nothing() {
        let before = json!({"currentHealthy": 3, "desiredHealthy": 2, "disruptionsAllowed": 1, "expectedPods": 3});
        let budget = budget(json!({"maxUnavailable": 1}), before);
        let (status, _) = status(
            &budget,
            &pods("+++"),
            Some(Err("no controller".into())),
            at(0),
        );
        assert_eq!(status.disruptions_allowed, 0);
        assert_eq!(status.conditions.unwrap()[0].reason, "SyncFailed");
    }
}
