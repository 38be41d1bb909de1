//! ReplicaSets: so many pods of one template.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, pod_template};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::integer("Desired"),
    Column::integer("Current"),
    Column::integer("Ready"),
    Column::text("Age"),
    Column::text("Containers").wide(),
    Column::text("Images").wide(),
    Column::text("Selector").wide(),
];
pub(crate) const FIELDS: &[Selectable] = &[Selectable {
    absent: "0",
    ..Selectable::field("status.replicas")
}];

impl Strategy for ReplicaSet {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.replicas.get_or_insert(1);
        if let Some(template) = &mut spec.template {
            pod_template::set_defaults(template);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(ReplicaSetStatus::default());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else {
            errors.required(&path, "");
            return;
        };
        errors.non_negative(&path.field("replicas"), spec.replicas.map(i64::from));
        errors.non_negative(
            &path.field("minReadySeconds"),
            spec.min_ready_seconds.map(i64::from),
        );
        let Some(template) = &spec.template else {
            errors.required(&path.field("template"), "");
            return;
        };
        pod_template::validate_replicas(&path, &spec.selector, template, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            let path = Path::Root.field("spec");
            errors.immutable(&path.field("selector"), &new.selector, &old.selector);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let status = self.status.as_ref();
        let template = spec.and_then(|spec| spec.template.as_ref()?.spec.as_ref());
        let containers = template.map_or(&[][..], |template| &template.containers);
        vec![
            cell::name(&self.metadata),
            spec.and_then(|spec| spec.replicas).unwrap_or(0).into(),
            status.map_or(0, |status| status.replicas).into(),
            status
                .and_then(|status| status.ready_replicas)
                .unwrap_or(0)
                .into(),
            cell::age(&self.metadata, now),
            cell::container_names(containers),
            cell::images(containers),
            spec.map_or_else(String::new, |spec| cell::selector(&spec.selector))
                .into(),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "sample"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "sample"}}, "template": {
                "metadata": {"labels": {"app": "sample"}},
                "spec": {"containers": [{"name": "main", "image": "hello"}]}}}})
    }
}
