//! The schemas of custom resources, as their definitions have them, with what every object has.

use serde_json::{Value, json};

use crate::registry::ResourceInfo;
use crate::registry::schemas::REFERENCE;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The name of a schema, by the group read backwards: `io.example.stable.v1.CronTab`.
pub(super) fn name(row: &ResourceInfo) -> String {
    let mut words: Vec<&str> = row.group.split('.').rev().collect();
    words.extend([row.version, row.kind]);
    words.join(".")
}

/// The schema; `None` if the kind is gone.
pub(super) fn schema(row: &ResourceInfo) -> Option<Value> {
    let mut schema = row.custom_schema()?;
    let fields = schema.as_object_mut()?;
    fields.remove("x-kubernetes-validations");
    let properties = fields
        .entry("properties")
        .or_insert_with(|| json!({}))
        .as_object_mut()?;
    for name in ["apiVersion", "kind"] {
        properties.insert(name.to_owned(), json!({"type": "string"}));
    }
    properties.insert(
        "metadata".to_owned(),
        json!({
            "description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
            "$ref": format!("{REFERENCE}{OBJECT_META}"),
        }),
    );
    let kind = json!({"group": row.group, "version": row.version, "kind": row.kind});
    schema["x-kubernetes-group-version-kind"] = json!([kind]);
    Some(schema)
}
