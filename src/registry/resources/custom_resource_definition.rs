//! CustomResourceDefinitions: kinds that users bring. What the schema in one must be like is
//! `custom::structural`'s business; here are names, versions and paths.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionCondition,
    CustomResourceDefinitionStatus, CustomResourceDefinitionVersion,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::super::custom::{deprecation, rows, scale, structural};
use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::custom_resource::UNCHECKED_RULES;
use crate::api::json_path;
use crate::api::names;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[Column::text("Name"), Column::text("Created At")];

/// Keeps a deleted definition until the objects of its kind are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Short names, or categories, of one kind.
const MOST_NAMES: u64 = 64;
const APPROVED: &str = "api-approved.kubernetes.io";

impl Strategy for CustomResourceDefinition {
    const HAS_FLOATS: bool = true;
    // A schema takes many times its text in Rust's types.
    const IS_KEPT_DECODED: bool = false;

    fn set_defaults(&mut self) {
        let names = &mut self.spec.names;
        let kind = names.kind.clone();
        names.singular.get_or_insert_with(|| kind.to_lowercase());
        names.list_kind.get_or_insert_with(|| format!("{kind}List"));
        self.spec
            .conversion
            .get_or_insert_with(|| CustomResourceConversion {
                strategy: "None".to_owned(),
                webhook: None,
            });
    }

    fn prepare_create(&mut self) {
        self.status = Some(CustomResourceDefinitionStatus::default());
        store_versions(self);
    }

    fn prepare_update(&mut self, _old: &Self) {
        store_versions(self);
    }

    fn validate(&self, errors: &mut Errors) {
        validate_names(self, errors);
        let spec = Path::Root.field("spec");
        errors.one_of(
            &spec.field("scope"),
            Some(&self.spec.scope),
            &["Cluster", "Namespaced"],
        );
        if self.spec.preserve_unknown_fields == Some(true) {
            errors.invalid(&spec.field("preserveUnknownFields"), true, "must be false");
        }
        let conversion = self.spec.conversion.as_ref();
        let strategy = conversion.map_or("None", |conversion| conversion.strategy.as_str());
        errors.not_honoured(
            &spec.field("conversion"),
            strategy == "Webhook" || conversion.is_some_and(|it| it.webhook.is_some()),
            "webhooks are not called; use the strategy None, with versions that differ in name only",
        );
        if strategy != "Webhook" {
            errors.one_of(
                &spec.field("conversion").field("strategy"),
                Some(strategy),
                &["None", "Webhook"],
            );
        }
        validate_versions(self, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let spec = Path::Root.field("spec");
        errors.immutable(&spec.field("group"), &self.spec.group, &old.spec.group);
        errors.immutable(&spec.field("scope"), &self.spec.scope, &old.spec.scope);
        let names = spec.field("names");
        errors.immutable(
            &names.field("plural"),
            &self.spec.names.plural,
            &old.spec.names.plural,
        );
        errors.immutable(
            &names.field("kind"),
            &self.spec.names.kind,
            &old.spec.names.kind,
        );
        let known: BTreeSet<&str> = self
            .spec
            .versions
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        let stored = Path::Root.field("status");
        let stored = stored.field("storedVersions");
        let versions = self
            .status
            .as_ref()
            .and_then(|status| status.stored_versions.as_ref());
        for (index, version) in versions.into_iter().flatten().enumerate() {
            if !known.contains(version.as_str()) {
                errors.invalid(
                    &stored.index(index),
                    version,
                    &format!("missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"),
                );
            }
        }
    }

    fn prepare_delete(&mut self) {
        let finalizers = self.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
            finalizers.push(CLEANUP.to_owned());
        }
        let since = self.metadata.deletion_timestamp.clone();
        let conditions = self
            .status
            .get_or_insert_default()
            .conditions
            .get_or_insert_default();
        conditions.retain(|condition| condition.type_ != "Terminating");
        conditions.push(CustomResourceDefinitionCondition {
            type_: "Terminating".to_owned(),
            status: "True".to_owned(),
            reason: Some("InstanceDeletionPending".to_owned()),
            message: Some("CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon".to_owned()),
            last_transition_time: since,
        });
    }

