//! What a Deployment reports: a pure function of its ReplicaSets and of time.
//!
//! The reasons are Kubernetes', since `kubectl rollout status` reads them. `lastUpdateTime` of
//! `Progressing` is when progress was last seen, and the progress deadline counts from there; a
//! condition whose status and reason stay is left alone otherwise, or every pass would be a write.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::condition::{self, Condition as _, Status};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// What the status is computed from.
pub(super) struct Facts<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) desired: i32,
    pub(super) max_unavailable: i32,
    /// The ReplicaSet of the current template.
    pub(super) new: Option<&'a ReplicaSet>,
    pub(super) old: Vec<&'a ReplicaSet>,
    /// Whether `new` was made by this very pass.
    pub(super) created: bool,
    /// Whether the strategy ran, as opposed to a pause or a plain scaling.
    pub(super) rolled: bool,
    pub(super) now: Timestamp,
}

pub(super) fn status(facts: &Facts<'_>) -> DeploymentStatus {
    let before = facts.deployment.status.clone().unwrap_or_default();
    let mut status = counts(facts, &before);
    let mut conditions = before.conditions.clone().unwrap_or_default();
    available(facts, &status, &mut conditions);
    if has_deadline(facts.spec) {
        pause(facts, &mut conditions);
        if facts.rolled {
            progress(facts, &before, &status, &mut conditions);
        }
    } else {
        conditions.retain(|condition| condition.kind() != PROGRESSING);
    }
    if facts.rolled {
        failures(facts, &mut conditions);
    }
    status.conditions = Some(conditions);
    status
}

/// When time alone will change the status: the progress deadline.
pub(super) fn look_again(facts: &Facts<'_>, status: &DeploymentStatus) -> Option<Duration> {
    if !facts.rolled || !has_deadline(facts.spec) || is_complete(facts, status) {
        return None;
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let progressing = condition::find(conditions, PROGRESSING)?;
    if progressing.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let left = deadline(facts.spec) - facts.now.duration_since(updated(progressing, facts.now));
    // One second more, since times are written in whole seconds.
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO) + Duration::from_secs(1))
}

/// The new ReplicaSet was refused.
pub(super) fn creation_failed(status: &mut DeploymentStatus, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    set(
        conditions,
        PROGRESSING,
        Status::False,
        ("ReplicaSetCreateError", message),
        now,
    );
}

/// Whether every pod is of the current template and available.
pub(super) fn is_complete(facts: &Facts<'_>, status: &DeploymentStatus) -> bool {
    status.updated_replicas.unwrap_or(0) == facts.desired
        && status.replicas.unwrap_or(0) == facts.desired
        && status.available_replicas.unwrap_or(0) == facts.desired
}

