//! The environment of a container: plain values, and references to ConfigMaps, Secrets and the pod.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector,
};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::container;
use crate::api::names;

/// What of a pod an environment variable or a file may show.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn validate(path: &Path<'_>, env: &[EnvVar], errors: &mut Errors) {
    for (index, variable) in env.iter().enumerate() {
        let at = path.index(index);
        if variable.name.is_empty() {
            errors.required(&at.field("name"), "");
        } else if !names::is_env_name(&variable.name) {
            errors.invalid(
                &at.field("name"),
                &variable.name,
                "a valid environment variable name must consist only of printable ASCII characters other than '='",
            );
        }
        if let Some(source) = &variable.value_from {
            let from = at.field("valueFrom");
            if variable.value.as_deref().is_some_and(|v| !v.is_empty()) {
                errors.invalid(&from, "", "may not be specified when `value` is not empty");
            }
            validate_source(&from, source, errors);
        }
    }
}

fn validate_source(path: &Path<'_>, source: &EnvVarSource, errors: &mut Errors) {
    let count = usize::from(source.field_ref.is_some())
        + usize::from(source.resource_field_ref.is_some())
        + usize::from(source.config_map_key_ref.is_some())
        + usize::from(source.secret_key_ref.is_some());
    errors.not_honoured(
        &path.field("fileKeyRef"),
        source.file_key_ref.is_some(),
        "use configMapKeyRef or secretKeyRef",
    );
    if count == 0 && source.file_key_ref.is_none() {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        );
    } else if count > 1 {
        errors.invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        );
    }
    if let Some(field) = &source.field_ref {
        validate_field_ref(&path.field("fieldRef"), field, errors);
    }
    if let Some(field) = &source.resource_field_ref {
        validate_resource_ref(&path.field("resourceFieldRef"), field, errors);
    }
    if let Some(key) = &source.config_map_key_ref {
        validate_key(&path.field("configMapKeyRef"), &key.name, &key.key, errors);
    }
    if let Some(key) = &source.secret_key_ref {
        validate_key(&path.field("secretKeyRef"), &key.name, &key.key, errors);
    }
}

fn validate_key(path: &Path<'_>, name: &str, key: &str, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.field("name"), "");
    }
    if key.is_empty() {
        errors.required(&path.field("key"), "");
    } else if !names::is_config_key(key) {
        errors.invalid(
            &path.field("key"),
            key,
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        );
    }
}

pub(super) fn validate_from(path: &Path<'_>, sources: &[EnvFromSource], errors: &mut Errors) {
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        let (field, name) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(reference), None) => ("configMapRef", &reference.name),
            (None, Some(reference)) => ("secretRef", &reference.name),
            (Some(_), Some(_)) => {
                errors.invalid(
                    &at,
                    "",
                    "may not have more than one field specified at a time",
                );
                continue;
            }
            (None, None) => {
                errors.invalid(
                    &at,
                    "",
                    "must specify one of: `configMapRef` or `secretRef`",
                );
                continue;
            }
        };
        if name.is_empty() {
            let reference = at.field(field);
            errors.required(&reference.field("name"), "");
        }
    }
}

/// A reference to a field of the pod.
pub(super) fn validate_field_ref(
    path: &Path<'_>,
    field: &ObjectFieldSelector,
    errors: &mut Errors,
) {
    let at = path.field("fieldPath");
    if field.field_path.is_empty() {
        errors.required(&at, "");
        return;
    }
    let (name, key) = match field.field_path.split_once("['") {
        Some((name, rest)) => (name, rest.strip_suffix("']")),
        None => (field.field_path.as_str(), None),
    };
    let takes_key = matches!(name, "metadata.labels" | "metadata.annotations");
    let has_key = field.field_path.contains('[');
    if !FIELDS.contains(&name) || (has_key && (!takes_key || key.is_none())) {
        errors.not_supported(&at, &field.field_path, FIELDS);
    }
}

/// A reference to a request or limit of a container.
pub(super) fn validate_resource_ref(
    path: &Path<'_>,
    field: &ResourceFieldSelector,
    errors: &mut Errors,
) {
    let at = path.field("resource");
    let resource = field.resource.as_str();
    let known = resource
        .strip_prefix("limits.")
        .or_else(|| resource.strip_prefix("requests."))
        .is_some_and(|name| container::RESOURCES.contains(&name));
    if resource.is_empty() {
        errors.required(&at, "");
    } else if !known {
        errors.not_supported(
            &at,
            resource,
            &[
                "limits.cpu",
                "limits.memory",
                "limits.ephemeral-storage",
                "requests.cpu",
                "requests.memory",
                "requests.ephemeral-storage",
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn sources_are_checked() {
        let check =
            |value, expected: &[&str]| check::<Pod>("/spec/containers/0/env", &value, expected);
        let path = "spec.containers[0].env[0].valueFrom";
        check(
            json!([{"name": "A", "value": "1"}, {"name": "A.b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}]),
            &[],
        );
        check(
            json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}]),
            &[],
        );
        check(
            json!([{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            &[&format!(
                "{path}: Invalid value: \"\": may not be specified when `value` is not empty"
            )],
        );
        check(
            json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "", "key": "a/b"}}}]),
            &[
                &format!("{path}.configMapKeyRef.name: Required value"),
                &format!(
                    "{path}.configMapKeyRef.key: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                ),
            ],
        );
        check(
            json!([{"name": "A", "valueFrom": {}}]),
            &[&format!(
                "{path}: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            )],
        );
        check(
            json!([{"name": "", "value": "1"}]),
            &["spec.containers[0].env[0].name: Required value"],
        );
    }
}
