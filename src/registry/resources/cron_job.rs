//! CronJobs: a job at each time of a schedule.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, job, pod_template};
use crate::api::cron::Schedule;
use crate::api::table::{self, Column};

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Schedule"),
    Column::text("Timezone"),
    Column::text("Suspend"),
    Column::integer("Active"),
    Column::text("Last Schedule"),
    Column::text("Age"),
    Column::text("Containers").wide(),
    Column::text("Images").wide(),
    Column::text("Selector").wide(),
];

/// Its jobs are named after it, with the time.
const LONGEST_NAME: usize = 52;

impl Strategy for CronJob {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.concurrency_policy
            .get_or_insert_with(|| "Allow".to_owned());
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        if let Some(job) = &mut spec.job_template.spec {
            job::set_pattern_defaults(job);
            pod_template::set_defaults(&mut job.template);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(CronJobStatus::default());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else {
            errors.required(&path, "");
            return;
        };
        validate_schedule(&path, spec, errors);
        errors.non_negative(
            &path.field("startingDeadlineSeconds"),
            spec.starting_deadline_seconds,
        );
        for (field, limit) in [
            (
                "successfulJobsHistoryLimit",
                spec.successful_jobs_history_limit,
            ),
            ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
        ] {
            errors.non_negative(&path.field(field), limit.map(i64::from));
        }
        errors.one_of(
            &path.field("concurrencyPolicy"),
            spec.concurrency_policy.as_deref(),
            &["Allow", "Forbid", "Replace"],
        );
        let template = path.field("jobTemplate");
        let at = template.field("spec");
        let Some(wanted) = &spec.job_template.spec else {
            errors.required(&at, "");
            return;
        };
        job::validate_spec(&at, wanted, errors);
        if wanted.manual_selector == Some(true) {
            let path = at.field("manualSelector");
            errors.not_supported(&path, "true", &["nil", "false"]);
        }
    }

    fn validate_create(&self, errors: &mut Errors) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name.len() > LONGEST_NAME {
            let rule = format!("must be no more than {LONGEST_NAME} characters");
            let metadata = Path::Root.field("metadata");
            errors.invalid(&metadata.field("name"), name, &rule);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let empty = CronJobSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let status = self.status.clone().unwrap_or_default();
        let suspend = match spec.suspend {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let last = status.last_schedule_time.map(|time| time.0);
        let last = last.map(|last| table::age(Some(last), now));
        let template = spec.job_template.spec.as_ref();
        let pods = template.and_then(|job| job.template.spec.as_ref());
        let containers = pods.map_or(&[][..], |template| &template.containers);
        let selector = template.and_then(|job| job.selector.as_ref());
        let selector = selector.map(cell::selector);
        vec![
            cell::name(&self.metadata),
            spec.schedule.clone().into(),
            cell::or_none(spec.time_zone.as_deref()),
            suspend.into(),
            status.active.map_or(0, |active| active.len()).into(),
            cell::or_none(last.as_deref()),
            cell::age(&self.metadata, now),
            cell::container_names(containers),
            cell::images(containers),
            cell::or_none(selector.as_deref()),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "sample"},
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "main", "image": "hello"}]}}}}}})
    }
}

fn validate_schedule(path: &Path<'_>, spec: &CronJobSpec, errors: &mut Errors) {
    let at = path.field("schedule");
    if spec.schedule.is_empty() {
        errors.required(&at, "");
    } else if spec.schedule.contains("TZ") {
        errors.invalid(
            &at,
            &spec.schedule,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        );
    } else if let Err(error) = spec.schedule.parse::<Schedule>() {
        errors.invalid(&at, &spec.schedule, &error.to_string());
    }
    let Some(zone) = &spec.time_zone else { return };
    let at = path.field("timeZone");
    if zone.is_empty() {
        errors.invalid(&at, zone, "timeZone must be nil or non-empty string");
    } else if zone.eq_ignore_ascii_case("local") {
        let hint =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(&at, zone, hint);
    } else if TimeZone::get(zone).is_err() {
        errors.invalid(&at, zone, &format!("unknown time zone {zone}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn schedules_and_zones_are_judged() {
        let schedule = |value: &str, expected: &[&str]| {
            check::<CronJob>("/spec/schedule", &json!(value), expected);
        };
        schedule("@daily", &[]);
        schedule("", &["spec.schedule: Required value"]);
        schedule(
            "* *",
            &["spec.schedule: Invalid value: \"* *\": expected exactly 5 fields, found 2"],
        );
        schedule(
            "TZ=UTC 0 * * * *",
            &[
                "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ],
        );
        check::<CronJob>("/spec/timeZone", &json!("Europe/Berlin"), &[]);
        check::<CronJob>(
            "/spec/timeZone",
            &json!("Moon/Sea"),
            &["spec.timeZone: Invalid value: \"Moon/Sea\": unknown time zone Moon/Sea"],
        );
        check::<CronJob>(
            "/spec/concurrencyPolicy",
            &json!("Maybe"),
            &[
                "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ],
        );
    }
}
