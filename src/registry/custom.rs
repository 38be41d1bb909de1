//! Custom resources: kinds that a CustomResourceDefinition adds while the server runs.
//!
//! The table of kinds is static rows plus these ([`rows`]). A row is found through the definition that
//! is stored, so it is never older than what was written, after a restart as before, and nobody has to
//! be told of a change. Objects of all such kinds are of one Rust type ([`object`]), whose rules come
//! from the compiled schema ([`schema`]): pruning and defaults ([`prune`]), validation ([`validate`]),
//! columns ([`columns`]). What a definition itself must be like is its strategy's business
//! (`resources/custom_resource_definition`) with [`structural`].
//!
//! Deliberately absent: conversion by webhook (versions differ in name only) and rules in CEL; both are
//! refused by name when a definition has them.

pub(crate) mod columns;
pub(crate) mod deprecation;
mod format;
pub(crate) mod object;
pub(crate) mod prune;
mod row;
pub(crate) mod rows;
pub(crate) mod scale;
pub(crate) mod schema;
pub(crate) mod structural;
pub(crate) mod validate;

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;

use crate::store::Stored;
use columns::Column;
use scale::ScalePaths;
use schema::Schema;

/// Where definitions are stored.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// What a row of a custom kind has beside a built-in one.
#[derive(Debug)]
pub(crate) struct Custom {
    version: ArcSwap<Version>,
}

impl Custom {
    pub(super) fn new(version: Version) -> Self {
        Self {
            version: ArcSwap::from_pointee(version),
        }
    }

    /// The row's version of its definition, as it was when the row was looked up last.
    pub(crate) fn version(&self) -> Arc<Version> {
        self.version.load_full()
    }
}

/// One served version of a kind, compiled.
#[derive(Debug)]
pub(crate) struct Version {
    /// `group/version` that objects are stored in.
    pub(crate) stored_as: String,
    /// `group/version` that this row shows.
    pub(crate) shown_as: String,
    pub(crate) kind: String,
    /// What may be said for it, which may change without the kind being another.
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    /// The status is written through its subresource only.
    pub(crate) has_status: bool,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) columns: Vec<Column>,
    /// Paths that a field selector may name, `.spec.color`.
    pub(crate) selectable: Vec<String>,
    pub(crate) is_served: bool,
    /// What whoever uses it is told, if it is deprecated.
    pub(crate) deprecation: Option<String>,
    /// The definition is being deleted: nothing new of its kind.
    pub(crate) is_terminating: bool,
    pub(crate) schema: Schema,
    definition: Option<Source>,
}

/// Where the text of a schema is: it is not kept twice.
struct Source {
    stored: Arc<Stored>,
    index: usize,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.stored.key.name, self.index)
    }
}

impl Version {
    /// Compiles one version of a stored definition.
    pub(super) fn compile(stored: &Arc<Stored>, index: usize) -> Self {
        let definition = &stored.object;
        let spec = &definition["spec"];
        let version = &spec["versions"][index];
        let group = spec["group"].as_str().unwrap_or_default();
        let named = |version: &Value| {
            let name = version["name"].as_str().unwrap_or_default();
            format!("{group}/{name}")
        };
        let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let storage = versions.iter().find(|version| version["storage"] == true);
        let subresources = &version["subresources"];
        let selectable = version["selectableFields"].as_array();
        Self {
            stored_as: named(storage.unwrap_or(version)),
            shown_as: named(version),
            kind: spec["names"]["kind"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            short_names: Vec::new(),
            categories: Vec::new(),
            has_status: subresources["status"].is_object(),
            scale: ScalePaths::of(&subresources["scale"]),
            columns: columns::of(&version["additionalPrinterColumns"]),
            selectable: selectable
                .into_iter()
                .flatten()
                .filter_map(|field| field["jsonPath"].as_str().map(str::to_owned))
                .collect(),
            is_served: version["served"] == true,
            deprecation: deprecation::warning(spec, version),
            is_terminating: definition["metadata"]["deletionTimestamp"].is_string(),
            schema: Schema::compile(&version["schema"]["openAPIV3Schema"]),
            definition: Some(Source {
                stored: Arc::clone(stored),
                index,
            }),
        }
    }

    /// The same kind after its definition has gone: nothing may be created.
    fn gone(&self) -> Self {
        Self {
            stored_as: self.stored_as.clone(),
            shown_as: self.shown_as.clone(),
            kind: self.kind.clone(),
            short_names: Vec::new(),
            categories: Vec::new(),
            has_status: self.has_status,
            scale: None,
            columns: Vec::new(),
            selectable: Vec::new(),
            is_served: false,
            deprecation: None,
            is_terminating: true,
            schema: Schema::compile(&Value::Null),
            definition: None,
        }
    }

    /// The schema as it was written; `None` if the definition has gone.
    pub(crate) fn schema_text(&self) -> Option<&Value> {
        let Source { stored, index } = self.definition.as_ref()?;
        Some(&stored.object["spec"]["versions"][*index]["schema"]["openAPIV3Schema"])
    }
}