    fn is_held(&self) -> bool {
        // Until its deletion is marked; then the finalizer holds it.
        self.metadata.deletion_timestamp.is_none()
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let created = self.metadata.creation_timestamp.as_ref();
        let created = created.map(|Time(at)| at.to_string());
        vec![
            cell::name(&self.metadata),
            cell::or_none(created.as_deref()),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "samples.sample.example.com"},
            "spec": {"group": "sample.example.com", "scope": "Namespaced", "names": {"plural": "samples", "kind": "Sample"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}}]}})
    }
}

/// Notes the version that objects are stored in from now on.
fn store_versions(definition: &mut CustomResourceDefinition) {
    let storage = definition.spec.versions.iter().filter(|it| it.storage);
    let storage: Vec<String> = storage.map(|version| version.name.clone()).collect();
    let stored = definition
        .status
        .get_or_insert_default()
        .stored_versions
        .get_or_insert_default();
    for version in storage {
        if !stored.contains(&version) {
            stored.push(version);
        }
    }
}

fn validate_names(definition: &CustomResourceDefinition, errors: &mut Errors) {
    let spec = Path::Root.field("spec");
    let group = spec.field("group");
    if definition.spec.group.is_empty() {
        errors.required(&group, "");
    } else if !names::is_dns_subdomain(&definition.spec.group) {
        errors.invalid(&group, &definition.spec.group, names::DNS_SUBDOMAIN_RULE);
    } else if !definition.spec.group.contains('.') {
        errors.invalid(
            &group,
            &definition.spec.group,
            "should be a domain with at least one dot",
        );
    }
    let wanted = &definition.spec.names;
    let expected = format!("{}.{}", wanted.plural, definition.spec.group);
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    if name != expected {
        let path = Path::Root.field("metadata");
        errors.invalid(
            &path.field("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        );
    } else if rows::is_built_in(name) {
        let path = Path::Root.field("metadata");
        errors.invalid(&path.field("name"), name, "is the name of a built-in kind");
    }
    let path = spec.field("names");
    let lower = |text: &str| text.to_lowercase();
    let mut texts = vec![
        ("plural", wanted.plural.clone()),
        ("singular", wanted.singular.clone().unwrap_or_default()),
        ("kind", lower(&wanted.kind)),
        (
            "listKind",
            lower(wanted.list_kind.as_deref().unwrap_or_default()),
        ),
    ];
    for (field, list) in [
        ("shortNames", &wanted.short_names),
        ("categories", &wanted.categories),
    ] {
        let count = list.as_ref().map_or(0, Vec::len);
        if count as u64 > MOST_NAMES {
            errors.too_many(&path.field(field), count, MOST_NAMES);
        }
    }
    let short = wanted.short_names.iter().flatten();
    texts.extend(short.map(|name| ("shortNames", name.clone())));
    let categories = wanted.categories.iter().flatten();
    texts.extend(categories.map(|name| ("categories", name.clone())));
    for (field, text) in texts {
        if text.is_empty() && matches!(field, "plural" | "kind") {
            errors.required(&path.field(field), "");
        } else if !text.is_empty() && !names::is_dns_1035_label(&text) {
            errors.invalid(&path.field(field), &text, names::DNS_1035_RULE);
        }
    }
    if wanted.list_kind.as_deref() == Some(&*wanted.kind) {
        errors.invalid(
            &path.field("listKind"),
            &wanted.kind,
            "kind and listKind may not be the same",
        );
    }
    let is_protected = ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        definition.spec.group == *domain || definition.spec.group.ends_with(&format!(".{domain}"))
    });
    let annotations = definition.metadata.annotations.as_ref();
    if is_protected && annotations.is_none_or(|all| !all.contains_key(APPROVED)) {
        let path = Path::Root.field("metadata");
        errors.required(
            &path.field("annotations").key(APPROVED),
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        );
    }
}

