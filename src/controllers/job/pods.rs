//! What a job's pods have come to, and the pods that it makes.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use crate::api::job::{COMPLETION_INDEX, TRACKING};
use crate::api::pod::{self, Phase};
use crate::controllers::pod_control;

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// How a pod counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Running,
    Succeeded,
    Failed,
}

/// `waits` is the policy that replaces a pod only when it has really ended.
pub(super) fn end(pod: &Pod, waits: bool) -> End {
    match pod::phase(pod) {
        Phase::Succeeded => End::Succeeded,
        Phase::Failed => End::Failed,
        Phase::Pending | Phase::Running | Phase::Unknown => {
            // Nobody runs it any more: it was never bound, or its node has let it go.
            let is_over = pod.metadata.deletion_grace_period_seconds == Some(0)
                || pod::node_name(pod).is_none();
            if pod::is_terminating(pod) && (!waits || is_over) {
                End::Failed
            } else {
                End::Running
            }
        }
    }
}

/// Whether its end has still to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    let finalizers = pod.metadata.finalizers.as_ref();
    finalizers.is_some_and(|found| found.iter().any(|one| one == TRACKING))
}

pub(super) fn index(pod: &Pod) -> Option<i32> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(COMPLETION_INDEX)?.parse().ok()
}

/// When the pod ended: its last container's end, or what else there is.
pub(super) fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    let ends = containers
        .unwrap_or_default()
        .iter()
        .filter_map(|container| {
            let ended = container.state.as_ref()?.terminated.as_ref()?;
            ended.finished_at.as_ref().map(|time| time.0)
        });
    let deleted = pod.metadata.deletion_timestamp.as_ref();
    let created = pod.metadata.creation_timestamp.as_ref();
    ends.max().or(deleted.or(created).map(|time| time.0))
}

/// How often the containers of a pod were restarted.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let lists = status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let all = lists.into_iter().flatten().flatten().flatten();
    all.map(|container| container.restart_count).sum()
}

/// The pod of one completion, or any pod of a job without indexes.
pub(super) fn make(job: &Job, index: Option<i32>) -> Option<Pod> {
    let template = &job.spec.as_ref()?.template;
    let mut pod = pod_control::from_template::<Job>(template, &job.metadata);
    let meta = &mut pod.metadata;
    let finalizers = meta.finalizers.get_or_insert_default();
    finalizers.push(TRACKING.to_owned());
    let Some(index) = index else {
        return Some(pod);
    };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    meta.generate_name = Some(format!("{name}-{index}-"));
    for keys in [&mut meta.labels, &mut meta.annotations] {
        keys.get_or_insert_default()
            .insert(COMPLETION_INDEX.to_owned(), index.to_string());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname
        .get_or_insert_with(|| format!("{name}-{index}"));
    let containers = spec.init_containers.iter_mut().flatten();
    for container in containers.chain(&mut spec.containers) {
        let variables = container.env.get_or_insert_default();
        if !variables.iter().any(|one| one.name == INDEX_VARIABLE) {
            variables.push(index_variable());
        }
    }
    Some(pod)
}

fn index_variable() -> EnvVar {
    let field = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.labels['{COMPLETION_INDEX}']"),
    };
    EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    }
}

/// The same pod, no longer held.
pub(super) fn released(pod: &Arc<Pod>) -> Pod {
    let mut released = pod.as_ref().clone();
    if let Some(finalizers) = &mut released.metadata.finalizers {
        finalizers.retain(|finalizer| finalizer != TRACKING);
    }
    released
}
