//! IngressClasses: which front door serves an Ingress.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Controller"),
    Column::text("Parameters"),
    Column::text("Age"),
];

impl Strategy for IngressClass {
    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let parameters = self.spec.as_ref().and_then(|spec| spec.parameters.as_ref());
        errors.not_honoured(
            &path.field("parameters"),
            parameters.is_some(),
            "the front door has no parameters; remove it",
        );
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let controller = |class: &Self| class.spec.as_ref().and_then(|s| s.controller.clone());
        let path = Path::Root.field("spec");
        errors.immutable(
            &path.field("controller"),
            &controller(self),
            &controller(old),
        );
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        vec![
            cell::name(&self.metadata),
            spec.and_then(|spec| spec.controller.clone())
                .unwrap_or_default()
                .into(),
            cell::NONE.into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "sample"},
            "spec": {"controller": "wasmorch.dev/router"}})
    }
}
