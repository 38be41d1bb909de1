//! Strategic merge patch: a merge patch that knows which lists are maps in disguise.
//!
//! `kubectl edit`, `set`, `patch`, `rollout` and client-side `apply` send it. Maps merge and `null`
//! removes, as in a merge patch; a list with a merge key is merged item by item; other lists are
//! replaced. Directives in the patch say more: `$patch: replace|delete|merge` in a map or an item,
//! `$retainKeys`, `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`.
//!
//! Which lists have a key stands in `merge_keys`, for this and for server-side apply.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::Refusal;
use crate::registry::merge_keys::{Keys, Place, Shape};

/// How a list merges.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Merge {
    /// Items are maps with this key.
    By(&'static str),
    /// A set of plain values.
    Set,
}

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// `None` if the list is replaced.
fn merge_of(place: Place<'_>, field: &str) -> Option<Merge> {
    match place.built_in_shape(field) {
        Shape::Set => Some(Merge::Set),
        Shape::Items {
            keys: Keys::BuiltIn(keys),
            ..
        } => keys.first().map(|key| Merge::By(key)),
        Shape::PatchOnly(key) => Some(Merge::By(key)),
        // Custom resources have no strategic merge patch.
        Shape::Items {
            keys: Keys::Schema(_),
            ..
        }
        | Shape::Plain
        | Shape::Atomic => None,
    }
}

/// The patched object of this kind.
pub(super) fn apply(kind: &str, object: Value, patch: &Value) -> Result<Value, Refusal> {
    let place = Place::root(kind);
    let fields = match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let Value::Object(patch) = patch else {
        return Err(Refusal::Malformed("a patch must be an object".to_owned()));
    };
    match merge_map(place, fields, patch)? {
        Some(fields) => Ok(Value::Object(fields)),
        None => Ok(Value::Object(Map::new())),
    }
}

/// What `$patch` says.
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>) -> Result<Directive, Refusal> {
    match patch.get(PATCH) {
        None => Ok(Directive::Merge),
        Some(value) => match value.as_str() {
            Some("merge") => Ok(Directive::Merge),
            Some("replace") => Ok(Directive::Replace),
            Some("delete") => Ok(Directive::Delete),
            _ => Err(Refusal::Malformed(format!("unknown patch type: {value}"))),
        },
    }
}

