//! Volumes of a pod: the kinds that the sandbox can make, and their projections.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::env;
use crate::api::{names, quantity};

/// The volume types that a sandbox can mount.
const HONOURED: &[&str] = &[
    "emptyDir",
    "configMap",
    "secret",
    "downwardAPI",
    "projected",
    "hostPath",
    "persistentVolumeClaim",
];
/// What a `hostPath` may ask for; sockets and devices have no place in a sandbox.
const HOST_PATH_TYPES: &[&str] = &["", "Directory", "DirectoryOrCreate", "File", "FileOrCreate"];
const DEFAULT_MODE: i32 = 0o644;

pub(super) fn set_defaults(volume: &mut Volume) {
    if HONOURED.iter().all(|source| !has(volume, source)) && other_sources(volume).is_empty() {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(DEFAULT_MODE);
        source.items.iter_mut().flatten().for_each(default_file);
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(DEFAULT_MODE);
        for projection in source.sources.iter_mut().flatten() {
            if let Some(token) = &mut projection.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
        }
        let projections = source.sources.iter_mut().flatten();
        projections
            .filter_map(|projection| projection.downward_api.as_mut()?.items.as_mut())
            .flatten()
            .for_each(default_file);
    }
}

fn default_file(file: &mut DownwardAPIVolumeFile) {
    if let Some(field) = &mut file.field_ref {
        field.api_version.get_or_insert_with(|| "v1".to_owned());
    }
}

fn has(volume: &Volume, source: &str) -> bool {
    match source {
        "emptyDir" => volume.empty_dir.is_some(),
        "configMap" => volume.config_map.is_some(),
        "secret" => volume.secret.is_some(),
        "downwardAPI" => volume.downward_api.is_some(),
        "projected" => volume.projected.is_some(),
        "hostPath" => volume.host_path.is_some(),
        "persistentVolumeClaim" => volume.persistent_volume_claim.is_some(),
        _ => false,
    }
}

/// The types that are set and not honoured; there are some thirty, so they are found by their JSON.
fn other_sources(volume: &Volume) -> Vec<String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(volume) else {
        return Vec::new();
    };
    fields
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name != "name" && !HONOURED.contains(&name.as_str()))
        .collect()
}

pub(super) fn validate(path: &Path<'_>, volumes: &[Volume], errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = path.index(index);
        if volume.name.is_empty() {
            errors.required(&at.field("name"), "");
        } else if !names::is_dns_label(&volume.name) {
            errors.invalid(&at.field("name"), &volume.name, names::DNS_LABEL_RULE);
        } else if !seen.insert(&volume.name) {
            errors.duplicate(&at.field("name"), &volume.name);
        }
        validate_source(&at, volume, errors);
    }
}

fn validate_source(path: &Path<'_>, volume: &Volume, errors: &mut Errors) {
    for source in other_sources(volume) {
        errors.not_honoured(
            &path.field(&source),
            true,
            "use emptyDir, configMap, secret, downwardAPI, projected, hostPath or persistentVolumeClaim",
        );
    }
    let honoured = HONOURED.iter().filter(|source| has(volume, source));
    for source in honoured.skip(1) {
        errors.forbidden(
            &path.field(source),
            "may not specify more than 1 volume type",
        );
    }
    if let Some(source) = &volume.host_path {
        let at = path.field("hostPath");
        validate_host_path(&at, &source.path, errors);
        validate_host_path_type(&at, source.type_.as_deref(), errors);
    }
    if let Some(source) = &volume.persistent_volume_claim
        && !names::is_dns_subdomain(&source.claim_name)
    {
        let at = path.field("persistentVolumeClaim");
        let at = at.field("claimName");
        if source.claim_name.is_empty() {
            errors.required(&at, "");
        } else {
            errors.invalid(&at, &source.claim_name, names::DNS_SUBDOMAIN_RULE);
        }
    }
    if let Some(source) = &volume.empty_dir {
        let at = path.field("emptyDir");
        let medium = source.medium.as_deref();
        errors.one_of(&at.field("medium"), medium, &["", "Memory"]);
    }
    if let Some(limit) = volume
        .empty_dir
        .as_ref()
        .and_then(|source| source.size_limit.as_ref())
        && quantity::units(limit).map_or(true, |units| units < 0)
    {
        let at = path.field("emptyDir");
        errors.invalid(
            &at.field("sizeLimit"),
            &limit.0,
            "must be a quantity greater than or equal to 0",
        );
    }
    if let Some(source) = &volume.config_map {
        let at = path.field("configMap");
        if source.name.is_empty() {
            errors.required(&at.field("name"), "");
        }
        validate_mode(&at.field("defaultMode"), source.default_mode, errors);
        validate_items(&at.field("items"), source.items.as_deref(), errors);
    }
    if let Some(source) = &volume.secret {
        let at = path.field("secret");
        if source.secret_name.as_deref().is_none_or(str::is_empty) {
            errors.required(&at.field("secretName"), "");
        }
        validate_mode(&at.field("defaultMode"), source.default_mode, errors);
        validate_items(&at.field("items"), source.items.as_deref(), errors);
    }
    if let Some(source) = &volume.downward_api {
        let at = path.field("downwardAPI");
        validate_mode(&at.field("defaultMode"), source.default_mode, errors);
        validate_files(&at.field("items"), source.items.as_deref(), errors);
    }
    if let Some(source) = &volume.projected {
        let at = path.field("projected");
        validate_mode(&at.field("defaultMode"), source.default_mode, errors);
        let sources = at.field("sources");
        for (index, projection) in source.sources.iter().flatten().enumerate() {
            validate_projection(&sources.index(index), projection, errors);
        }
    }
}

