//! Deployments: a ReplicaSet per version of the template, and the way from one to the next.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, pod_template};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Ready"),
    Column::integer("Up-to-date"),
    Column::integer("Available"),
    Column::text("Age"),
    Column::text("Containers").wide(),
    Column::text("Images").wide(),
    Column::text("Selector").wide(),
];

const QUARTER: &str = "25%";

impl Strategy for Deployment {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        let kind = strategy
            .type_
            .get_or_insert_with(|| "RollingUpdate".to_owned());
        if kind == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            let quarter = || IntOrString::String(QUARTER.to_owned());
            rolling.max_surge.get_or_insert_with(quarter);
            rolling.max_unavailable.get_or_insert_with(quarter);
        }
        pod_template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(DeploymentStatus::default());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else {
            errors.required(&path, "");
            return;
        };
        for (field, value) in [
            ("replicas", spec.replicas),
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
            ("progressDeadlineSeconds", spec.progress_deadline_seconds),
        ] {
            errors.non_negative(&path.field(field), value.map(i64::from));
        }
        if let Some(deadline) = spec.progress_deadline_seconds
            && deadline <= spec.min_ready_seconds.unwrap_or(0)
        {
            errors.invalid(
                &path.field("progressDeadlineSeconds"),
                deadline,
                "must be greater than minReadySeconds",
            );
        }
        validate_strategy(&path, spec, errors);
        pod_template::validate_replicas(&path, &spec.selector, &spec.template, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            let path = Path::Root.field("spec");
            errors.immutable(&path.field("selector"), &new.selector, &old.selector);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let status = self.status.clone().unwrap_or_default();
        let template = spec.and_then(|spec| spec.template.spec.as_ref());
        let containers = template.map_or(&[][..], |template| &template.containers);
        let desired = spec.and_then(|spec| spec.replicas).unwrap_or(0);
        vec![
            cell::name(&self.metadata),
            format!("{}/{desired}", status.ready_replicas.unwrap_or(0)).into(),
            status.updated_replicas.unwrap_or(0).into(),
            status.available_replicas.unwrap_or(0).into(),
            cell::age(&self.metadata, now),
            cell::container_names(containers),
            cell::images(containers),
            spec.map_or_else(String::new, |spec| cell::selector(&spec.selector))
                .into(),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "sample"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "sample"}}, "template": {
                "metadata": {"labels": {"app": "sample"}},
                "spec": {"containers": [{"name": "main", "image": "hello"}]}}}})
    }
}

fn validate_strategy(spec_path: &Path<'_>, spec: &DeploymentSpec, errors: &mut Errors) {
    let path = spec_path.field("strategy");
    let empty = DeploymentStrategy::default();
    let strategy = spec.strategy.as_ref().unwrap_or(&empty);
    let kind = strategy.type_.as_deref();
    errors.one_of(&path.field("type"), kind, &["Recreate", "RollingUpdate"]);
    let at = path.field("rollingUpdate");
    let Some(rolling) = &strategy.rolling_update else {
        return;
    };
    if kind == Some("Recreate") {
        errors.forbidden(
            &at,
            "may not be specified when strategy `type` is 'Recreate'",
        );
        return;
    }
    let surge = validate_share(&at.field("maxSurge"), rolling.max_surge.as_ref(), errors);
    let unavailable = at.field("maxUnavailable");
    let missing = validate_share(&unavailable, rolling.max_unavailable.as_ref(), errors);
    if surge == Some(0) && missing == Some(0) {
        errors.invalid(&unavailable, 0, "may not be 0 when `maxSurge` is 0");
    }
    validate_hundred(&unavailable, rolling.max_unavailable.as_ref(), errors);
}

/// There is no more than all of them.
pub(super) fn validate_hundred(path: &Path<'_>, share: Option<&IntOrString>, errors: &mut Errors) {
    let Some(IntOrString::String(text)) = share else {
        return;
    };
    let percent = text.strip_suffix('%').and_then(|text| text.parse().ok());
    if percent.is_some_and(|percent: i64| percent > 100) {
        errors.invalid(path, text, "must not be greater than 100%");
    }
}

/// A number of pods or a percentage of them; the number, if it can be read.
pub(super) fn validate_share(
    path: &Path<'_>,
    share: Option<&IntOrString>,
    errors: &mut Errors,
) -> Option<i32> {
    match share? {
        IntOrString::Int(number) => {
            errors.non_negative(path, Some(i64::from(*number)));
            Some(*number)
        }
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').filter(|digits| {
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
            let percent = digits.and_then(|digits| digits.parse().ok());
            if percent.is_none() {
                errors.invalid(
                    path,
                    text,
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                );
            }
            percent
        }
    }
}
