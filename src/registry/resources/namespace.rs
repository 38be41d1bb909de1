//! Namespaces. `spec.finalizers` keeps a deleted one in place until its contents are gone; the
//! namespace controller empties it through `finalize`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::strategy::{NameRule, Strategy};
use super::cell;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Status"),
    Column::text("Age"),
];
pub(crate) const FIELDS: &[Selectable] = &[Selectable::field("status.phase")];

/// The label by which a namespace selector can name one namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Strategy for Namespace {
    const NAMES: NameRule = NameRule::Label;

    fn set_defaults(&mut self) {
        if let Some(name) = self.metadata.name.clone() {
            let labels = self.metadata.labels.get_or_insert_default();
            labels.insert(NAME_LABEL.to_owned(), name);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(phase("Active"));
        let finalizers = self
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
            finalizers.push("kubernetes".to_owned());
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        // Only the finalize subresource writes them.
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self, _errors: &mut Errors) {}

    fn prepare_delete(&mut self) {
        self.status.get_or_insert_default().phase = Some("Terminating".to_owned());
    }

    fn is_held(&self) -> bool {
        let finalizers = self.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        finalizers.is_some_and(|finalizers| !finalizers.is_empty())
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        vec![
            cell::name(&self.metadata),
            status.unwrap_or("Active").into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sample"}})
    }
}

fn phase(phase: &str) -> NamespaceStatus {
    NamespaceStatus {
        phase: Some(phase.to_owned()),
        ..Default::default()
    }
}
