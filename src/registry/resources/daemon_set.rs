//! DaemonSets: a pod on each node that fits.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, deployment, pod_template};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::integer("Desired"),
    Column::integer("Current"),
    Column::integer("Ready"),
    Column::integer("Up-to-date"),
    Column::integer("Available"),
    Column::text("Node Selector"),
    Column::text("Age"),
    Column::text("Containers").wide(),
    Column::text("Images").wide(),
    Column::text("Selector").wide(),
];

impl Strategy for DaemonSet {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.revision_history_limit.get_or_insert(10);
        let strategy = spec.update_strategy.get_or_insert_default();
        let kind = strategy
            .type_
            .get_or_insert_with(|| "RollingUpdate".to_owned());
        if kind == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        pod_template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(DaemonSetStatus::default());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else {
            errors.required(&path, "");
            return;
        };
        for (field, value) in [
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
        ] {
            errors.non_negative(&path.field(field), value.map(i64::from));
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
        vec![
            cell::name(&self.metadata),
            status.desired_number_scheduled.into(),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or(0).into(),
            status.number_available.unwrap_or(0).into(),
            cell::labels(template.and_then(|template| template.node_selector.as_ref())),
            cell::age(&self.metadata, now),
            cell::container_names(containers),
            cell::images(containers),
            spec.map_or_else(String::new, |spec| cell::selector(&spec.selector))
                .into(),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "sample"},
            "spec": {"selector": {"matchLabels": {"app": "sample"}}, "template": {
                "metadata": {"labels": {"app": "sample"}},
                "spec": {"containers": [{"name": "main", "image": "hello"}]}}}})
    }
}

fn validate_strategy(spec_path: &Path<'_>, spec: &DaemonSetSpec, errors: &mut Errors) {
    let path = spec_path.field("updateStrategy");
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let kind = strategy.type_.as_deref();
    errors.one_of(&path.field("type"), kind, &["RollingUpdate", "OnDelete"]);
    let at = path.field("rollingUpdate");
    let Some(rolling) = &strategy.rolling_update else {
        return;
    };
    if kind == Some("OnDelete") {
        return;
    }
    let unavailable = at.field("maxUnavailable");
    let surge = at.field("maxSurge");
    let missing =
        deployment::validate_share(&unavailable, rolling.max_unavailable.as_ref(), errors);
    let extra = deployment::validate_share(&surge, rolling.max_surge.as_ref(), errors);
    deployment::validate_hundred(&unavailable, rolling.max_unavailable.as_ref(), errors);
    deployment::validate_hundred(&surge, rolling.max_surge.as_ref(), errors);
    match (missing.unwrap_or(0), extra.unwrap_or(0)) {
        (0, 0) if missing.is_some() => {
            errors.required(&unavailable, "cannot be 0 when maxSurge is 0");
        }
        (0, _) | (_, 0) => {}
        _ => {
            let rule = "may not be set when maxUnavailable is non-zero";
            errors.invalid_json(&surge, &rolling.max_surge, rule);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn an_update_must_be_able_to_go_on() {
        let rolling = |rolling: Value, expected: &[&str]| {
            let strategy = json!({"rollingUpdate": rolling});
            check::<DaemonSet>("/spec/updateStrategy", &strategy, expected);
        };
        rolling(json!({"maxUnavailable": "20%"}), &[]);
        rolling(
            json!({"maxUnavailable": 0}),
            &[
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ],
        );
        rolling(
            json!({"maxSurge": 1}),
            &[
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ],
        );
        rolling(json!({"maxSurge": "10%", "maxUnavailable": 0}), &[]);
        rolling(
            json!({"maxSurge": "101%", "maxUnavailable": 0}),
            &[
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"101%\": must not be greater than 100%",
            ],
        );
    }
}
