//! The documents: for all kinds in version 2, for one group and version in version 3.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::apiserver::VERSION;
use crate::registry::schemas::{self, LIST_META};
use crate::registry::{Registry, ResourceInfo};

use super::dialect::{self, Dialect};
use super::{custom, operations};

/// A kind and the names of its schemas.
pub(super) struct Kind {
    pub(super) row: &'static ResourceInfo,
    pub(super) schema: String,
    pub(super) list: String,
}

impl Kind {
    /// Where its group and version live: `api/v1`, `apis/apps/v1`.
    pub(super) fn root(&self) -> String {
        if self.row.group.is_empty() {
            format!("api/{}", self.row.version)
        } else {
            format!("apis/{}", self.row.api_version())
        }
    }
}

/// All kinds and their schemas.
pub(super) struct Kinds {
    kinds: Vec<Kind>,
    definitions: BTreeMap<String, Value>,
}

impl Kinds {
    pub(super) fn of(registry: &Registry) -> Self {
        let (customs, rows): (Vec<_>, Vec<_>) = registry
            .resources()
            .into_iter()
            .partition(|row| row.is_custom());
        let generated = registry.schemas(&rows);
        let mut definitions = generated.definitions;
        let mut kinds = Vec::with_capacity(rows.len() + customs.len());
        for (row, schema) in rows.into_iter().zip(generated.names) {
            kinds.push(Kind {
                row,
                list: format!("{schema}List"),
                schema,
            });
        }
        for row in customs {
            let schema = custom::name(row);
            if let Some(definition) = custom::schema(row) {
                definitions.insert(schema.clone(), definition);
                kinds.push(Kind {
                    row,
                    list: format!("{schema}List"),
                    schema,
                });
            }
        }
        for kind in &kinds {
            let list = schemas::list_of(kind.row, &kind.schema);
            definitions.insert(kind.list.clone(), list);
        }
        definitions.extend(operations::further_schemas());
        Self { kinds, definitions }
    }

    /// The groups and versions.
    pub(super) fn roots(&self) -> BTreeSet<String> {
        self.kinds.iter().map(Kind::root).collect()
    }

    /// One group and version, with all that its schemas refer to.
    pub(super) fn v3(&self, root: &str) -> Value {
        let kinds: Vec<&Kind> = self
            .kinds
            .iter()
            .filter(|kind| kind.root() == root)
            .collect();
        let paths: BTreeMap<String, Value> = kinds
            .iter()
            .flat_map(|kind| operations::paths(kind, Dialect::V3))
            .collect();
        let mut names: Vec<&str> = vec![LIST_META];
        for kind in &kinds {
            names.extend([kind.schema.as_str(), kind.list.as_str()]);
        }
        names.extend(operations::FURTHER);
        let schemas: BTreeMap<&str, Value> = schemas::closure(&self.definitions, names)
            .into_iter()
            .map(|(name, schema)| (name, dialect::translate(name, schema, Dialect::V3)))
            .collect();
        json!({
            "openapi": "3.0.0",
            "info": info(),
            "paths": paths,
            "components": {"schemas": schemas},
        })
    }

    /// Everything.
    pub(super) fn v2(&self) -> Value {
        let definitions: BTreeMap<&String, Value> = self
            .definitions
            .iter()
            .map(|(name, schema)| (name, dialect::translate(name, schema, Dialect::V2)))
            .collect();
        let paths: BTreeMap<String, Value> = self
            .kinds
            .iter()
            .flat_map(|kind| operations::paths(kind, Dialect::V2))
            .collect();
        json!({
            "swagger": "2.0",
            "info": info(),
            "paths": paths,
            "definitions": definitions,
        })
    }
}

fn info() -> Value {
    json!({"title": "wasmorch", "version": VERSION})
}
