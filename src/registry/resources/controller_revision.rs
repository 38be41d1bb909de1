//! ControllerRevisions: the templates that a StatefulSet or DaemonSet has had.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::owner;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Controller"),
    Column::integer("Revision"),
    Column::text("Age"),
];

impl Strategy for ControllerRevision {
    fn validate(&self, errors: &mut Errors) {
        errors.non_negative(&Path::Root.field("revision"), Some(self.revision));
        if self.data.as_ref().is_none_or(|data| data.0.is_null()) {
            errors.required(&Path::Root.field("data"), "data is mandatory");
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        errors.immutable(&Path::Root.field("data"), &self.data, &old.data);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let controller = owner::controller_of(&self.metadata).map(|owner| {
            let group = owner
                .api_version
                .split_once('/')
                .map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{}", owner.kind.to_lowercase(), owner.name)
        });
        vec![
            cell::name(&self.metadata),
            cell::or_none(controller.as_deref()),
            self.revision.into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "sample"},
            "revision": 1, "data": {"spec": {}}})
    }
}