/// An absolute path of the host that says where it leads.
pub(super) fn validate_host_path(path: &Path<'_>, text: &str, errors: &mut Errors) {
    let at = path.field("path");
    if text.is_empty() {
        errors.required(&at, "");
    } else if !text.starts_with('/') {
        errors.invalid(&at, text, "must be an absolute path");
    } else if text.split('/').any(|part| part == "..") {
        errors.invalid(&at, text, "must not contain '..'");
    }
}

pub(super) fn validate_host_path_type(path: &Path<'_>, text: Option<&str>, errors: &mut Errors) {
    errors.one_of(&path.field("type"), text, HOST_PATH_TYPES);
}

fn validate_projection(path: &Path<'_>, projection: &VolumeProjection, errors: &mut Errors) {
    for (field, present) in [
        (
            "clusterTrustBundle",
            projection.cluster_trust_bundle.is_some(),
        ),
        ("podCertificate", projection.pod_certificate.is_some()),
    ] {
        errors.not_honoured(
            &path.field(field),
            present,
            "project configMap, secret, downwardAPI or serviceAccountToken",
        );
    }
    if let Some(source) = &projection.config_map {
        let at = path.field("configMap");
        if source.name.is_empty() {
            errors.required(&at.field("name"), "");
        }
        validate_items(&at.field("items"), source.items.as_deref(), errors);
    }
    if let Some(source) = &projection.secret {
        let at = path.field("secret");
        if source.name.is_empty() {
            errors.required(&at.field("name"), "");
        }
        validate_items(&at.field("items"), source.items.as_deref(), errors);
    }
    if let Some(source) = &projection.downward_api {
        let at = path.field("downwardAPI");
        validate_files(&at.field("items"), source.items.as_deref(), errors);
    }
    if let Some(source) = &projection.service_account_token {
        let at = path.field("serviceAccountToken");
        validate_token(&at, source, errors);
    }
}

fn validate_token(path: &Path<'_>, source: &ServiceAccountTokenProjection, errors: &mut Errors) {
    let at = path.field("expirationSeconds");
    match source.expiration_seconds {
        Some(seconds) if seconds < 600 => errors.invalid(
            &at,
            seconds,
            "may not specify a duration less than 10 minutes",
        ),
        Some(seconds) if seconds > 1 << 32 => errors.invalid(
            &at,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ),
        Some(_) | None => {}
    }
    validate_relative(&path.field("path"), &source.path, errors);
}

fn validate_items(path: &Path<'_>, items: Option<&[KeyToPath]>, errors: &mut Errors) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let at = path.index(index);
        if item.key.is_empty() {
            errors.required(&at.field("key"), "");
        }
        validate_mode(&at.field("mode"), item.mode, errors);
        validate_relative(&at.field("path"), &item.path, errors);
    }
}

fn validate_files(path: &Path<'_>, files: Option<&[DownwardAPIVolumeFile]>, errors: &mut Errors) {
    for (index, file) in files.unwrap_or_default().iter().enumerate() {
        let at = path.index(index);
        validate_relative(&at.field("path"), &file.path, errors);
        validate_mode(&at.field("mode"), file.mode, errors);
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(field), None) => {
                env::validate_field_ref(&at.field("fieldRef"), field, errors);
            }
            (None, Some(field)) => {
                env::validate_resource_ref(&at.field("resourceFieldRef"), field, errors);
            }
            (Some(_), Some(_)) => errors.invalid(
                &at,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (None, None) => {
                errors.required(&at, "one of fieldRef and resourceFieldRef is required");
            }
        }
    }
}

fn validate_mode(path: &Path<'_>, mode: Option<i32>, errors: &mut Errors) {
    if let Some(mode) = mode
        && !(0..=0o777).contains(&mode)
    {
        errors.invalid(
            path,
            mode,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

/// A path inside a volume.
fn validate_relative(path: &Path<'_>, text: &str, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    } else if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    } else if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// A container's mounts, given the names of the pod's volumes.
pub(super) fn validate_mounts(
    path: &Path<'_>,
    mounts: &[VolumeMount],
    volumes: &[Volume],
    errors: &mut Errors,
) {
    let mut seen = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = path.index(index);
        if mount.name.is_empty() {
            errors.required(&at.field("name"), "");
        } else if !volumes.iter().any(|volume| volume.name == mount.name) {
            errors.missing(&at.field("name"), &mount.name);
        }
        let mount_path = at.field("mountPath");
        if mount.mount_path.is_empty() {
            errors.required(&mount_path, "");
        } else if !mount.mount_path.starts_with('/') {
            errors.invalid(&mount_path, &mount.mount_path, "must be an absolute path");
        } else if !seen.insert(mount.mount_path.trim_end_matches('/')) {
            errors.invalid(&mount_path, &mount.mount_path, "must be unique");
        }
        if let Some(sub_path) = mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
            validate_relative(&at.field("subPath"), sub_path, errors);
        }
        let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
        if !expression.is_empty() {
            let has_both = mount
                .sub_path
                .as_deref()
                .is_some_and(|path| !path.is_empty());
            if has_both {
                errors.invalid(
                    &at.field("subPathExpr"),
                    expression,
                    "subPathExpr and subPath are mutually exclusive",
                );
            }
            validate_relative(&at.field("subPathExpr"), expression, errors);
        }
        errors.not_honoured(
            &at.field("mountPropagation"),
            mount
                .mount_propagation
                .as_deref()
                .is_some_and(|p| p != "None"),
            "remove it; volumes of a sandbox have no mounts below them",
        );
        errors.not_honoured(
            &at.field("recursiveReadOnly"),
            mount
                .recursive_read_only
                .as_deref()
                .is_some_and(|r| r != "Disabled"),
            "use readOnly; volumes of a sandbox have no mounts below them",
        );
    }
}

#[cfg(test)]
mod tests;
