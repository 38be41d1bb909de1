//! What a CronJob must do now, and when it must be looked at again. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::api::cron::Schedule;
use crate::api::{job, owner};
use crate::controllers::events::{Notice, reference};
use crate::controllers::{Error, path};

/// On its jobs: the time that the job was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than these are not gone through; Kubernetes warns of them.
const MANY: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: CronJobStatus,
    pub(super) delete: Vec<Arc<Job>>,
    pub(super) start: Option<Job>,
    pub(super) notices: Vec<Notice>,
    pub(super) look_again: Option<Duration>,
}

pub(super) fn plan(cron_job: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Result<Plan, Error> {
    let spec = cron_job.spec.as_ref().ok_or_else(|| Error::NoSpec {
        object: path(&cron_job.metadata),
    })?;
    let mut plan = Plan {
        status: cron_job.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    settle(&mut plan, jobs);
    plan.delete = history(spec, jobs);
    if cron_job.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
        return Ok(plan);
    }
    let zone = match &spec.time_zone {
        None => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name),
    };
    let (Ok(schedule), Ok(zone)) = (spec.schedule.parse::<Schedule>(), zone) else {
        // Validation lets no other pass, unless the machine lost its time zones.
        let message = format!("unparseable schedule: {:?}", spec.schedule);
        plan.notices
            .push(Notice::warning("UnparseableSchedule", message));
        return Ok(plan);
    };
    let due = due(&mut plan, cron_job, spec, (&schedule, &zone), now);
    plan.look_again = schedule.next(now, &zone).map(|next| {
        // A little late rather than a little early: early would be one look for nothing.
        Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO)
            + Duration::from_millis(50)
    });
    if let Some(due) = due {
        begin(&mut plan, cron_job, spec, jobs, (due, &zone));
    }
    Ok(plan)
}

/// Takes finished and vanished jobs off the list of active ones.
fn settle(plan: &mut Plan, jobs: &[Arc<Job>]) {
    let mut active = plan.status.active.take().unwrap_or_default();
    active.retain(|one| {
        let found = jobs.iter().find(|job| job.metadata.uid == one.uid);
        let name = one.name.as_deref().unwrap_or_default();
        match found.map(|job| job::finished(job)) {
            Some(None) => true,
            Some(Some(end)) => {
                let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                plan.notices
                    .push(Notice::normal("SawCompletedJob", message));
                false
            }
            None => {
                let message = format!("Active job went missing: {name}");
                plan.notices.push(Notice::normal("MissingJob", message));
                false
            }
        }
    });
    for job in jobs {
        let is_known = active.iter().any(|one| one.uid == job.metadata.uid);
        if job::finished(job).is_none() && !is_known && job.metadata.deletion_timestamp.is_none() {
            active.push(reference(job.as_ref()));
        }
        let ended = job
            .status
            .as_ref()
            .and_then(|status| status.completion_time.as_ref());
        if let Some(ended) = ended.filter(|_| job::is_complete(job)) {
            let last = plan.status.last_successful_time.as_ref();
            if last.is_none_or(|last| last.0 < ended.0) {
                plan.status.last_successful_time = Some(ended.clone());
            }
        }
    }
    plan.status.active = (!active.is_empty()).then_some(active);
}

/// Finished jobs beyond what the history may hold, the oldest of them.
fn history(spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let mut surplus = Vec::new();
    for (is_success, limit) in [
        (true, spec.successful_jobs_history_limit),
        (false, spec.failed_jobs_history_limit),
    ] {
        let Some(limit) = limit else { continue };
        let ended = jobs.iter().filter(|job| {
            job::finished(job).is_some()
                && job::is_complete(job) == is_success
                && job.metadata.deletion_timestamp.is_none()
        });
        let mut ended: Vec<Arc<Job>> = ended.cloned().collect();
        ended.sort_by_cached_key(|job| {
            let start = job
                .status
                .as_ref()
                .and_then(|status| status.start_time.as_ref());
            (start.map(|time| time.0), job.metadata.name.clone())
        });
        let kept = usize::try_from(limit).unwrap_or(0);
        ended.truncate(ended.len().saturating_sub(kept));
        surplus.extend(ended);
    }
    surplus
}

