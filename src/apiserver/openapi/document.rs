//! The documents: for all kinds in version 2, for one group and version in version 3.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::apiserver::VERSION;
use crate::apiserver::reviews::{REVIEWS, Review};
use crate::registry::schemas::{self, LIST_META, Typed};
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
    kept: Vec<Kind>,
    /// What answers and keeps nothing, each with the name of its schema.
    reviews: Vec<(&'static Review, String)>,
    definitions: BTreeMap<String, Value>,
}

impl Kinds {
    pub(super) fn of(registry: &Registry) -> Self {
        let (customs, rows): (Vec<_>, Vec<_>) = registry
            .resources()
            .into_iter()
            .partition(|row| row.is_custom());
        let rows_typed = rows.iter().map(|row| Typed::of_row(row));
        let typed: Vec<Typed> = rows_typed
            .chain(REVIEWS.iter().map(Review::typed))
            .collect();
        let mut generated = schemas::of(&typed);
        let of_reviews = generated.names.split_off(rows.len());
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
        Self {
            kept: kinds,
            reviews: REVIEWS.iter().zip(of_reviews).collect(),
            definitions,
        }
    }

    /// The groups and versions.
    pub(super) fn roots(&self) -> BTreeSet<String> {
        let reviews = self.reviews.iter().map(|(review, _)| root_of(review));
        self.kept.iter().map(Kind::root).chain(reviews).collect()
    }

    /// One group and version, with all that its schemas refer to.
    pub(super) fn v3(&self, root: &str) -> Value {
        let kinds: Vec<&Kind> = self
            .kept
            .iter()
            .filter(|kind| kind.root() == root)
            .collect();
        let mut paths: BTreeMap<String, Value> = kinds
            .iter()
            .flat_map(|kind| operations::paths(kind, Dialect::V3))
            .collect();
        let reviews = self.reviews.iter();
        let reviews = reviews.filter(|(review, _)| root_of(review) == root);
        let mut names: Vec<&str> = vec![LIST_META];
        for kind in &kinds {
            names.extend([kind.schema.as_str(), kind.list.as_str()]);
        }
        for (review, schema) in reviews {
            names.push(schema);
            paths.extend([operations::review(review, schema, Dialect::V3)]);
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
            .kept
            .iter()
            .flat_map(|kind| operations::paths(kind, Dialect::V2))
            .chain(
                self.reviews
                    .iter()
                    .map(|(review, schema)| operations::review(review, schema, Dialect::V2)),
            )
            .collect();
        json!({
            "swagger": "2.0",
            "info": info(),
            "paths": paths,
            "definitions": definitions,
        })
    }
}

/// Where a review lives; none is of the core group.
fn root_of(review: &Review) -> String {
    format!("apis/{}/{}", review.group, review.version)
}

fn info() -> Value {
    json!({"title": "wasmorch", "version": VERSION})
}
