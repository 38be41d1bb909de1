//! The next step of a StatefulSet: which pods to make and which to remove, and what to report. Pure.
//!
//! With `OrderedReady` one pod is touched at a time, upwards when growing and downwards when
//! shrinking, and only while the others are available. With `Parallel` all that is missing or too
//! much goes at once. An update goes from the top down to the partition, one pod at a time unless
//! `maxUnavailable` allows more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::identity;
use crate::api::pod::{self, Phase};
use crate::api::share;
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

/// How many may be unavailable during an update, if the set says so.
fn max_unavailable(spec: &StatefulSetSpec) -> Option<usize> {
    let strategy = spec.update_strategy.as_ref()?;
    let most = strategy.rolling_update.as_ref()?.max_unavailable.as_ref()?;
    let most = share::scaled(most, spec.replicas.unwrap_or(1), false);
    Some(usize::try_from(most).unwrap_or(0).max(1))
}

/// Replaces the highest pods of an old revision: as many as may be unavailable, or one once all
/// above it are well.
fn roll(plan: &mut Plan, spec: &StatefulSetSpec, seen: &BTreeMap<i32, Seen<'_>>, update: &str) {
    let wanted = wanted(spec);
    let lowest = wanted.start.saturating_add(partition(spec));
    if let Some(most) = max_unavailable(spec) {
        let is_well = |ordinal: &i32| seen.get(ordinal).is_some_and(|found| found.is_available);
        let unavailable = wanted.clone().filter(|ordinal| !is_well(ordinal)).count();
        let candidates = (lowest..wanted.end).rev();
        let is_old = |found: &&Seen<'_>| {
            identity::revision_of(found.pod) != update && !pod::is_terminating(found.pod)
        };
        let old = candidates
            .filter_map(|ordinal| seen.get(&ordinal))
            .filter(is_old);
        for found in old.take(most.saturating_sub(unavailable)) {
            let step = Step::Delete(Arc::clone(found.pod), false);
            if !plan.steps.contains(&step) {
                plan.steps.push(step);
            }
        }
        return;
    }
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
mod tests;