fn counts(facts: &Facts<'_>, before: &DeploymentStatus) -> DeploymentStatus {
    let all = || facts.old.iter().copied().chain(facts.new);
    let reported = |count: fn(&ReplicaSet) -> i32| all().map(count).sum::<i32>();
    let available = reported(available_replicas);
    let wanted = reported(|set| {
        set.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    });
    DeploymentStatus {
        observed_generation: facts.deployment.metadata.generation,
        replicas: nonzero(reported(replicas)),
        updated_replicas: nonzero(facts.new.map_or(0, replicas)),
        ready_replicas: nonzero(reported(ready_replicas)),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((wanted - available).max(0)),
        collision_count: before.collision_count,
        ..DeploymentStatus::default()
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn ready_replicas(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0)
}

pub(super) fn available_replicas(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

fn available(
    facts: &Facts<'_>,
    status: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
) {
    let least = facts.desired - facts.max_unavailable;
    let (value, why) = if status.available_replicas.unwrap_or(0) >= least {
        (
            Status::True,
            (
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            ),
        )
    } else {
        (
            Status::False,
            (
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            ),
        )
    };
    set(conditions, AVAILABLE, value, why, facts.now);
}

/// A paused Deployment makes no progress, and its deadline must not run.
fn pause(facts: &Facts<'_>, conditions: &mut Vec<DeploymentCondition>) {
    let reason = condition::find(conditions, PROGRESSING).and_then(|c| c.reason.clone());
    if reason.as_deref() == Some(TIMED_OUT) {
        return;
    }
    let was_paused = reason.as_deref() == Some(PAUSED);
    match (facts.spec.paused.unwrap_or(false), was_paused) {
        (true, false) => set(
            conditions,
            PROGRESSING,
            Status::Unknown,
            (PAUSED, "Deployment is paused"),
            facts.now,
        ),
        (false, true) => set(
            conditions,
            PROGRESSING,
            Status::Unknown,
            (RESUMED, "Deployment is resumed"),
            facts.now,
        ),
        (true, true) | (false, false) => {}
    }
}

fn progress(
    facts: &Facts<'_>,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
) {
    let name = facts.new.and_then(|set| set.metadata.name.as_deref());
    let subject = name.map_or_else(
        || {
            format!(
                "Deployment \"{}\"",
                facts
                    .deployment
                    .metadata
                    .name
                    .as_deref()
                    .unwrap_or_default()
            )
        },
        |name| format!("ReplicaSet \"{name}\""),
    );
    let current = condition::find(conditions, PROGRESSING);
    if facts.created {
        let message = format!("Created new replica set \"{}\"", name.unwrap_or_default());
        set(
            conditions,
            PROGRESSING,
            Status::True,
            ("NewReplicaSetCreated", &message),
            facts.now,
        );
        return;
    }
    if current.is_none() && facts.new.is_some() {
        let message = format!("Found new replica set \"{}\"", name.unwrap_or_default());
        set(
            conditions,
            PROGRESSING,
            Status::True,
            ("FoundNewReplicaSet", &message),
            facts.now,
        );
    }
    let current = condition::find(conditions, PROGRESSING);
    let is_settled = status.replicas == status.updated_replicas
        && current.is_some_and(|current| current.reason.as_deref() == Some(COMPLETE));
    if is_settled {
        return;
    }
    if is_complete(facts, status) {
        let message = format!("{subject} has successfully progressed.");
        set(
            conditions,
            PROGRESSING,
            Status::True,
            (COMPLETE, &message),
            facts.now,
        );
    } else if has_progressed(before, status) {
        let message = format!("{subject} is progressing.");
        let since = current
            .filter(|current| current.status() == Status::True.as_str())
            .and_then(condition::Condition::since);
        conditions.retain(|condition| condition.kind() != PROGRESSING);
        set(
            conditions,
            PROGRESSING,
            Status::True,
            ("ReplicaSetUpdated", &message),
            facts.now,
        );
        if let (Some(since), Some(last)) = (since, conditions.last_mut()) {
            last.last_transition_time = Some(Time(since));
        }
    } else if current.is_some_and(|current| has_timed_out(facts, current)) {
        let message = format!("{subject} has timed out progressing.");
        set(
            conditions,
            PROGRESSING,
            Status::False,
            (TIMED_OUT, &message),
            facts.now,
        );
    }
}

/// More new pods, fewer old ones, or more of them ready or available.
fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let updated = |status: &DeploymentStatus| status.updated_replicas.unwrap_or(0);
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - updated(status);
    updated(after) > updated(before)
        || old(after) < old(before)
        || after.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || after.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

fn has_timed_out(facts: &Facts<'_>, current: &DeploymentCondition) -> bool {
    match current.reason.as_deref() {
        Some(TIMED_OUT) => true,
        Some(COMPLETE | PAUSED) => false,
        Some(_) | None => {
            facts.now.duration_since(updated(current, facts.now)) > deadline(facts.spec)
        }
    }
}

/// A ReplicaSet that cannot make its pods is the Deployment's failure too; the new one's counts more.
fn failures(facts: &Facts<'_>, conditions: &mut Vec<DeploymentCondition>) {
    let failure = facts
        .new
        .into_iter()
        .chain(facts.old.iter().copied())
        .find_map(|set| {
            let conditions = set.status.as_ref()?.conditions.as_deref()?;
            condition::find(conditions, FAILURE).filter(|c| c.status() == Status::True.as_str())
        });
    match failure {
        Some(failure) => {
            let reason = failure.reason.as_deref().unwrap_or_default();
            let message = failure.message.as_deref().unwrap_or_default();
            set(
                conditions,
                FAILURE,
                Status::True,
                (reason, message),
                facts.now,
            );
        }
        None => conditions.retain(|condition| condition.kind() != FAILURE),
    }
}

/// Kubernetes' `SetDeploymentCondition`: nothing moves while status and reason stay.
fn set(
    conditions: &mut Vec<DeploymentCondition>,
    kind: &str,
    status: Status,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    let current = condition::find(conditions, kind);
    if current.is_some_and(|c| c.status() == status.as_str() && c.reason.as_deref() == Some(reason))
    {
        return;
    }
    let since = current
        .filter(|current| current.status() == status.as_str())
        .and_then(condition::Condition::since)
        .unwrap_or(now);
    let mut changed = DeploymentCondition::new(kind, status, reason, message, now);
    changed.last_transition_time = Some(Time(since));
    conditions.retain(|condition| condition.kind() != kind);
    conditions.push(changed);
}

fn updated(condition: &DeploymentCondition, now: Timestamp) -> Timestamp {
    condition
        .last_update_time
        .as_ref()
        .map_or(now, |time| time.0)
}

/// `i32::MAX` means no deadline, as in Kubernetes.
fn has_deadline(spec: &DeploymentSpec) -> bool {
    spec.progress_deadline_seconds
        .is_some_and(|seconds| seconds != i32::MAX)
}

fn deadline(spec: &DeploymentSpec) -> SignedDuration {
    SignedDuration::from_secs(i64::from(
        spec.progress_deadline_seconds.unwrap_or(i32::MAX),
    ))
}

fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests;