/// The latest time that has come since the last job, if it is not too late for it.
fn due(
    plan: &mut Plan,
    cron_job: &CronJob,
    spec: &CronJobSpec,
    (schedule, zone): (&Schedule, &TimeZone),
    now: Timestamp,
) -> Option<Timestamp> {
    let created = cron_job.metadata.creation_timestamp.as_ref();
    let last = plan.status.last_schedule_time.as_ref();
    let mut from = last.or(created).map_or(now, |time| time.0);
    let deadline = spec
        .starting_deadline_seconds
        .map(|seconds| now.saturating_sub(SignedDuration::from_secs(seconds)))
        .and_then(Result::ok);
    if let Some(deadline) = deadline {
        from = from.max(deadline);
    }
    let first = schedule.next(from, zone).filter(|at| *at <= now)?;
    let (mut latest, mut missed) = (first, 0);
    while let Some(next) = schedule.next(latest, zone).filter(|at| *at <= now) {
        latest = next;
        missed += 1;
        if missed > MANY {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            plan.notices
                .push(Notice::warning("TooManyMissedTimes", message));
            // The rest is leapt over: an hour before now is late enough to begin from.
            let recent = now
                .saturating_sub(SignedDuration::from_hours(1))
                .unwrap_or(now);
            let from = recent.max(latest);
            let mut at = schedule.next(from, zone).filter(|at| *at <= now);
            while let Some(next) = at {
                latest = next;
                at = schedule.next(latest, zone).filter(|at| *at <= now);
            }
            break;
        }
    }
    Some(latest)
}

/// Starts the job of a time, unless others are in its way.
fn begin(
    plan: &mut Plan,
    cron_job: &CronJob,
    spec: &CronJobSpec,
    jobs: &[Arc<Job>],
    (due, zone): (Timestamp, &TimeZone),
) {
    let name = job_name(cron_job, due);
    let active = plan.status.active.clone().unwrap_or_default();
    let is_begun = jobs
        .iter()
        .any(|job| job.metadata.name.as_ref() == Some(&name));
    if is_begun {
        plan.status.last_schedule_time = Some(Time(due));
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notices
                .push(Notice::normal("JobAlreadyActive", message));
            return;
        }
        Some("Replace") => {
            let is_active = |job: &&Arc<Job>| active.iter().any(|one| one.uid == job.metadata.uid);
            plan.delete.extend(jobs.iter().filter(is_active).cloned());
            plan.status.active = None;
        }
        Some(_) | None => {}
    }
    plan.start = Some(job(cron_job, spec, name, (due, zone)));
    plan.status.last_schedule_time = Some(Time(due));
}

/// Kubernetes names jobs by the minute of their time.
fn job_name(cron_job: &CronJob, due: Timestamp) -> String {
    let name = cron_job.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{}", due.as_second() / 60)
}

