//! Whether a job has come to its end, and how that is told: first the reason (`SuccessCriteriaMet`,
//! `FailureTarget`), and once no pod runs any more the end itself (`Complete`, `Failed`).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Plan, Tally};
use super::{pods, policy};
use crate::api::condition::{self, Status};
use crate::controllers::events::Notice;

/// How it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    is_success: bool,
    reason: String,
    message: String,
}

impl Ending {
    fn new(is_success: bool, reason: &str, message: &str) -> Self {
        Self {
            is_success,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    GoesOn,
    Ended(Ending),
}

pub(super) fn judge(spec: &JobSpec, status: &JobStatus, tally: &Tally, now: Timestamp) -> Verdict {
    // What was told once stays: numbers may change while the last pods end.
    for (kind, is_success) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        if let Some(told) = condition::find(conditions, kind).filter(|told| told.status == "True") {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            return Verdict::Ended(Ending {
                is_success,
                reason: text(&told.reason),
                message: text(&told.message),
            });
        }
    }
    if let Some(words) = &tally.fatal {
        return Verdict::Ended(Ending::new(false, "PodFailurePolicy", words));
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let held = tally.per_index.as_ref().map_or(0, |it| it.held.len());
    if tally.failed.saturating_add(held as i32) > limit
        || has_restarted_too_often(spec, tally, limit)
    {
        return Verdict::Ended(Ending::new(
            false,
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ));
    }
    if spec.suspend != Some(true) && deadline(spec, status, now) == Some(Duration::ZERO) {
        return Verdict::Ended(Ending::new(
            false,
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        ));
    }
    if let Some(ending) = by_index(spec, tally) {
        return Verdict::Ended(ending);
    }
    let is_done = match spec.completions {
        Some(completions) => tally.succeeded >= completions,
        None => tally.succeeded > 0 && tally.active.is_empty(),
    };
    if is_done {
        return Verdict::Ended(Ending::new(
            true,
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        ));
    }
    Verdict::GoesOn
}

/// What indexes that have failed for good, or those that have succeeded, say of the whole.
fn by_index(spec: &JobSpec, tally: &Tally) -> Option<Ending> {
    if let Some(per_index) = &tally.per_index {
        let failed = per_index.failed.len();
        if spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let words = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Ending::new(false, "MaxFailedIndexesExceeded", words));
        }
        if failed > 0 && failed + tally.completed.len() >= spec.completions.unwrap_or(0) {
            return Some(Ending::new(
                false,
                "FailedIndexes",
                "Job has failed indexes",
            ));
        }
    }
    let words = policy::is_success(spec, &tally.completed)?;
    Some(Ending::new(true, "SuccessPolicy", &words))
}

/// Where containers are restarted in their pod, restarts count as failures.
fn has_restarted_too_often(spec: &JobSpec, tally: &Tally, limit: i32) -> bool {
    let template = spec.template.spec.as_ref();
    if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let restarts: i32 = tally.active.iter().map(|pod| pods::restarts(pod)).sum();
    restarts > 0 && restarts >= limit
}

/// What is left of `activeDeadlineSeconds`.
pub(super) fn deadline(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let seconds = spec.active_deadline_seconds?;
    let start = status.start_time.as_ref()?.0;
    let end = start
        .saturating_add(SignedDuration::from_secs(seconds))
        .ok()?;
    Some(Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// Writes the verdict into the status. `is_still`: no pod runs and every end is counted.
pub(super) fn conclude(plan: &mut Plan, verdict: Verdict, is_still: bool, now: Timestamp) {
    let status = &mut plan.status;
    let conditions = status.conditions.get_or_insert_default();
    if let Verdict::Ended(ending) = verdict {
        let (early, kind) = if ending.is_success {
            ("SuccessCriteriaMet", "Complete")
        } else {
            ("FailureTarget", "Failed")
        };
        let words = (ending.reason.as_str(), ending.message.as_str());
        if !condition::is_true(conditions, early) {
            condition::set(conditions, early, Status::True, words, now);
        }
        if is_still {
            condition::set(conditions, kind, Status::True, words, now);
            status.uncounted_terminated_pods = None;
            status.active = None;
            status.ready = Some(0);
            status.terminating = Some(0);
            if ending.is_success {
                status.completion_time = Some(Time(now));
                plan.notices
                    .push(Notice::normal("Completed", "Job completed"));
            } else if let Some(reason) = known(&ending.reason) {
                plan.notices.push(Notice::warning(reason, ending.message));
            }
        }
    }
    if status.conditions.as_ref().is_some_and(Vec::is_empty) {
        status.conditions = None;
    }
}

fn known(reason: &str) -> Option<&'static str> {
    const KNOWN: [&str; 5] = [
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "PodFailurePolicy",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    KNOWN.into_iter().find(|known| *known == reason)
}
