//! StorageClasses: who makes a volume for a claim, and when.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::names;
use crate::api::storage::{DEFAULT_CLASS, PROVISIONER};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Provisioner"),
    Column::text("ReclaimPolicy"),
    Column::text("VolumeBindingMode"),
    Column::text("AllowVolumeExpansion"),
    Column::text("Age"),
];

impl Strategy for StorageClass {
    fn set_defaults(&mut self) {
        self.reclaim_policy
            .get_or_insert_with(|| "Delete".to_owned());
        self.volume_binding_mode
            .get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate(&self, errors: &mut Errors) {
        let root = Path::Root;
        let provisioner = root.field("provisioner");
        if self.provisioner.is_empty() {
            errors.required(&provisioner, "");
        } else if !names::is_qualified_name(&self.provisioner.to_lowercase()) {
            errors.invalid(&provisioner, &self.provisioner, names::QUALIFIED_NAME_RULE);
        }
        errors.one_of(
            &root.field("reclaimPolicy"),
            self.reclaim_policy.as_deref(),
            &["Delete", "Retain"],
        );
        let mode = self.volume_binding_mode.as_deref();
        errors.one_of(
            &root.field("volumeBindingMode"),
            mode,
            &["Immediate", "WaitForFirstConsumer"],
        );
        if self.provisioner == PROVISIONER {
            validate_ours(self, errors);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let root = Path::Root;
        if self.parameters != old.parameters {
            errors.forbidden(
                &root.field("parameters"),
                "updates to parameters are forbidden.",
            );
        }
        if self.provisioner != old.provisioner {
            errors.forbidden(
                &root.field("provisioner"),
                "updates to provisioner are forbidden.",
            );
        }
        if self.reclaim_policy != old.reclaim_policy {
            errors.forbidden(
                &root.field("reclaimPolicy"),
                "updates to reclaimPolicy are forbidden.",
            );
        }
        errors.immutable(
            &root.field("volumeBindingMode"),
            &self.volume_binding_mode,
            &old.volume_binding_mode,
        );
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let annotations = self.metadata.annotations.as_ref();
        let default = annotations.and_then(|all| all.get(DEFAULT_CLASS));
        let mut name = self.metadata.name.clone().unwrap_or_default();
        if default.map(String::as_str) == Some("true") {
            name.push_str(" (default)");
        }
        vec![
            name.into(),
            self.provisioner.clone().into(),
            self.reclaim_policy.clone().unwrap_or_default().into(),
            self.volume_binding_mode.clone().unwrap_or_default().into(),
            (self.allow_volume_expansion == Some(true))
                .to_string()
                .into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "sample"},
            "provisioner": PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer"})
    }
}

/// What directories on workers cannot do.
fn validate_ours(class: &StorageClass, errors: &mut Errors) {
    let root = Path::Root;
    errors.not_honoured(
        &root.field("parameters"),
        class.parameters.as_ref().is_some_and(|all| !all.is_empty()),
        "wasmorch.dev/local has no parameters",
    );
    errors.not_honoured(
        &root.field("mountOptions"),
        class
            .mount_options
            .as_ref()
            .is_some_and(|all| !all.is_empty()),
        "a directory has no mount options",
    );
    errors.not_honoured(
        &root.field("allowVolumeExpansion"),
        class.allow_volume_expansion == Some(true),
        "volumes of wasmorch.dev/local keep their size",
    );
    errors.not_honoured(
        &root.field("allowedTopologies"),
        class
            .allowed_topologies
            .as_ref()
            .is_some_and(|all| !all.is_empty()),
        "use the pod's nodeSelector or nodeAffinity",
    );
    errors.not_honoured(
        &root.field("volumeBindingMode"),
        class.volume_binding_mode.as_deref() == Some("Immediate"),
        "a directory is made where its first pod runs; use WaitForFirstConsumer",
    );
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn what_a_directory_cannot_do_is_refused() {
        check::<StorageClass>("/volumeBindingMode", &json!("WaitForFirstConsumer"), &[]);
        check::<StorageClass>(
            "/volumeBindingMode",
            &json!("Immediate"),
            &[
                "volumeBindingMode: Forbidden: wasmorch does not honour this field: a directory is made where its first pod runs; use WaitForFirstConsumer",
            ],
        );
        check::<StorageClass>(
            "/reclaimPolicy",
            &json!("Recycle"),
            &[
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ],
        );
        check::<StorageClass>("/provisioner", &json!(""), &["provisioner: Required value"]);
    }

    #[test]
    fn a_class_keeps_its_promise() {
        let old: StorageClass = serde_json::from_value(StorageClass::sample()).unwrap();
        let mut new = old.clone();
        new.reclaim_policy = Some("Retain".into());
        new.provisioner = "other".into();
        let mut errors = Errors::default();
        new.validate_update(&old, &mut errors);
        assert_eq!(errors.0.len(), 2);
    }
}
