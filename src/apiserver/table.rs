//! `Table` and `PartialObjectMetadata`: what `kubectl get` prints, made from the registry's columns.
//!
//! Printing belongs to the server: clients know no kinds. Cells come from the kind's row; here they
//! are only put into their frame.

use serde_json::{Value, json};

use crate::registry::{Registry, ResourceInfo};
use crate::store::Stored;

use super::error::Error;
use super::query::Query;

/// `includeObject`: what stands beside the cells of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub(crate) fn of(query: &Query) -> Result<Self, Error> {
        match query.get("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("Object") => Ok(Self::Object),
            Some("None") => Ok(Self::None),
            Some(other) => Err(Error::BadRequest(format!(
                "unrecognized includeObject value: \"{other}\""
            ))),
        }
    }
}

/// A table without rows. Only the first event of a watch carries the column definitions.
pub(crate) fn head(resource: &ResourceInfo, version: &str, with_columns: bool) -> Value {
    let columns: Vec<Value> = if !with_columns {
        Vec::new()
    } else if let Some(columns) = resource.custom_columns() {
        columns
    } else {
        resource
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                json!({
                    "name": column.name,
                    "type": column.kind,
                    "format": if index == 0 && column.name == "Name" { "name" } else { "" },
                    "description": "",
                    "priority": column.priority,
                })
            })
            .collect()
    };
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": {},
        "columnDefinitions": columns,
        "rows": [],
    })
}

/// One row.
pub(crate) fn row(
    registry: &Registry,
    resource: &'static ResourceInfo,
    stored: &Stored,
    include: Include,
) -> Value {
    let mut row = json!({"cells": registry.cells(resource, stored)});
    match include {
        Include::None => {}
        Include::Metadata => {
            row["object"] = partial(stored, "v1");
            // No column shows who owns what, and it outweighs the rest of the row.
            if let Some(metadata) = row["object"]["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
        }
        Include::Object => row["object"] = stored.object.clone(),
    }
    row
}

/// An object's metadata alone.
pub(crate) fn partial(stored: &Stored, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": stored.object.get("metadata"),
    })
}
