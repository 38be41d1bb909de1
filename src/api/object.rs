//! Questions about an object in its JSON form, where no Rust type is known.
//!
//! Generic verbs, selectors, owner references and tables work on every kind, also on kinds that a
//! user defined, so they read `metadata` here and never decode the whole object.

use serde_json::{Map, Value};

/// `metadata`, or `None` if it is not a map.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// A string field of `metadata`.
pub fn meta_str<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    metadata(object)?.get(field)?.as_str()
}

/// `metadata.name`, or the empty string.
pub fn name(object: &Value) -> &str {
    meta_str(object, "name").unwrap_or_default()
}

/// `metadata.namespace`, or the empty string for a cluster-scoped object.
pub fn namespace(object: &Value) -> &str {
    meta_str(object, "namespace").unwrap_or_default()
}

/// `metadata.uid`, or the empty string.
pub fn uid(object: &Value) -> &str {
    meta_str(object, "uid").unwrap_or_default()
}

/// A label's value.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    metadata(object)?.get("labels")?.get(key)?.as_str()
}

/// Whether a deletion has been asked for.
pub fn is_terminating(object: &Value) -> bool {
    meta_str(object, "deletionTimestamp").is_some()
}

/// The value at a path of plain field names, `["spec", "nodeName"]`.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter()
        .try_fold(object, |value, field| value.get(field))
}

/// The string at a path.
pub fn str_at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(object, path)?.as_str()
}

/// `metadata` for writing; an object without one gets an empty one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let entry = &mut object["metadata"];
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    match entry {
        Value::Object(map) => map,
        _ => unreachable!("it was made a map on the line above"),
    }
}

/// Removes every explicit `null` in maps, as typed decoding does: in a typed object `null` means
/// absent, and a template hash must not depend on it.
pub fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, field| !field.is_null());
            map.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_and_prunes() {
        let mut object = json!({"metadata": {"name": "a", "creationTimestamp": null, "labels": {"x": "y"}}, "list": [{"b": null}]});
        assert_eq!(
            (name(&object), namespace(&object), label(&object, "x")),
            ("a", "", Some("y"))
        );
        prune_nulls(&mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "list": [{}]})
        );
        let mut empty = json!(null);
        metadata_mut(&mut empty).insert("name".into(), json!("b"));
        assert_eq!(name(&empty), "b");
    }
}
