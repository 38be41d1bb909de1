//! Metadata: what the server owns of it, and the rules for the rest.
//!
//! Server-owned fields (uid, times, generation, resourceVersion, deletion) are ignored in what a
//! client sends and set here. `managedFields` is taken out here and put in by `managed_fields`, which
//! knows who writes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use super::field_error::Errors;
use super::path::Path;
use super::strategy::NameRule;
use crate::api::names;
use crate::ids;

/// The room that `generateName` leaves for the suffix, within a DNS label.
const GENERATED_BASE: usize = 58;
const ANNOTATIONS_LIMIT: usize = 256 << 10;

/// Makes the metadata of a new object; `generation` says whether the kind counts changes of its spec.
pub(crate) fn prepare_create(meta: &mut ObjectMeta, now: Timestamp, generation: bool) {
    meta.uid = Some(ids::uid());
    meta.creation_timestamp = Some(Time(now));
    meta.generation = generation.then_some(1);
    meta.resource_version = None;
    meta.self_link = None;
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.managed_fields = None;
    drop_empty(meta);
}

/// Copies what the server owns from the stored object.
pub(crate) fn prepare_update(meta: &mut ObjectMeta, old: &ObjectMeta) {
    meta.name.clone_from(&old.name);
    meta.namespace.clone_from(&old.namespace);
    meta.generate_name.clone_from(&old.generate_name);
    meta.uid.clone_from(&old.uid);
    meta.creation_timestamp.clone_from(&old.creation_timestamp);
    meta.generation = old.generation;
    meta.resource_version.clone_from(&old.resource_version);
    meta.self_link = None;
    meta.deletion_timestamp.clone_from(&old.deletion_timestamp);
    meta.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    meta.managed_fields = None;
    drop_empty(meta);
}

/// Empty maps and lists are absent, as in Kubernetes' own encoding: an update must not differ by them.
fn drop_empty(meta: &mut ObjectMeta) {
    meta.labels.take_if(|labels| labels.is_empty());
    meta.annotations
        .take_if(|annotations| annotations.is_empty());
    meta.finalizers.take_if(|finalizers| finalizers.is_empty());
    meta.owner_references.take_if(|owners| owners.is_empty());
    meta.generate_name.take_if(|name| name.is_empty());
}

/// A name for `generateName`, new on each call.
pub(crate) fn generated_name(base: &str) -> String {
    let end = base
        .char_indices()
        .map(|(index, c)| index + c.len_utf8())
        .take_while(|end| *end <= GENERATED_BASE)
        .last()
        .unwrap_or(0);
    format!("{}{}", &base[..end], ids::name_suffix())
}

/// The rules for what a user writes.
pub(crate) fn validate(meta: &ObjectMeta, rule: NameRule, errors: &mut Errors) {
    let path = Path::Root.field("metadata");
    let name = meta.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        errors.required(&path.field("name"), "name or generateName is required");
    } else if let Some(complaint) = rule.complaint(name) {
        let too_long = format!("must be no more than {} characters", rule.limit());
        let detail = if name.len() > rule.limit() {
            &too_long
        } else {
            complaint
        };
        errors.invalid(&path.field("name"), name, detail);
    }
    if let Some(labels) = &meta.labels {
        validate_labels(&path.field("labels"), labels, errors);
    }
    if let Some(annotations) = &meta.annotations {
        validate_annotations(&path.field("annotations"), annotations, errors);
    }
    let finalizers = path.field("finalizers");
    for (index, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        if !names::is_qualified_name(finalizer) {
            errors.invalid(
                &finalizers.index(index),
                finalizer,
                names::QUALIFIED_NAME_RULE,
            );
        }
    }
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    validate_owners(&path.field("ownerReferences"), owners, errors);
}

/// The rules for a change of metadata.
pub(crate) fn validate_update(new: &ObjectMeta, old: &ObjectMeta, errors: &mut Errors) {
    if old.deletion_timestamp.is_none() {
        return;
    }
    let had = old.finalizers.as_deref().unwrap_or_default();
    let added: Vec<&String> = new
        .finalizers
        .iter()
        .flatten()
        .filter(|finalizer| !had.contains(finalizer))
        .collect();
    if !added.is_empty() {
        let path = Path::Root.field("metadata");
        errors.forbidden(
            &path.field("finalizers"),
            &format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            ),
        );
    }
}

pub(crate) fn validate_labels(
    path: &Path<'_>,
    labels: &BTreeMap<String, String>,
    errors: &mut Errors,
) {
    for (key, value) in labels {
        if !names::is_qualified_name(key) {
            errors.invalid(path, key, names::QUALIFIED_NAME_RULE);
        }
        if value.len() > 63 {
            errors.invalid(path, value, "must be no more than 63 characters");
        } else if !names::is_label_value(value) {
            errors.invalid(path, value, names::LABEL_VALUE_RULE);
        }
    }
}

pub(crate) fn validate_annotations(
    path: &Path<'_>,
    annotations: &BTreeMap<String, String>,
    errors: &mut Errors,
) {
    let mut size = 0;
    for (key, value) in annotations {
        // Annotation keys may be written in upper case; the rule is that of their lower case.
        if !names::is_qualified_name(&key.to_lowercase()) {
            errors.invalid(path, key, names::QUALIFIED_NAME_RULE);
        }
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_LIMIT {
        errors.too_long(path, ANNOTATIONS_LIMIT);
    }
}

fn validate_owners(path: &Path<'_>, owners: &[OwnerReference], errors: &mut Errors) {
    let mut controllers = 0;
    for (index, owner) in owners.iter().enumerate() {
        let at = path.index(index);
        for (field, value) in [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                errors.required(&at.field(field), "");
            }
        }
        controllers += usize::from(owner.controller == Some(true));
    }
    if controllers > 1 {
        errors.invalid(
            path,
            controllers,
            "Only one reference can have Controller set to true",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label() {
        assert!(generated_name("web-").starts_with("web-"));
        assert_eq!(generated_name(&"a".repeat(100)).len(), 63);
        assert_eq!(generated_name(&"é".repeat(100)).len(), 63);
    }

    #[test]
    fn every_mistake_is_named() {
        let meta: ObjectMeta = serde_json::from_value(serde_json::json!({
            "name": "Web", "labels": {"a b": "x/y"}, "annotations": {"/": ""}, "finalizers": ["-"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "", "controller": true},
                {"apiVersion": "v1", "kind": "Pod", "name": "b", "uid": "2", "controller": true}],
        }))
        .unwrap();
        let mut errors = Errors::default();
        validate(&meta, NameRule::Subdomain, &mut errors);
        let fields: Vec<&str> = errors.0.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "metadata.name",
                "metadata.labels",
                "metadata.labels",
                "metadata.annotations",
                "metadata.finalizers[0]",
                "metadata.ownerReferences[0].uid",
                "metadata.ownerReferences",
            ]
        );
    }
}
