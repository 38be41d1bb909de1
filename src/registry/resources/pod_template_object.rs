//! PodTemplates: a template that is kept and does nothing by itself.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, pod_template};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Containers"),
    Column::text("Images"),
    Column::text("Pod Labels"),
];

impl Strategy for PodTemplate {
    fn set_defaults(&mut self) {
        pod_template::set_defaults(self.template.get_or_insert_default());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("template");
        match &self.template {
            Some(template) => pod_template::validate_pods(&path, template, errors),
            None => errors.required(&path, ""),
        }
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let template = self.template.as_ref();
        let spec = template.and_then(|template| template.spec.as_ref());
        let containers = spec.map_or(&[][..], |spec| &spec.containers);
        let metadata = template.and_then(|template| template.metadata.as_ref());
        vec![
            cell::name(&self.metadata),
            cell::container_names(containers),
            cell::images(containers),
            cell::labels(metadata.and_then(|meta| meta.labels.as_ref())),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "sample"},
            "template": {"metadata": {"labels": {"app": "sample"}},
                "spec": {"containers": [{"name": "main", "image": "hello"}]}}})
    }
}
