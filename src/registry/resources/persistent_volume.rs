//! PersistentVolumes: a directory of a worker (made by `wasmorch.dev/local`), or one that the
//! operator names with `local` or `hostPath`. Every other source is refused by name.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{access_mode, cell, volume};
use crate::api::storage::PROVISIONER;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Capacity"),
    Column::text("Access Modes"),
    Column::text("Reclaim Policy"),
    Column::text("Status"),
    Column::text("Claim"),
    Column::text("StorageClass"),
    Column::text("VolumeAttributesClass"),
    Column::text("Reason"),
    Column::text("Age"),
    Column::text("VolumeMode").wide(),
];

/// What a volume has besides its source.
const COMMON: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
const SOURCES: &[&str] = &["csi", "hostPath", "local"];

impl Strategy for PersistentVolume {
    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.persistent_volume_reclaim_policy
            .get_or_insert_with(|| "Retain".to_owned());
        spec.volume_mode
            .get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(source) = &mut spec.host_path {
            source.type_.get_or_insert_default();
        }
    }

    fn prepare_create(&mut self) {
        let status = self.status.insert(Default::default());
        status.phase = Some("Pending".to_owned());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let empty = PersistentVolumeSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        access_mode::validate(
            &path.field("accessModes"),
            spec.access_modes.as_deref(),
            errors,
        );
        access_mode::validate_amount(&path.field("capacity"), spec.capacity.as_ref(), errors);
        errors.one_of(
            &path.field("persistentVolumeReclaimPolicy"),
            spec.persistent_volume_reclaim_policy.as_deref(),
            &["Delete", "Retain"],
        );
        errors.not_honoured(
            &path.field("volumeMode"),
            spec.volume_mode.as_deref() == Some("Block"),
            "use Filesystem; guests have no block devices",
        );
        errors.not_honoured(
            &path.field("mountOptions"),
            spec.mount_options
                .as_ref()
                .is_some_and(|all| !all.is_empty()),
            "a directory has no mount options",
        );
        errors.not_honoured(
            &path.field("volumeAttributesClassName"),
            spec.volume_attributes_class_name.is_some(),
            "a directory has no attributes",
        );
        validate_source(&path, spec, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return;
        };
        let path = Path::Root.field("spec");
        let source = |spec: &PersistentVolumeSpec| {
            (spec.csi.clone(), spec.host_path.clone(), spec.local.clone())
        };
        if source(new) != source(old) {
            errors.forbidden(
                &path.field("persistentvolumesource"),
                "spec.persistentvolumesource is immutable after creation",
            );
        }
        errors.immutable(
            &path.field("volumeMode"),
            &new.volume_mode,
            &old.volume_mode,
        );
        if old.node_affinity.is_some() {
            errors.immutable(
                &path.field("nodeAffinity"),
                &new.node_affinity,
                &old.node_affinity,
            );
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let empty = PersistentVolumeSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let status = self.status.as_ref();
        let claim = spec.claim_ref.as_ref().map(|claim| {
            let namespace = claim.namespace.clone().unwrap_or_default();
            format!("{namespace}/{}", claim.name.clone().unwrap_or_default())
        });
        let text = |value: &Option<String>| Value::from(value.clone().unwrap_or_default());
        let phase = status.and_then(|status| status.phase.clone());
        let phase = match &self.metadata.deletion_timestamp {
            Some(_) => Some("Terminating".to_owned()),
            None => phase,
        };
        vec![
            cell::name(&self.metadata),
            access_mode::amount(spec.capacity.as_ref()).into(),
            access_mode::short(spec.access_modes.as_deref()).into(),
            text(&spec.persistent_volume_reclaim_policy),
            text(&phase),
            text(&claim),
            text(&spec.storage_class_name),
            "<unset>".into(),
            text(&status.and_then(|status| status.reason.clone())),
            cell::age(&self.metadata, now),
            text(&spec.volume_mode),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "sample"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/srv/sample"}}})
    }
}

/// The names of the sources that are set; there are some twenty, so they are found by their JSON.
fn sources(spec: &PersistentVolumeSpec) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::to_value(spec) else {
        return Vec::new();
    };
    let names = fields.into_iter().map(|(name, _)| name);
    names
        .filter(|name| !COMMON.contains(&name.as_str()))
        .collect()
}

fn validate_source(path: &Path<'_>, spec: &PersistentVolumeSpec, errors: &mut Errors) {
    let sources = sources(spec);
    for source in &sources {
        errors.not_honoured(
            &path.field(source),
            !SOURCES.contains(&source.as_str()),
            "use local or hostPath, or a claim of a class of wasmorch.dev/local",
        );
    }
    match sources.as_slice() {
        [] => errors.required(path, "must specify a volume type"),
        [_] => {}
        [_, others @ ..] => {
            for other in others {
                errors.forbidden(
                    &path.field(other),
                    "may not specify more than 1 volume type",
                );
            }
        }
    }
    if let Some(source) = &spec.host_path {
        let at = path.field("hostPath");
        volume::validate_host_path(&at, &source.path, errors);
        volume::validate_host_path_type(&at, source.type_.as_deref(), errors);
    }
    if let Some(source) = &spec.local {
        volume::validate_host_path(&path.field("local"), &source.path, errors);
    }
    if let Some(source) = &spec.csi {
        let at = path.field("csi");
        errors.one_of(&at.field("driver"), Some(&source.driver), &[PROVISIONER]);
        if source.volume_handle.is_empty() {
            errors.required(&at.field("volumeHandle"), "");
        }
    }
    let is_tied = spec.local.is_some() || spec.csi.is_some();
    let affinity = spec
        .node_affinity
        .as_ref()
        .and_then(|it| it.required.as_ref());
    if is_tied && affinity.is_none() {
        errors.required(
            &path.field("nodeAffinity"),
            "Local volume requires node affinity",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn sources_are_checked() {
        let spec = |source: Value| {
            let mut spec =
                json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
            json_patch::merge(&mut spec, &source);
            spec
        };
        let check = |source: Value, expected: &[&str]| {
            check::<PersistentVolume>("/spec", &spec(source), expected)
        };
        check(json!({"hostPath": {"path": "/srv"}}), &[]);
        check(
            json!({}),
            &["spec: Required value: must specify a volume type"],
        );
        check(
            json!({"local": {"path": "/srv"}}),
            &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        );
        check(
            json!({"nfs": {"server": "s", "path": "/p"}}),
            &[
                "spec.nfs: Forbidden: wasmorch does not honour this field: use local or hostPath, or a claim of a class of wasmorch.dev/local",
            ],
        );
        check(
            json!({"hostPath": {"path": "/srv/../x"}, "accessModes": ["RWX"], "capacity": {"storage": "0"}}),
            &[
                "spec.accessModes[0]: Unsupported value: \"RWX\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                "spec.hostPath.path: Invalid value: \"/srv/../x\": must not contain '..'",
            ],
        );
        check(
            json!({"csi": {"driver": "ebs", "volumeHandle": "x"}, "nodeAffinity": {"required": {"nodeSelectorTerms": []}}}),
            &[
                "spec.csi.driver: Unsupported value: \"ebs\": supported values: \"wasmorch.dev/local\"",
            ],
        );
    }
}
