//! The next step of a StatefulSet: which pods to make and which to remove, and what to report. Pure.
//!
//! With `OrderedReady` one pod is touched at a time, upwards when growing and downwards when
//! shrinking, and only while the others are available. With `Parallel` all that is missing or too
//! much goes at once. An update always takes one pod at a time, from the top down to the partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::identity;
use crate::api::pod::{self, Phase};
use crate::controllers::events::Notice;

/// Pods made or removed in one pass; the next pass follows at once.
const BURST: usize = 500;

/// The names of the revisions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revisions<'a> {
    pub(super) current: &'a str,
    pub(super) update: &'a str,
}

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Make the pod of an ordinal; `true`: of the new revision.
    Create(i32, bool),
    /// `true`: its ordinal is no longer wanted.
    Delete(Arc<Pod>, bool),
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) status: StatefulSetStatus,
    pub(super) notices: Vec<Notice>,
    pub(super) look_again: Option<Duration>,
}

/// What is known of a pod.
struct Seen<'a> {
    pod: &'a Arc<Pod>,
    is_available: bool,
    wait: Option<Duration>,
}

pub(super) fn plan(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    pods: &[Arc<Pod>],
    revisions: Revisions<'_>,
    now: Timestamp,
) -> Plan {
    let min_ready = u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0);
    let min_ready = Duration::from_secs(min_ready);
    let mut seen: BTreeMap<i32, Seen<'_>> = BTreeMap::new();
    for pod in pods {
        let Some(ordinal) = identity::ordinal(&set.metadata, pod) else {
            continue;
        };
        let is_ready = pod::phase(pod) == Phase::Running && pod::is_ready(pod);
        let wait = pod::until_available(pod, min_ready, now).filter(|_| is_ready);
        let is_available = is_ready && wait.is_none() && !pod::is_terminating(pod);
        seen.insert(
            ordinal,
            Seen {
                pod,
                is_available,
                wait,
            },
        );
    }
    let mut plan = Plan {
        status: status(set, spec, &seen, revisions),
        look_again: seen.values().filter_map(|seen| seen.wait).min(),
        ..Plan::default()
    };
    if set.metadata.deletion_timestamp.is_none() {
        let is_settled = size(&mut plan, spec, &seen, set);
        let is_rolling = update_type(spec) == Some("RollingUpdate");
        if is_settled && is_rolling {
            roll(&mut plan, spec, &seen, revisions.update);
        }
    }
    plan.steps.truncate(BURST);
    plan
}

fn update_type(spec: &StatefulSetSpec) -> Option<&str> {
    spec.update_strategy.as_ref()?.type_.as_deref()
}

fn partition(spec: &StatefulSetSpec) -> i32 {
    let strategy = spec.update_strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
}

/// The ordinals that shall have a pod.
fn wanted(spec: &StatefulSetSpec) -> std::ops::Range<i32> {
    let start = spec.ordinals.as_ref().and_then(|it| it.start).unwrap_or(0);
    start..start.saturating_add(spec.replicas.unwrap_or(1))
}

/// Makes what is missing and removes what is too much; `false` if an update must wait for it.
fn size(
    plan: &mut Plan,
    spec: &StatefulSetSpec,
    seen: &BTreeMap<i32, Seen<'_>>,
    set: &StatefulSet,
) -> bool {
    let is_ordered = spec.pod_management_policy.as_deref() != Some("Parallel");
    let is_rolling = update_type(spec) == Some("RollingUpdate");
    let wanted = wanted(spec);
    let boundary = wanted.start.saturating_add(partition(spec));
    for ordinal in wanted.clone() {
        let Some(found) = seen.get(&ordinal) else {
            let is_new = !(is_rolling && ordinal < boundary);
            plan.steps.push(Step::Create(ordinal, is_new));
            if is_ordered || plan.steps.len() >= BURST {
                return false;
            }
            continue;
        };
        let is_over = pod::phase(found.pod).is_terminal() && !pod::is_terminating(found.pod);
        if is_over {
            let path = crate::controllers::path(&set.metadata);
            let name = found.pod.metadata.name.as_deref().unwrap_or_default();
            let message = format!("StatefulSet {path} is recreating failed Pod {name}");
            plan.notices
                .push(Notice::warning("RecreatingFailedPod", message));
            plan.steps.push(Step::Delete(Arc::clone(found.pod), false));
        }
        if is_ordered && !found.is_available {
            return false;
        }
    }
    let condemned: Vec<&Seen<'_>> = seen
        .iter()
        .rev()
        .filter(|(ordinal, _)| !wanted.contains(ordinal))
        .map(|(_, seen)| seen)
        .collect();
    for (place, found) in condemned.iter().enumerate() {
        if is_ordered {
            // The one above must be gone; those below must be well, unless this one is the ill one.
            let is_below_well = condemned[place + 1..]
                .iter()
                .all(|below| below.is_available);
            if !pod::is_terminating(found.pod) && (is_below_well || !found.is_available) {
                plan.steps.push(Step::Delete(Arc::clone(found.pod), true));
            }
            return false;
        }
        if !pod::is_terminating(found.pod) {
            plan.steps.push(Step::Delete(Arc::clone(found.pod), true));
        }
    }
    true
}

