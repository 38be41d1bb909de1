//! Pruning and defaulting: what a schema takes away from an object, and what it adds.
//!
//! Pruning drops fields that the schema does not name and says which; defaulting fills the fields that
//! are not there. A `null` that a field may not hold counts as not there. Both are idempotent.

use serde_json::{Map, Value};

use super::schema::{Additional, Kind, Schema};
use crate::registry::path::Path;

/// What every object, and every embedded one, has.
const ALWAYS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops what the schema does not name from an object, and notes the paths.
pub(crate) fn prune(schema: &Schema, object: &mut Map<String, Value>, unknown: &mut Vec<String>) {
    prune_map(schema, true, object, &Path::Root, unknown);
}

fn prune_map(
    schema: &Schema,
    is_resource: bool,
    fields: &mut Map<String, Value>,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) {
    fields.retain(|name, value| {
        if is_resource && ALWAYS.contains(&name.as_str()) {
            return true;
        }
        let at = path.field(name);
        if let Some(schema) = schema.properties.get(name) {
            prune_value(schema, value, &at, unknown);
            return true;
        }
        match &schema.additional {
            Some(Additional::Schema(schema)) => {
                prune_value(schema, value, &at, unknown);
                true
            }
            Some(Additional::Anything) => true,
            None if schema.preserves => true,
            None => {
                unknown.push(at.to_string());
                false
            }
        }
    });
}

fn prune_value(schema: &Schema, value: &mut Value, path: &Path<'_>, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            // A value of another type is for validation to refuse, whole.
            let is_map = matches!(schema.kind, Kind::Object | Kind::Any);
            if is_map && (schema.kind == Kind::Object || !schema.preserves) {
                prune_map(schema, schema.embedded, fields, path, unknown);
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_deref() {
                for (index, item) in items.iter_mut().enumerate() {
                    prune_value(schema, item, &path.index(index), unknown);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fills what is not there.
pub(crate) fn default(schema: &Schema, object: &mut Map<String, Value>) {
    for (name, schema) in &schema.properties {
        let is_absent = match object.get(name) {
            None => true,
            Some(value) => value.is_null() && !schema.nullable,
        };
        if is_absent {
            match &schema.default {
                Some(default) => {
                    object.insert(name.clone(), default.clone());
                }
                None => {
                    object.remove(name);
                }
            }
        }
    }
    if let Some(Additional::Schema(schema)) = &schema.additional
        && !schema.nullable
    {
        let is_left = |value: &Value| !value.is_null();
        match &schema.default {
            None => object.retain(|_, value| is_left(value)),
            Some(default) => object
                .values_mut()
                .filter(|value| value.is_null())
                .for_each(|value| *value = default.clone()),
        }
    }
    for (name, value) in object.iter_mut() {
        if let Some(schema) = schema.field(name) {
            default_value(schema, value);
        }
    }
}

fn default_value(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => default(schema, fields),
        Value::Array(items) => {
            if let Some(schema) = schema.items.as_deref() {
                for item in items {
                    if item.is_null()
                        && !schema.nullable
                        && let Some(default) = &schema.default
                    {
                        *item = default.clone();
                    }
                    default_value(schema, item);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn pruned(schema: &Value, value: &Value) -> (Value, Vec<String>) {
        let schema = Schema::compile(schema);
        let mut object = value.as_object().unwrap().clone();
        let mut unknown = Vec::new();
        prune(&schema, &mut object, &mut unknown);
        default(&schema, &mut object);
        (Value::Object(object), unknown)
    }

    fn check(schema: &Value, value: &Value, expected: &Value, lost: &[&str]) {
        let (found, unknown) = pruned(schema, value);
        assert_eq!(
            (&found, unknown),
            (expected, lost.iter().map(|it| (*it).to_owned()).collect())
        );
    }

    #[test]
    fn what_the_schema_does_not_name_goes() {
        let text = json!({"type": "string"});
        let spec = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": text,
                "list": {"type": "array", "items": {"type": "object", "properties": {"x": text}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": text}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"strict": {"type": "object", "properties": {"x": text}}}},
                "any": {"x-kubernetes-preserve-unknown-fields": true},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
            }},
        }});
        check(
            &spec,
            &json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "junk": 1, "spec": {"a": "x", "b": 1,
                "list": [{"x": "1", "y": 2}], "map": {"k": {"x": "1", "z": 0}}, "free": {"u": 1, "strict": {"x": "1", "y": 1}},
                "any": {"deep": [{"er": 1}]},
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": {"u": 1}, "v": 1}}}),
            &json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"a": "x",
                "list": [{"x": "1"}], "map": {"k": {"x": "1"}}, "free": {"u": 1, "strict": {"x": "1"}},
                "any": {"deep": [{"er": 1}]},
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": {}}}}),
            &[
                "junk",
                "spec.b",
                "spec.free.strict.y",
                "spec.list[0].y",
                "spec.map.k.z",
                "spec.pod.spec.u",
                "spec.pod.v",
            ],
        );
    }

    #[test]
    fn defaults_fill_what_is_not_there() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": {
            "n": {"type": "integer", "default": 3},
            "m": {"type": "integer", "nullable": true, "default": 3},
            "gone": {"type": "string"},
            "ports": {"type": "array", "items": {"type": "object", "properties": {"protocol": {"type": "string", "default": "TCP"}}}},
        }}}});
        let full = json!({"spec": {"n": 3, "m": 3}});
        check(&schema, &json!({}), &full, &[]);
        check(
            &schema,
            &json!({"spec": {"n": null, "m": null, "gone": null, "ports": [{}]}}),
            &json!({"spec": {"n": 3, "m": null, "ports": [{"protocol": "TCP"}]}}),
            &[],
        );
    }

    /// Schemas of a few fields, some with defaults, some free, some nested.
    fn schemas() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!({"type": "string"})),
            Just(json!({"type": "integer", "default": 1})),
            Just(json!({"type": "string", "nullable": true, "default": "x"})),
            Just(json!({"x-kubernetes-preserve-unknown-fields": true})),
            Just(json!({"x-kubernetes-int-or-string": true})),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let fields = prop::collection::btree_map("[abc]", inner.clone(), 0..4);
            let object = (fields, any::<bool>(), any::<bool>()).prop_map(
                |(fields, preserves, has_default)| {
                    let mut schema = json!({"type": "object", "properties": fields});
                    if preserves {
                        schema["x-kubernetes-preserve-unknown-fields"] = true.into();
                    }
                    if has_default {
                        schema["default"] = json!({});
                    }
                    schema
                },
            );
            prop_oneof![
                object,
                inner
                    .clone()
                    .prop_map(|items| json!({"type": "array", "items": items})),
                inner.prop_map(|values| json!({"type": "object", "additionalProperties": values})),
            ]
        })
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), Just(json!(1)), Just(json!("x"))];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::btree_map("[abcd]", inner.clone(), 0..4)
                    .prop_map(|map| json!(map)),
                prop::collection::vec(inner, 0..3).prop_map(Value::Array),
            ]
        })
    }

    proptest! {
        /// Twice is once, and after the first time nothing is unknown.
        #[test]
        fn pruning_and_defaulting_are_idempotent(spec in schemas(), value in values()) {
            let schema = json!({"type": "object", "properties": {"spec": spec}});
            let (once, _) = pruned(&schema, &json!({"spec": value}));
            let (twice, unknown) = pruned(&schema, &once);
            prop_assert_eq!(&twice, &once);
            prop_assert!(unknown.is_empty(), "{:?}", unknown);
        }
    }
}
