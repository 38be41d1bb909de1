//! PersistentVolumeClaims: storage that outlives pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{access_mode, cell};
use crate::api::names;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Status"),
    Column::text("Volume"),
    Column::text("Capacity"),
    Column::text("Access Modes"),
    Column::text("StorageClass"),
    Column::text("VolumeAttributesClass"),
    Column::text("Age"),
    Column::text("VolumeMode").wide(),
];

impl Strategy for PersistentVolumeClaim {
    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.volume_mode
            .get_or_insert_with(|| "Filesystem".to_owned());
    }

    fn prepare_create(&mut self) {
        let status = self.status.insert(Default::default());
        status.phase = Some("Pending".to_owned());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let empty = PersistentVolumeClaimSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        access_mode::validate(
            &path.field("accessModes"),
            spec.access_modes.as_deref(),
            errors,
        );
        let resources = path.field("resources");
        let requests = spec.resources.as_ref().and_then(|it| it.requests.as_ref());
        access_mode::validate_amount(&resources.field("requests"), requests, errors);
        let class = spec.storage_class_name.as_deref().unwrap_or_default();
        if !class.is_empty() && !names::is_dns_subdomain(class) {
            errors.invalid(
                &path.field("storageClassName"),
                class,
                names::DNS_SUBDOMAIN_RULE,
            );
        }
        for (field, present, hint) in [
            (
                "volumeMode",
                spec.volume_mode.as_deref() == Some("Block"),
                "use Filesystem; guests have no block devices",
            ),
            (
                "dataSource",
                spec.data_source.is_some(),
                "volumes begin empty",
            ),
            (
                "dataSourceRef",
                spec.data_source_ref.is_some(),
                "volumes begin empty",
            ),
            (
                "volumeAttributesClassName",
                spec.volume_attributes_class_name.is_some(),
                "a directory has no attributes",
            ),
        ] {
            errors.not_honoured(&path.field(field), present, hint);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        let path = Path::Root.field("spec");
        let is_unbound = old.volume_name.as_deref().is_none_or(str::is_empty);
        let mut expected = old.clone();
        // The volume is found after the claim is made, and so may a first default class be.
        if is_unbound {
            expected.volume_name.clone_from(&new.volume_name);
        }
        if old.storage_class_name.is_none() {
            expected
                .storage_class_name
                .clone_from(&new.storage_class_name);
        }
        let sizes = |spec: &PersistentVolumeClaimSpec| spec.resources.clone();
        if sizes(new) != sizes(&expected) {
            errors.forbidden(
                &path.field("resources"),
                "wasmorch does not resize volumes; make a new claim",
            );
            expected.resources.clone_from(&new.resources);
        }
        if *new != expected {
            errors.forbidden(
                &path,
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            );
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let empty = PersistentVolumeClaimSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let status = self.status.as_ref();
        let phase = match &self.metadata.deletion_timestamp {
            Some(_) => Some("Terminating".to_owned()),
            None => status.and_then(|status| status.phase.clone()),
        };
        let text = |value: &Option<String>| Value::from(value.clone().unwrap_or_default());
        let is_bound = spec
            .volume_name
            .as_ref()
            .is_some_and(|name| !name.is_empty());
        let bound = |text: String| Value::from(if is_bound { text } else { String::new() });
        let capacity = status.and_then(|status| status.capacity.as_ref());
        let modes = status.and_then(|status| status.access_modes.as_deref());
        vec![
            cell::name(&self.metadata),
            text(&phase),
            text(&spec.volume_name),
            bound(access_mode::amount(capacity)),
            bound(access_mode::short(modes)),
            text(&spec.storage_class_name),
            "<unset>".into(),
            cell::age(&self.metadata, now),
            text(&spec.volume_mode),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "sample"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn sample() -> PersistentVolumeClaim {
        serde_json::from_value(PersistentVolumeClaim::sample()).unwrap()
    }

    #[test]
    fn what_is_missing_or_not_honoured_is_said() {
        check::<PersistentVolumeClaim>(
            "/spec",
            &json!({}),
            &[
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources.requests[storage]: Required value",
            ],
        );
        check::<PersistentVolumeClaim>("/spec/storageClassName", &json!(""), &[]);
        check::<PersistentVolumeClaim>(
            "/spec/volumeMode",
            &json!("Block"),
            &[
                "spec.volumeMode: Forbidden: wasmorch does not honour this field: use Filesystem; guests have no block devices",
            ],
        );
        check::<PersistentVolumeClaim>(
            "/spec/accessModes",
            &json!(["ReadWriteOncePod"]),
            &[
                "spec.accessModes[0]: Forbidden: wasmorch does not honour this field: use ReadWriteOnce; pods of the same node are not kept apart",
            ],
        );
    }

    #[test]
    fn a_claim_changes_once() {
        let judge = |change: Value, old: &PersistentVolumeClaim| {
            let mut new = serde_json::to_value(old).unwrap();
            json_patch::merge(&mut new, &json!({"spec": change}));
            let new: PersistentVolumeClaim = serde_json::from_value(new).unwrap();
            let mut errors = Errors::default();
            new.validate_update(old, &mut errors);
            errors.0.len()
        };
        let mut bound = sample();
        assert_eq!(judge(json!({"volumeName": "v"}), &bound), 0);
        assert_eq!(judge(json!({"storageClassName": "local"}), &bound), 0);
        assert_eq!(judge(json!({"accessModes": ["ReadWriteMany"]}), &bound), 1);
        let spec = bound.spec.as_mut().unwrap();
        spec.volume_name = Some("v".into());
        spec.storage_class_name = Some("local".into());
        assert_eq!(judge(json!({"volumeName": "w"}), &bound), 1);
        assert_eq!(judge(json!({"storageClassName": "other"}), &bound), 1);
        assert_eq!(
            judge(
                json!({"resources": {"requests": {"storage": "2Gi"}}}),
                &bound
            ),
            1
        );
    }
}
