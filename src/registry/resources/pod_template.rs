//! The pod template of a workload: the pods that it will make, judged before it makes them.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::super::field_error::Errors;
use super::super::meta;
use super::super::path::Path;
use super::{ephemeral, label_selector, pod_annotations, pod_spec};

pub(super) fn set_defaults(template: &mut PodTemplateSpec) {
    // A template's creation timestamp means nothing, and old clients send one.
    if let Some(metadata) = &mut template.metadata {
        metadata.creation_timestamp = None;
    }
    pod_spec::set_defaults(template.spec.get_or_insert_default());
}

/// Any template; how its pods end is up to the workload.
pub(super) fn validate_pods(path: &Path<'_>, template: &PodTemplateSpec, errors: &mut Errors) {
    let metadata = path.field("metadata");
    if let Some(found) = &template.metadata {
        if let Some(labels) = &found.labels {
            meta::validate_labels(&metadata.field("labels"), labels, errors);
        }
        if let Some(annotations) = &found.annotations {
            let at = metadata.field("annotations");
            meta::validate_annotations(&at, annotations, errors);
            pod_annotations::validate(&at, annotations, template.spec.as_ref(), errors);
        }
    }
    let at = path.field("spec");
    let Some(spec) = &template.spec else {
        errors.required(&at, "");
        return;
    };
    pod_spec::validate(&at, spec, errors);
    ephemeral::validate_create(&at, spec, errors);
}

/// Selector and template of a workload whose pods are restarted for ever, as replicas are; `spec`
/// is the path of both.
pub(super) fn validate_replicas(
    spec: &Path<'_>,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    errors: &mut Errors,
) {
    let metadata = template.metadata.as_ref();
    let labels = metadata.and_then(|meta| meta.labels.as_ref());
    label_selector::validate_workload(spec, selector, labels, errors);
    let path = &spec.field("template");
    validate_pods(path, template, errors);
    let Some(spec) = &template.spec else { return };
    let at = path.field("spec");
    errors.one_of(
        &at.field("restartPolicy"),
        spec.restart_policy.as_deref(),
        &["Always"],
    );
    if spec.active_deadline_seconds.is_some() {
        errors.forbidden(
            &at.field("activeDeadlineSeconds"),
            "activeDeadlineSeconds is not supported in a template of replicas",
        );
    }
}