/// `None` if the patch deletes the map.
fn merge_map(
    place: Place<'_>,
    mut fields: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Option<Map<String, Value>>, Refusal> {
    match directive(patch)? {
        Directive::Merge => {}
        Directive::Delete => return Ok(None),
        Directive::Replace => fields.clear(),
    }
    if let Some(keys) = patch.get(RETAIN) {
        let keys = list(RETAIN, keys)?;
        fields.retain(|name, _| keys.iter().any(|key| key.as_str() == Some(name)));
    }
    for (name, value) in patch {
        if let Some(field) = name.strip_prefix(DELETE) {
            let doomed = list(name, value)?;
            if let Some(Value::Array(items)) = fields.get_mut(field) {
                items.retain(|item| !doomed.contains(item));
            }
        } else if !name.starts_with('$') {
            let old = fields.remove(name);
            if let Some(new) = merge_field(place, name, old, value)? {
                fields.insert(name.clone(), new);
            }
        }
    }
    for (name, value) in patch {
        if let Some(field) = name.strip_prefix(ORDER)
            && let Some(Value::Array(items)) = fields.get_mut(field)
        {
            sort(items, list(name, value)?, merge_of(place, field));
        }
    }
    Ok(Some(fields))
}

/// `None` if the field goes.
fn merge_field(
    place: Place<'_>,
    name: &str,
    old: Option<Value>,
    patch: &Value,
) -> Result<Option<Value>, Refusal> {
    match patch {
        Value::Null => Ok(None),
        Value::Object(patch) => {
            let fields = match old {
                Some(Value::Object(fields)) => fields,
                _ => Map::new(),
            };
            let merged = merge_map(place.inside(name), fields, patch)?;
            Ok(merged.map(Value::Object))
        }
        Value::Array(patch) => {
            let old = match old {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let merged = match merge_of(place, name) {
                None => patch.clone(),
                Some(Merge::Set) => merge_set(old, patch),
                Some(Merge::By(key)) => merge_items(place.inside(name), key, old, patch)?,
            };
            Ok(Some(Value::Array(merged)))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(Some(patch.clone())),
    }
}

fn merge_set(mut items: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    for value in patch {
        if !items.contains(value) {
            items.push(value.clone());
        }
    }
    items
}

fn merge_items(
    place: Place<'_>,
    key: &str,
    mut items: Vec<Value>,
    patch: &[Value],
) -> Result<Vec<Value>, Refusal> {
    let mut changes = Vec::with_capacity(patch.len());
    for change in patch {
        let Value::Object(change) = change else {
            return Err(Refusal::Malformed(format!(
                "an item of `{}` must be an object",
                place.field()
            )));
        };
        // An item that says only "replace" speaks of the whole list.
        if matches!(directive(change)?, Directive::Replace) && !change.contains_key(key) {
            items.clear();
        } else {
            changes.push(change);
        }
    }
    for change in changes {
        let Some(id) = change.get(key) else {
            return Err(Refusal::Malformed(format!(
                "an item of `{}` does not contain declared merge key: {key}",
                place.field()
            )));
        };
        let found = items.iter().position(|item| item.get(key) == Some(id));
        let old = match found.map(|index| items[index].take()) {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let merged = merge_map(place, old, change)?.map(Value::Object);
        match (found, merged) {
            (Some(index), Some(item)) => items[index] = item,
            (Some(index), None) => {
                items.remove(index);
            }
            (None, Some(item)) => items.push(item),
            (None, None) => {}
        }
    }
    Ok(items)
}

/// Puts items in the order that the patch lists them; an item that it does not list stays behind
/// the one that it followed.
fn sort(items: &mut Vec<Value>, order: &[Value], merge: Option<Merge>) {
    let rank = |item: &Value| {
        order.iter().position(|listed| match merge {
            Some(Merge::By(key)) => listed.get(key) == item.get(key),
            Some(Merge::Set) | None => listed == item,
        })
    };
    let mut last: Option<usize> = None;
    let mut ranked: Vec<(Option<usize>, bool, Value)> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let found = rank(&item);
        last = found.or(last);
        ranked.push((last, found.is_none(), item));
    }
    ranked.sort_by(|one, other| match one.0.cmp(&other.0) {
        Ordering::Equal => one.1.cmp(&other.1),
        unequal => unequal,
    });
    items.extend(ranked.into_iter().map(|(_, _, item)| item));
}

fn list<'a>(name: &str, value: &'a Value) -> Result<&'a [Value], Refusal> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| Refusal::Malformed(format!("`{name}` must be a list")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "takes what json! makes")]
    fn check(kind: &str, object: Value, patch: Value, expected: Value) {
        assert_eq!(apply(kind, object, &patch), Ok(expected), "{patch}");
    }

    #[test]
    fn lists_merge_by_their_keys() {
        let pod = json!({"spec": {"containers": [
            {"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}], "ports": [{"containerPort": 80}]}, {"name": "b"}]}});
        check(
            "Pod",
            pod.clone(),
            json!({"spec": {"containers": [{"name": "a", "image": "y", "env": [{"name": "L", "value": "2"}], "ports": [{"containerPort": 80, "name": "web"}]}, {"name": "c"}]}}),
            json!({"spec": {"containers": [
                {"name": "a", "image": "y", "env": [{"name": "K", "value": "1"}, {"name": "L", "value": "2"}], "ports": [{"containerPort": 80, "name": "web"}]}, {"name": "b"}, {"name": "c"}]}}),
        );
        check(
            "Pod",
            pod,
            json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "env": null, "ports": [{"$patch": "replace"}, {"containerPort": 90}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 90}]}]}}),
        );
        check(
            "Service",
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
            json!({"spec": {"ports": [{"port": 80, "name": "web"}, {"port": 443}]}}),
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30000, "name": "web"}, {"port": 443}]}}),
        );
    }

    #[test]
    fn other_lists_are_replaced() {
        check(
            "Node",
            json!({"spec": {"taints": [{"key": "a"}]}}),
            json!({"spec": {"taints": [{"key": "b"}]}}),
            json!({"spec": {"taints": [{"key": "b"}]}}),
        );
        check(
            "EndpointSlice",
            json!({"ports": [{"port": 1}]}),
            json!({"ports": [{"port": 2}]}),
            json!({"ports": [{"port": 2}]}),
        );
    }

    #[test]
    fn directives() {
        check(
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
        check(
            "ConfigMap",
            json!({"data": {"a": "1", "b": "2"}}),
            json!({"data": {"$patch": "replace", "c": "3"}}),
            json!({"data": {"c": "3"}}),
        );
        check(
            "ConfigMap",
            json!({"data": {"a": "1"}, "immutable": true}),
            json!({"data": {"$patch": "delete"}}),
            json!({"immutable": true}),
        );
        check(
            "Pod",
            json!({"metadata": {"finalizers": ["a/b", "c/d"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["e/f", "c/d"]}}),
            json!({"metadata": {"finalizers": ["c/d", "e/f"]}}),
        );
    }

    #[test]
    fn order_is_the_patchs_and_server_items_stay_in_place() {
        let items = |names: &[&str]| -> Value {
            let items: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"spec": {"containers": items}})
        };
        let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]}});
        check(
            "Pod",
            items(&["a", "server"]),
            patch,
            items(&["c", "a", "server"]),
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for patch in [
            json!({"spec": {"containers": [{"image": "x"}]}}),
            json!({"spec": {"containers": ["x"]}}),
            json!({"spec": {"$patch": "explode"}}),
            json!({"metadata": {"$retainKeys": "a"}}),
        ] {
            assert!(apply("Pod", json!({}), &patch).is_err(), "{patch}");
        }
    }

    proptest::proptest! {
        /// Without directives and merged lists it is a merge patch.
        #[test]
        fn agrees_with_a_merge_patch(object in maps(), patch in maps()) {
            let merged = super::super::merge::apply(object.clone(), &patch);
            proptest::prop_assert_eq!(apply("ConfigMap", object, &patch), Ok(merged));
        }
    }

    fn maps() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(json!(null)),
            Just(json!(1)),
            Just(json!("x")),
            Just(json!([1, 2]))
        ];
        let map = |inner| {
            proptest::collection::btree_map("[ab]", inner, 0..3).prop_map(
                |map: std::collections::BTreeMap<String, Value>| {
                    Value::Object(map.into_iter().collect())
                },
            )
        };
        let value = leaf.prop_recursive(3, 16, 4, move |inner| map(inner).boxed());
        proptest::collection::btree_map("[ab]", value, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }
}