fn validate_versions(definition: &CustomResourceDefinition, errors: &mut Errors) {
    let path = Path::Root.field("spec");
    let path = path.field("versions");
    let versions = &definition.spec.versions;
    if versions.iter().filter(|version| version.storage).count() != 1 {
        errors.invalid_json(
            &path,
            &versions
                .iter()
                .map(|version| &version.name)
                .collect::<Vec<_>>(),
            "must have exactly one version marked as storage version",
        );
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let at = path.index(index);
        if !names::is_dns_1035_label(&version.name) {
            errors.invalid(&at.field("name"), &version.name, names::DNS_1035_RULE);
        }
        if !seen.insert(&version.name) {
            errors.duplicate(&at.field("name"), &version.name);
        }
        let schema = version.schema.as_ref();
        let field = at.field("schema");
        match schema.and_then(|schema| schema.open_api_v3_schema.as_ref()) {
            None => errors.required(&field.field("openAPIV3Schema"), "schemas are required"),
            Some(schema) => match serde_json::to_value(schema) {
                Ok(schema) => {
                    let field = field.field("openAPIV3Schema");
                    structural::check(&schema, &field, errors);
                    if !accepts_unchecked_rules(definition) {
                        structural::check_rules(&schema, &field, errors);
                    }
                }
                Err(error) => errors.invalid(&field, "", &error.to_string()),
            },
        }
        validate_views(version, &at, errors);
        deprecation::validate(version, &at, errors);
    }
}

/// Columns, selectable fields and where the replicas are.
fn validate_views(version: &CustomResourceDefinitionVersion, at: &Path<'_>, errors: &mut Errors) {
    for (index, column) in version
        .additional_printer_columns
        .iter()
        .flatten()
        .enumerate()
    {
        let columns = at.field("additionalPrinterColumns");
        let at = columns.index(index);
        if column.name.is_empty() {
            errors.required(&at.field("name"), "");
        }
        errors.one_of(
            &at.field("type"),
            Some(&column.type_),
            &["boolean", "date", "integer", "number", "string"],
        );
        validate_path(&column.json_path, &at.field("jsonPath"), errors);
    }
    for (index, field) in version.selectable_fields.iter().flatten().enumerate() {
        let fields = at.field("selectableFields");
        validate_fields(
            &field.json_path,
            &fields.index(index).field("jsonPath"),
            "",
            errors,
        );
    }
    if let Some(scale) = version
        .subresources
        .as_ref()
        .and_then(|it| it.scale.as_ref())
    {
        let subresources = at.field("subresources");
        let at = subresources.field("scale");
        for (name, text, below) in [
            (
                "specReplicasPath",
                Some(&scale.spec_replicas_path),
                ".spec.",
            ),
            (
                "statusReplicasPath",
                Some(&scale.status_replicas_path),
                ".status.",
            ),
            ("labelSelectorPath", scale.label_selector_path.as_ref(), ""),
        ] {
            if let Some(text) = text {
                validate_fields(text, &at.field(name), below, errors);
            }
        }
    }
}

/// Whether whoever defines the kind has said to have it without its rules.
fn accepts_unchecked_rules(definition: &CustomResourceDefinition) -> bool {
    let annotations = definition.metadata.annotations.as_ref();
    let said = annotations.and_then(|all| all.get(UNCHECKED_RULES));
    said.map(String::as_str) == Some("true")
}

fn validate_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    } else if let Err(error) = json_path::Path::simple(text) {
        errors.invalid(
            path,
            text,
            &format!("must be a simple json path starting with .: {error}"),
        );
    }
}

/// A path of fields alone, below a field.
fn validate_fields(text: &str, path: &Path<'_>, below: &str, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    } else if scale::fields(text).is_none() || text.contains('[') {
        errors.invalid(path, text, "must be a simple json path starting with .");
    } else if !text.starts_with(below) {
        let below = below.trim_end_matches('.');
        errors.invalid(path, text, &format!("should be a json path under {below}"));
    }
}

#[cfg(test)]
mod tests;
