//! What a job must do about its pods, and what it reports. Pure.
//!
//! ```text
//!  pod ends ──► its uid in status.uncountedTerminatedPods ──► finalizer removed ──► counted
//! ```
//!
//! Each arrow is one write, and a crash between two of them loses and doubles nothing: a pod stays
//! until its uid is written down, and a uid is counted once its pod is held no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::finish::{self, Verdict};
use super::indexes::Indexes;
use super::per_index::{self, Failures, PerIndex};
use super::pods::{self, End};
use super::policy::{Meaning, meaning};
use crate::api::condition::{self, Status};
use crate::api::{job, pod};
use crate::controllers::events::Notice;
use crate::controllers::replica_set::rank;

/// Pods made in one pass; the next pass follows at once.
const BURST: usize = 500;
/// The wait after the first failure; it doubles with each.
const BACKOFF: i64 = 10;
const LONGEST_BACKOFF: i64 = 600;

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: JobStatus,
    /// The completions to start; `None` where a job has no indexes.
    pub(super) create: Vec<Option<i32>>,
    /// Of the indexes to start, where they are counted for each.
    pub(super) failures: BTreeMap<i32, Failures>,
    /// To be deleted; with `true` released first, so that they do not count as failures.
    pub(super) delete: Vec<(Arc<Pod>, bool)>,
    /// To be released once the status is written.
    pub(super) release: Vec<Arc<Pod>>,
    pub(super) notices: Vec<Notice>,
    pub(super) look_again: Option<Duration>,
    /// The job has outlived `ttlSecondsAfterFinished`.
    pub(super) is_expired: bool,
}

/// The numbers of one look.
pub(super) struct Tally {
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) completed: Indexes,
    /// Where failures are counted for each index.
    pub(super) per_index: Option<PerIndex>,
    /// A failure that ends the job by its policy.
    pub(super) fatal: Option<String>,
    uncounted: UncountedTerminatedPods,
    terminating: i32,
    release: Vec<Arc<Pod>>,
}

impl Tally {
    /// Counts the failed pods that were held for their replacements: there will be none.
    fn give_up(&mut self) {
        let Some(per_index) = &mut self.per_index else {
            return;
        };
        for pod in std::mem::take(&mut per_index.held).into_values() {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            self.uncounted.failed.get_or_insert_default().push(uid);
            self.failed += 1;
            self.release.push(pod);
        }
    }

    fn is_settled(&self) -> bool {
        let none = |uids: &Option<Vec<String>>| uids.as_ref().is_none_or(Vec::is_empty);
        none(&self.uncounted.succeeded) && none(&self.uncounted.failed)
    }
}

pub(super) fn plan(job: &Job, spec: &JobSpec, found: &[Arc<Pod>], now: Timestamp) -> Plan {
    let old = job.status.clone().unwrap_or_default();
    if let Some(end) = job::finished(job) {
        let since = end.last_transition_time.as_ref().map_or(now, |time| time.0);
        return finished(job, spec, old, found, (since, now));
    }
    let mut tally = tally(spec, &old, found);
    let mut plan = Plan {
        status: old,
        ..Plan::default()
    };
    let is_suspended = spec.suspend == Some(true);
    suspend_or_resume(&mut plan, is_suspended, now);
    let verdict = finish::judge(spec, &plan.status, &tally, now);
    if matches!(verdict, Verdict::Ended(_)) || job.metadata.deletion_timestamp.is_some() {
        tally.give_up();
    }
    plan.release.clone_from(&tally.release);
    match &verdict {
        Verdict::Ended(_) => {
            plan.delete = tally
                .active
                .iter()
                .map(|pod| (Arc::clone(pod), false))
                .collect();
        }
        Verdict::GoesOn if job.metadata.deletion_timestamp.is_some() => {}
        Verdict::GoesOn if is_suspended => {
            plan.delete = tally
                .active
                .iter()
                .map(|pod| (Arc::clone(pod), true))
                .collect();
        }
        Verdict::GoesOn => manage(&mut plan, spec, &tally, found, now),
    }
    report(&mut plan, spec, &tally);
    let is_still = tally.active.is_empty() && tally.terminating == 0 && tally.is_settled();
    finish::conclude(&mut plan, verdict, is_still, now);
    let deadline = finish::deadline(spec, &plan.status, now).filter(|_| !is_suspended);
    plan.look_again = plan.look_again.into_iter().chain(deadline).min();
    plan
}

