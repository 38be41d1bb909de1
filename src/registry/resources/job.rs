//! Jobs: pods that run to their end, so many of them, with so many failures allowed.
//!
//! A job's selector is its own uid unless the user insists, so that no two jobs ever count the same
//! pod.

mod policies;

pub(super) use policies::set_pattern_defaults;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, label_selector, pod_template};
use crate::api::table::{self, Column};
use crate::api::{condition, job};

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Status"),
    Column::text("Completions"),
    Column::text("Duration"),
    Column::text("Age"),
    Column::text("Containers").wide(),
    Column::text("Images").wide(),
    Column::text("Selector").wide(),
];
pub(crate) const FIELDS: &[Selectable] = &[Selectable {
    absent: "0",
    ..Selectable::field("status.succeeded").called("status.successful")
}];

const MANAGER: &str = "kubernetes.io/job-controller";
/// Kubernetes' own bound on the parallelism of indexed jobs.
const MOST_INDEXED: i32 = 100_000;

impl Strategy for Job {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        policies::set_defaults(spec);
        spec.backoff_limit.get_or_insert(6);
        spec.completion_mode
            .get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        spec.pod_replacement_policy
            .get_or_insert_with(|| "TerminatingOrFailed".to_owned());
        pod_template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(JobStatus::default());
    }

    fn prepare_identified(&mut self) {
        let meta = self.metadata.clone();
        if let Some(spec) = &mut self.spec
            && spec.manual_selector != Some(true)
        {
            generate_selector(&meta, spec);
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        let (Some(new), Some(old)) = (&mut self.spec, &old.spec) else {
            return;
        };
        // A manifest without the generated selector and labels means the ones that were generated.
        if new.manual_selector != Some(true) {
            if new.selector.is_none() {
                new.selector.clone_from(&old.selector);
            }
            let had = old
                .template
                .metadata
                .as_ref()
                .and_then(|m| m.labels.as_ref());
            let labels = new.template.metadata.get_or_insert_default();
            let labels = labels.labels.get_or_insert_default();
            for key in job::GENERATED_LABELS {
                if let Some(value) = had.and_then(|had| had.get(key)) {
                    labels
                        .entry(key.to_owned())
                        .or_insert_with(|| value.clone());
                }
            }
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else {
            errors.required(&path, "");
            return;
        };
        validate_spec(&path, spec, errors);
        let metadata = spec.template.metadata.as_ref();
        let labels = metadata.and_then(|meta| meta.labels.as_ref());
        match &spec.selector {
            Some(selector) => label_selector::validate_workload(&path, selector, labels, errors),
            None => errors.required(&path.field("selector"), ""),
        }
    }

    fn validate_create(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        let uid = self.metadata.uid.as_deref().unwrap_or_default();
        let labels = spec.selector.as_ref().and_then(|s| s.match_labels.as_ref());
        let chosen = labels.and_then(|labels| labels.get(job::CONTROLLER_UID));
        if spec.manual_selector != Some(true) && chosen.is_none_or(|chosen| chosen != uid) {
            errors.invalid_json(
                &Path::Root.field("spec").field("selector"),
                &spec.selector,
                "`selector` not auto-generated",
            );
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        let path = Path::Root.field("spec");
        validate_completions(&path, new, old, errors);
        errors.immutable(&path.field("selector"), &new.selector, &old.selector);
        errors.immutable(&path.field("template"), &new.template, &old.template);
        policies::validate_update(&path, new, old, errors);
        errors.immutable(
            &path.field("completionMode"),
            &new.completion_mode,
            &old.completion_mode,
        );
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let empty = JobSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let status = self.status.clone().unwrap_or_default();
        let succeeded = status.succeeded.unwrap_or(0);
        let completions = match (spec.completions, spec.parallelism.unwrap_or(0)) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
            (None, _) => format!("{succeeded}/1"),
        };
        let duration = status
            .start_time
            .as_ref()
            .map_or_else(String::new, |start| {
                let end = status.completion_time.as_ref().map_or(now, |end| end.0);
                table::human_duration(end.duration_since(start.0).as_secs())
            });
        let containers = spec.template.spec.as_ref();
        let containers = containers.map_or(&[][..], |template| &template.containers);
        let selector = spec.selector.as_ref().map(cell::selector);
        vec![
            cell::name(&self.metadata),
            word(self).into(),
            completions.into(),
            duration.into(),
            cell::age(&self.metadata, now),
            cell::container_names(containers),
            cell::images(containers),
            cell::or_none(selector.as_deref()),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sample"},
            "spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "main", "image": "hello"}]}}}})
    }
}

/// What the Status column says.
fn word(job: &Job) -> &'static str {
    let conditions = job::conditions(job);
    let is = |kind: &str| condition::is_true(conditions, kind);
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

/// Labels and selector that name the job by its uid; what the user has set stays and is judged.
fn generate_selector(meta: &ObjectMeta, spec: &mut JobSpec) {
    let (Some(uid), Some(name)) = (&meta.uid, &meta.name) else {
        return;
    };
    let labels = spec.template.metadata.get_or_insert_default();
    let labels = labels.labels.get_or_insert_default();
    for key in job::GENERATED_LABELS {
        let value = if key.ends_with("job-name") { name } else { uid };
        labels
            .entry(key.to_owned())
            .or_insert_with(|| value.clone());
    }
    let selector = spec.selector.get_or_insert_default();
    let chosen = selector.match_labels.get_or_insert_default();
    if !chosen.contains_key("controller-uid") {
        chosen
            .entry(job::CONTROLLER_UID.to_owned())
            .or_insert_with(|| uid.clone());
    }
}

/// What a job and the template of a CronJob have in common.
pub(super) fn validate_spec(path: &Path<'_>, spec: &JobSpec, errors: &mut Errors) {
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        (
            "ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.map(i64::from),
        ),
    ] {
        errors.non_negative(&path.field(field), value);
    }
    errors.one_of(
        &path.field("completionMode"),
        spec.completion_mode.as_deref(),
        &["NonIndexed", "Indexed"],
    );
    policies::validate(path, spec, errors);
    if spec.completion_mode.as_deref() == Some("Indexed") {
        validate_indexed(path, spec, errors);
    }
    errors.not_honoured(
        &path.field("managedBy"),
        spec.managed_by.as_deref().is_some_and(|by| by != MANAGER),
        "jobs are managed by the built-in controller; remove it",
    );
    let template = path.field("template");
    pod_template::validate_pods(&template, &spec.template, errors);
    let policy = spec.template.spec.as_ref();
    let policy = policy.and_then(|spec| spec.restart_policy.as_deref());
    if !matches!(policy, Some("OnFailure" | "Never")) {
        let at = template.field("spec");
        errors.required(
            &at.field("restartPolicy"),
            "valid values: \"OnFailure\", \"Never\"",
        );
    } else if spec.pod_failure_policy.is_some() && policy != Some("Never") {
        let at = template.field("spec");
        errors.invalid(
            &at.field("restartPolicy"),
            policy.unwrap_or_default(),
            "only \"Never\" is supported when podFailurePolicy is specified",
        );
    }
}

fn validate_indexed(path: &Path<'_>, spec: &JobSpec, errors: &mut Errors) {
    let Some(completions) = spec.completions else {
        errors.required(
            &path.field("completions"),
            "when completion mode is Indexed",
        );
        return;
    };
    for (field, value) in [
        ("completions", completions),
        ("parallelism", spec.parallelism.unwrap_or(1)),
    ] {
        if value > MOST_INDEXED {
            let rule = format!(
                "must be less than or equal to {MOST_INDEXED} when completion mode is Indexed"
            );
            errors.invalid(&path.field(field), value, &rule);
        }
    }
}

/// An indexed job may grow and shrink; then both numbers move together.
fn validate_completions(path: &Path<'_>, new: &JobSpec, old: &JobSpec, errors: &mut Errors) {
    if new.completions == old.completions {
        return;
    }
    let at = path.field("completions");
    if new.completion_mode.as_deref() != Some("Indexed") {
        errors.immutable(&at, &new.completions, &old.completions);
    } else if new.completions != new.parallelism {
        errors.invalid_json(
            &at,
            &new.completions,
            "can only be modified in tandem with spec.parallelism",
        );
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests;
