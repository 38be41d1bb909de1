//! Questions that the registry, the controllers and the command line ask of a job.

use k8s_openapi::api::batch::v1::{Job, JobCondition};

use super::condition;

/// On a job's pods and in its selector: the job's uid.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// On a job's pods: the job's name.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// On the pods of an indexed job.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Holds a job's pod until its end has been counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// The labels that the registry puts into a job's template, the old names too.
pub const GENERATED_LABELS: [&str; 4] = [CONTROLLER_UID, JOB_NAME, "controller-uid", "job-name"];

/// The job's conditions.
pub fn conditions(job: &Job) -> &[JobCondition] {
    let status = job.status.as_ref();
    status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

/// The condition that ended the job: `Complete` or `Failed`.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    let ended = |found: &&JobCondition| {
        found.status == "True" && matches!(found.type_.as_str(), "Complete" | "Failed")
    };
    conditions(job).iter().find(ended)
}

/// Whether all its completions came.
pub fn is_complete(job: &Job) -> bool {
    condition::is_true(conditions(job), "Complete")
}