fn job(
    cron_job: &CronJob,
    spec: &CronJobSpec,
    name: String,
    (due, zone): (Timestamp, &TimeZone),
) -> Job {
    let template = spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = meta.annotations.unwrap_or_default();
    let at = due.to_zoned(zone.clone());
    let at = at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    annotations.insert(SCHEDULED.to_owned(), at.replace("+00:00", "Z"));
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron_job.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controller_reference::<CronJob>(
                &cron_job.metadata,
            )]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cron_job(change: Value) -> CronJob {
        let mut base = json!({
            "metadata": {"name": "tick", "namespace": "default", "uid": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"schedule": "*/10 * * * *", "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
                "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}},
        });
        json_patch::merge(&mut base, &change);
        serde_json::from_value(base).unwrap()
    }

    fn old_job(name: &str, end: Option<&str>, minute: u32) -> Arc<Job> {
        let start = format!("2026-01-01T00:{minute:02}:00Z");
        let conditions = end.map(|end| json!([{"type": end, "status": "True"}]));
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "default", "uid": name},
                "status": {"startTime": start, "conditions": conditions,
                    "completionTime": (end == Some("Complete")).then_some(start.clone())},
            }))
            .unwrap(),
        )
    }

    fn look(cron_job: &CronJob, jobs: &[Arc<Job>], now: &str) -> Plan {
        plan(cron_job, jobs, now.parse().unwrap()).unwrap()
    }

    fn started(plan: &Plan) -> Option<&str> {
        plan.start.as_ref()?.metadata.name.as_deref()
    }

    #[test]
    fn starts_the_latest_time_and_no_other() {
        let fresh = cron_job(json!({}));
        let early = look(&fresh, &[], "2026-01-01T00:09:00Z");
        assert_eq!(started(&early), None);
        assert_eq!(early.look_again.map(|wait| wait.as_secs()), Some(60));
        let late = look(&fresh, &[], "2026-01-01T00:35:00Z");
        // 2026-01-01T00:30:00Z is minute 29,453,790 of the epoch.
        assert_eq!(started(&late), Some("tick-29453790"));
        let annotations = late.start.as_ref().unwrap().metadata.annotations.as_ref();
        assert_eq!(annotations.unwrap()[SCHEDULED], "2026-01-01T00:30:00Z");
        let done = cron_job(json!({"status": {"lastScheduleTime": "2026-01-01T00:30:00Z"}}));
        assert_eq!(started(&look(&done, &[], "2026-01-01T00:35:00Z")), None);
        let suspended = cron_job(json!({"spec": {"suspend": true}}));
        assert_eq!(
            started(&look(&suspended, &[], "2026-01-01T00:35:00Z")),
            None
        );
        let strict = cron_job(json!({"spec": {"startingDeadlineSeconds": 60}}));
        assert_eq!(started(&look(&strict, &[], "2026-01-01T00:35:00Z")), None);
        let months = look(&fresh, &[], "2026-05-01T00:05:00Z");
        assert!(started(&months).is_some());
        assert_eq!(months.notices[0].reason, "TooManyMissedTimes");
    }

    #[test]
    fn obeys_the_concurrency_policy() {
        let running = [old_job("old", None, 20)];
        let look = |policy: &str| {
            let cron_job = cron_job(json!({"spec": {"concurrencyPolicy": policy}}));
            look(&cron_job, &running, "2026-01-01T00:35:00Z")
        };
        let allowed = look("Allow");
        assert!(allowed.start.is_some() && allowed.delete.is_empty());
        let forbidden = look("Forbid");
        assert!(forbidden.start.is_none());
        assert_eq!(forbidden.notices[0].reason, "JobAlreadyActive");
        assert_eq!(forbidden.status.active.unwrap().len(), 1);
        let replaced = look("Replace");
        assert!(replaced.start.is_some());
        assert_eq!(replaced.delete.len(), 1);
    }

    #[test]
    fn keeps_as_much_history_as_it_may() {
        let jobs = [
            old_job("a", Some("Complete"), 1),
            old_job("b", Some("Complete"), 2),
            old_job("c", Some("Failed"), 1),
            old_job("d", Some("Failed"), 2),
            old_job("e", None, 3),
        ];
        let active = json!([{"name": "b", "uid": "b"}, {"name": "gone", "uid": "gone"}]);
        let cron_job = cron_job(
            json!({"status": {"active": active, "lastScheduleTime": "2026-01-01T00:30:00Z"}}),
        );
        let plan = look(&cron_job, &jobs, "2026-01-01T00:35:00Z");
        let names: Vec<_> = plan
            .delete
            .iter()
            .map(|job| job.metadata.name.as_deref().unwrap())
            .collect();
        assert_eq!(names, ["a", "c"]);
        let reasons: Vec<_> = plan.notices.iter().map(|notice| notice.reason).collect();
        assert_eq!(reasons, ["SawCompletedJob", "MissingJob"]);
        assert_eq!(plan.status.active.unwrap()[0].name.as_deref(), Some("e"));
        let last = plan.status.last_successful_time.unwrap().0;
        assert_eq!(last.to_string(), "2026-01-01T00:02:00Z");
    }
}