/// Replaces the highest pod of an old revision, once all above it are well.
fn roll(plan: &mut Plan, spec: &StatefulSetSpec, seen: &BTreeMap<i32, Seen<'_>>, update: &str) {
    let wanted = wanted(spec);
    let lowest = wanted.start.saturating_add(partition(spec));
    for ordinal in wanted.rev().take_while(|ordinal| *ordinal >= lowest) {
        let Some(found) = seen.get(&ordinal) else {
            return;
        };
        if identity::revision_of(found.pod) != update && !pod::is_terminating(found.pod) {
            let step = Step::Delete(Arc::clone(found.pod), false);
            if !plan.steps.contains(&step) {
                plan.steps.push(step);
            }
            return;
        }
        if !found.is_available {
            return;
        }
    }
}

fn status(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    seen: &BTreeMap<i32, Seen<'_>>,
    revisions: Revisions<'_>,
) -> StatefulSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let count =
        |is_it: &dyn Fn(&Seen<'_>) -> bool| seen.values().filter(|seen| is_it(seen)).count() as i32;
    let of = |revision: &str| {
        count(&|seen| !pod::is_terminating(seen.pod) && identity::revision_of(seen.pod) == revision)
    };
    let is_ready =
        |seen: &Seen<'_>| pod::phase(seen.pod) == Phase::Running && pod::is_ready(seen.pod);
    let replicas = seen.len() as i32;
    let ready = count(&is_ready);
    let updated = of(revisions.update);
    let desired = spec.replicas.unwrap_or(1);
    let is_complete = update_type(spec) == Some("RollingUpdate")
        && [replicas, updated, ready]
            .iter()
            .all(|count| *count == desired);
    let (current, current_replicas) = if is_complete {
        (revisions.update, updated)
    } else {
        (revisions.current, of(revisions.current))
    };
    let nonzero = |count: i32| (count != 0).then_some(count);
    StatefulSetStatus {
        replicas,
        ready_replicas: nonzero(ready),
        available_replicas: Some(count(&|seen| seen.is_available)),
        current_replicas: nonzero(current_replicas),
        updated_replicas: nonzero(updated),
        current_revision: Some(current.to_owned()),
        update_revision: Some(revisions.update.to_owned()),
        observed_generation: set.metadata.generation,
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(change: &Value) -> StatefulSet {
        let mut base = json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "s", "generation": 4},
            "spec": {"replicas": 3, "podManagementPolicy": "OrderedReady", "selector": {},
                "updateStrategy": {"type": "RollingUpdate"}, "template": {}},
        });
        json_patch::merge(&mut base, &json!({"spec": change}));
        serde_json::from_value(base).unwrap()
    }

    /// `0r` ordinal 0, ready, of the new revision; `0p` pending; `0f` failed; `0o` ready and old;
    /// `0q` pending and old; `0-` ready and being deleted.
    fn pods(words: &str) -> Vec<Arc<Pod>> {
        let pod = |word: &str| {
            let (ordinal, state) = word.split_at(word.len() - 1);
            let phase = match state {
                "p" | "q" => "Pending",
                "f" => "Failed",
                _ => "Running",
            };
            let revision = if matches!(state, "o" | "q") {
                "db-old"
            } else {
                "db-new"
            };
            let ready = if matches!(state, "r" | "o" | "-") {
                "True"
            } else {
                "False"
            };
            let pod = json!({
                "metadata": {"name": format!("db-{ordinal}"), "labels": {"controller-revision-hash": revision},
                    "deletionTimestamp": (state == "-").then_some("2026-01-01T00:00:00Z")},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]},
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        words.split_whitespace().map(pod).collect()
    }

    fn look(change: &Value, words: &str, second: i64) -> Plan {
        let set = set(change);
        let revisions = Revisions {
            current: "db-old",
            update: "db-new",
        };
        let now = Timestamp::from_second(second).unwrap();
        plan(
            &set,
            set.spec.as_ref().unwrap(),
            &pods(words),
            revisions,
            now,
        )
    }

    fn check(change: Value, words: &str, expected: &[&str]) {
        let plan = look(&change, words, 100);
        let word = |step: &Step| match step {
            Step::Create(ordinal, is_new) => {
                format!("+{ordinal}{}", if *is_new { "" } else { "o" })
            }
            Step::Delete(pod, is_scaled) => {
                let name = pod.metadata.name.as_deref().unwrap();
                let sign = if *is_scaled { "-" } else { "~" };
                format!("{sign}{}", &name[3..])
            }
        };
        let steps: Vec<String> = plan.steps.iter().map(word).collect();
        assert_eq!(steps, expected, "{change} {words}");
    }

    #[test]
    fn grows_upwards_one_at_a_time() {
        check(json!({}), "", &["+0"]);
        check(json!({}), "0p", &[]);
        check(json!({}), "0r", &["+1"]);
        check(json!({}), "0r 1-", &[]);
        check(json!({}), "0r 1r 2r", &[]);
        check(json!({}), "0r 2r", &["+1"]);
        check(json!({}), "0f", &["~0"]);
        check(json!({"ordinals": {"start": 5}}), "5r", &["+6"]);
        check(json!({"minReadySeconds": 200}), "0r", &[]);
        let waits = look(&json!({"minReadySeconds": 200}), "0r", 150);
        assert_eq!(waits.look_again.map(|wait| wait.as_secs()), Some(50));
    }

    #[test]
    fn shrinks_downwards_one_at_a_time() {
        check(json!({"replicas": 1}), "0r 1r 2r", &["-2"]);
        check(json!({"replicas": 1}), "0r 1r 2-", &[]);
        check(json!({"replicas": 1}), "0r 1p 2r", &[]);
        check(json!({"replicas": 1}), "0r 1r 2p", &["-2"]);
        check(json!({"replicas": 1}), "0p 1r 2r", &[]);
        check(json!({"replicas": 0}), "0r", &["-0"]);
    }

    #[test]
    fn parallel_pods_come_and_go_together() {
        let parallel =
            |replicas: i32| json!({"replicas": replicas, "podManagementPolicy": "Parallel"});
        check(parallel(3), "", &["+0", "+1", "+2"]);
        check(parallel(3), "0p", &["+1", "+2"]);
        check(parallel(1), "0p 1p 2r 3-", &["-2", "-1"]);
    }

    #[test]
    fn an_update_goes_from_the_top_to_the_partition() {
        check(json!({}), "0o 1o 2o", &["~2"]);
        check(json!({}), "0o 1o 2p", &[]);
        check(json!({}), "0o 1o 2r", &["~1"]);
        check(json!({}), "0r 1r 2r", &[]);
        // A broken old pod is no reason to wait above it, but an order is.
        check(
            json!({"podManagementPolicy": "Parallel"}),
            "0o 1o 2q",
            &["~2"],
        );
        let partition =
            |number: i32| json!({"updateStrategy": {"rollingUpdate": {"partition": number}}});
        check(partition(2), "0o 1o 2o", &["~2"]);
        check(partition(2), "0o 1o 2r", &[]);
        check(partition(2), "0o", &["+1o"]);
        check(partition(1), "0o", &["+1"]);
        check(
            json!({"updateStrategy": {"type": "OnDelete"}}),
            "0o 1o 2o",
            &[],
        );
        check(
            json!({"updateStrategy": {"type": "OnDelete"}}),
            "0o 1o",
            &["+2"],
        );
    }

    #[test]
    fn the_update_revision_becomes_the_current_one_at_the_end() {
        let status = |words: &str| look(&json!({}), words, 100).status;
        let half = status("0o 1o 2r");
        assert_eq!(
            (half.current_replicas, half.updated_replicas),
            (Some(2), Some(1))
        );
        assert_eq!(half.current_revision.as_deref(), Some("db-old"));
        let done = status("0r 1r 2r");
        assert_eq!(
            (done.current_replicas, done.updated_replicas),
            (Some(3), Some(3))
        );
        assert_eq!(done.current_revision.as_deref(), Some("db-new"));
        assert_eq!(
            (done.ready_replicas, done.available_replicas),
            (Some(3), Some(3))
        );
        assert_eq!(done.observed_generation, Some(4));
    }
}