/// Whether a pod counts as failed only once it has really ended: by the job's wish, or because its
/// policy asks how it has ended.
pub(super) fn waits(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Counts what is new; what is written down already counts once its pod is held no more.
fn tally(spec: &JobSpec, old: &JobStatus, found: &[Arc<Pod>]) -> Tally {
    let is_indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let completions = spec.completions.unwrap_or(0);
    let waits = waits(spec);
    let mut tally = Tally {
        active: Vec::new(),
        succeeded: old.succeeded.unwrap_or(0),
        failed: old.failed.unwrap_or(0),
        completed: Indexes::parse(
            old.completed_indexes.as_deref().unwrap_or_default(),
            completions,
        ),
        per_index: None,
        fatal: None,
        uncounted: UncountedTerminatedPods::default(),
        terminating: 0,
        release: Vec::new(),
    };
    let held: BTreeSet<&str> = found
        .iter()
        .filter(|pod| pods::is_tracked(pod))
        .filter_map(|pod| pod.metadata.uid.as_deref())
        .collect();
    let before = old.uncounted_terminated_pods.clone().unwrap_or_default();
    let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
    for (uids, count, left) in [
        (before.succeeded, &mut tally.succeeded, &mut good),
        (before.failed, &mut tally.failed, &mut bad),
    ] {
        for uid in uids.into_iter().flatten() {
            if held.contains(uid.as_str()) {
                left.insert(uid);
            } else {
                *count += 1;
            }
        }
    }
    let succeeded = found
        .iter()
        .filter(|pod| pods::is_tracked(pod) && pods::end(pod, waits) == End::Succeeded);
    succeeded
        .filter_map(|pod| pods::index(pod).filter(|index| *index < completions))
        .for_each(|index| tally.completed.insert(index));
    tally.per_index = per_index::look(spec, old, found, &tally.completed);
    for pod in found {
        let end = pods::end(pod, waits);
        if pod::is_terminating(pod) && !pod::phase(pod).is_terminal() {
            tally.terminating += 1;
        }
        if end == End::Running {
            if !pod::is_terminating(pod) {
                tally.active.push(Arc::clone(pod));
            }
            continue;
        }
        if !pods::is_tracked(pod) {
            continue;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if end == End::Failed {
            let meaning = meaning(spec, pod);
            if let Meaning::FailsJob(words) = &meaning {
                tally.fatal.get_or_insert_with(|| words.clone());
            }
            if tally.per_index.as_ref().is_some_and(|it| it.holds(pod)) {
                continue;
            }
            if meaning != Meaning::Ignored {
                bad.insert(uid);
            }
        } else if !is_indexed {
            good.insert(uid);
        }
        tally.release.push(Arc::clone(pod));
    }
    if is_indexed {
        tally.succeeded = tally.completed.len();
    }
    let list = |uids: BTreeSet<String>| (!uids.is_empty()).then(|| uids.into_iter().collect());
    tally.succeeded += good.len() as i32;
    tally.failed += bad.len() as i32;
    tally.uncounted.succeeded = list(good);
    tally.uncounted.failed = list(bad);
    tally
}

fn suspend_or_resume(plan: &mut Plan, is_suspended: bool, now: Timestamp) {
    let conditions = plan.status.conditions.get_or_insert_default();
    let was = condition::is_true(conditions, "Suspended");
    if is_suspended && !was {
        let words = ("JobSuspended", "Job suspended");
        condition::set(conditions, "Suspended", Status::True, words, now);
        plan.notices
            .push(Notice::normal("Suspended", "Job suspended"));
        plan.status.start_time = None;
    } else if was && !is_suspended {
        let words = ("JobResumed", "Job resumed");
        condition::set(conditions, "Suspended", Status::False, words, now);
        plan.notices.push(Notice::normal("Resumed", "Job resumed"));
    }
    if !is_suspended && plan.status.start_time.is_none() {
        plan.status.start_time = Some(Time(now));
    }
}

/// Starts what is missing and removes what is too much.
fn manage(plan: &mut Plan, spec: &JobSpec, tally: &Tally, found: &[Arc<Pod>], now: Timestamp) {
    let parallelism = spec.parallelism.unwrap_or(1);
    let active = tally.active.len();
    let wanted = match spec.completions {
        Some(completions) => (completions - tally.succeeded).clamp(0, parallelism),
        // A work queue: the first success means that there is no more work to begin.
        None if tally.succeeded > 0 => parallelism.min(active as i32),
        None => parallelism,
    };
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if active > wanted {
        let mut surplus = tally.active.clone();
        rank::sort(&mut surplus, &BTreeMap::new());
        surplus.truncate(active - wanted);
        plan.delete = surplus.into_iter().map(|pod| (pod, true)).collect();
        return;
    }
    let waits = waits(spec);
    let ending = if waits {
        usize::try_from(tally.terminating).unwrap_or(0)
    } else {
        0
    };
    let missing = (wanted - active).saturating_sub(ending).min(BURST);
    if missing == 0 {
        return;
    }
    if tally.per_index.is_none()
        && let Some(wait) = backoff(found, waits, now)
    {
        plan.look_again = Some(wait);
        return;
    }
    plan.create = if spec.completion_mode.as_deref() == Some("Indexed") {
        let mut taken = Indexes::default();
        let running = found
            .iter()
            .filter(|pod| pods::end(pod, waits) == End::Running);
        running
            .filter_map(|pod| pods::index(pod))
            .for_each(|index| taken.insert(index));
        let completions = spec.completions.unwrap_or(0);
        if let Some(per_index) = &tally.per_index {
            taken.extend(&per_index.failed);
        }
        let mut indexes = tally.completed.missing(&taken, completions, missing);
        if let Some(per_index) = &tally.per_index {
            let (ready, wait) = per_index.ready(spec, indexes, now);
            plan.look_again = wait;
            indexes = ready.iter().map(|(index, _)| *index).collect();
            plan.failures = ready.into_iter().collect();
        }
        indexes.into_iter().map(Some).collect()
    } else {
        vec![None; missing]
    };
}

/// How long to wait for the failures since the last success.
fn backoff(found: &[Arc<Pod>], waits: bool, now: Timestamp) -> Option<Duration> {
    let ends = |wanted: End| {
        // What the job itself has let go (suspended, made smaller) has not failed.
        let counts = |pod: &Pod| pods::is_tracked(pod) || pod::phase(pod).is_terminal();
        let those = found
            .iter()
            .filter(move |pod| pods::end(pod, waits) == wanted && counts(pod));
        those.filter_map(|pod| pods::ended_at(pod))
    };
    let success = ends(End::Succeeded).max();
    let failures: Vec<Timestamp> = ends(End::Failed)
        .filter(|at| success.is_none_or(|success| *at > success))
        .collect();
    let last = failures.iter().max()?;
    left_of_backoff(
        i32::try_from(failures.len()).unwrap_or(i32::MAX),
        *last,
        now,
    )
}

/// What is left of the wait after so many failures, the last of them then.
pub(super) fn left_of_backoff(failures: i32, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(20);
    let wait = (BACKOFF << doublings).min(LONGEST_BACKOFF);
    let left = last + SignedDuration::from_secs(wait) - now;
    Duration::try_from(SignedDuration::try_from(left).ok()?)
        .ok()
        .filter(|left| !left.is_zero())
}

fn report(plan: &mut Plan, spec: &JobSpec, tally: &Tally) {
    let is_indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let nonzero = |count: i32| (count != 0).then_some(count);
    let active = (tally.active.len() - plan.delete.len() + plan.create.len()) as i32;
    let ready = tally.active.iter().filter(|pod| pod::is_ready(pod)).count();
    // Uids that are written down are not in the numbers yet.
    let waiting = |uids: &Option<Vec<String>>| uids.as_ref().map_or(0, |uids| uids.len() as i32);
    let uncounted = &tally.uncounted;
    let status = &mut plan.status;
    status.active = nonzero(active);
    status.ready = Some(ready as i32);
    status.terminating = Some(tally.terminating);
    status.succeeded = nonzero(tally.succeeded - waiting(&uncounted.succeeded));
    status.failed = nonzero(tally.failed - waiting(&uncounted.failed));
    status.uncounted_terminated_pods = Some(uncounted.clone());
    if is_indexed {
        let text = tally.completed.to_string();
        status.completed_indexes = (!text.is_empty()).then_some(text);
    }
    let per_index = tally.per_index.as_ref();
    status.failed_indexes = per_index.map(|it| it.failed.to_string());
}

/// A job that has ended is looked at for its last pods and for its time to live only.
fn finished(
    job: &Job,
    spec: &JobSpec,
    mut status: JobStatus,
    found: &[Arc<Pod>],
    (since, now): (Timestamp, Timestamp),
) -> Plan {
    status.uncounted_terminated_pods = None;
    let held = found.iter().filter(|pod| pods::is_tracked(pod));
    let living = found.iter().filter(|pod| pod::is_active(pod));
    let mut plan = Plan {
        status,
        release: held.cloned().collect(),
        delete: living.map(|pod| (Arc::clone(pod), false)).collect(),
        ..Plan::default()
    };
    if let Some(seconds) = spec.ttl_seconds_after_finished
        && job.metadata.deletion_timestamp.is_none()
    {
        let end = since + SignedDuration::from_secs(i64::from(seconds));
        let left = Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO);
        plan.is_expired = left.is_zero();
        plan.look_again = Some(left).filter(|left| !left.is_zero());
    }
    plan
}
