//! The three-way merge behind `apply`: last applied, wanted, live → a JSON merge patch.
//!
//! A field is set if the wanted object says otherwise than the live one; it is removed only if this
//! user applied it before and no longer wants it. What others own, a controller or a defaulter,
//! stays. Until the server applies for itself this stands in for it.
//!
//! A merge patch replaces lists whole, and the server's defaults inside list elements (a
//! container's `imagePullPolicy`) would make every list differ for ever. So a list stays out of the
//! patch if the user did not change it since the last apply and the live list still contains it,
//! element for element.

use serde_json::{Map, Value};

/// Where the applied object is remembered; kubectl's own.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The merge patch that brings `live` to `wanted`; `None` if there is nothing to do.
pub(super) fn three_way(last: Option<&Value>, wanted: &Value, live: &Value) -> Option<Value> {
    let empty = Map::new();
    let last = last.and_then(Value::as_object).unwrap_or(&empty);
    let wanted = wanted.as_object()?;
    let live = live.as_object().unwrap_or(&empty);
    let patch = objects(last, wanted, live);
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The object as it is remembered: without what the server or this very function put there.
pub(super) fn remembered(wanted: &Value) -> String {
    let mut copy = wanted.clone();
    if let Some(annotations) = copy
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    format!("{copy}\n")
}

/// Writes [`remembered`] into the object.
pub(super) fn remember(wanted: &mut Value) {
    let text = remembered(wanted);
    let metadata = field(wanted, "metadata");
    let annotations = field(metadata, "annotations");
    *field(annotations, LAST_APPLIED) = Value::String(text);
}

/// What was remembered in a live object.
pub(super) fn last_applied(live: &Value) -> Option<Value> {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
    serde_json::from_str(text).ok()
}

fn field<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    &mut value[name]
}

fn objects(
    last: &Map<String, Value>,
    wanted: &Map<String, Value>,
    live: &Map<String, Value>,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, wanted) in wanted {
        if let Some(change) = change(last.get(name), wanted, live.get(name)) {
            patch.insert(name.clone(), change);
        }
    }
    for name in last.keys() {
        if !wanted.contains_key(name) && live.contains_key(name) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    patch
}

fn change(last: Option<&Value>, wanted: &Value, live: Option<&Value>) -> Option<Value> {
    match (wanted, live) {
        // In a merge patch null removes, and so it does in an applied object.
        (Value::Null, live) => live.map(|_| Value::Null),
        (Value::Object(wanted), Some(Value::Object(live))) => {
            let empty = Map::new();
            let last = last.and_then(Value::as_object).unwrap_or(&empty);
            let patch = objects(last, wanted, live);
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (Value::Array(_), Some(live)) if last == Some(wanted) && contains(live, wanted) => None,
        (wanted, Some(live)) if wanted == live => None,
        (wanted, _) => Some(wanted.clone()),
    }
}

/// Whether `live` says everything that `wanted` says.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| match live.get(name) {
                Some(live) => contains(live, wanted),
                None => wanted.is_null(),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live
                    .iter()
                    .zip(wanted)
                    .all(|(live, wanted)| contains(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(last: &Value, wanted: &Value, live: &Value, patch: &Value) {
        let computed = three_way(Some(last), wanted, live);
        assert_eq!(computed.as_ref().unwrap_or(&Value::Null), patch);
        let mut result = live.clone();
        if let Some(computed) = computed {
            json_patch::merge(&mut result, &computed);
        }
        let again = three_way(Some(wanted), wanted, &result);
        assert_eq!(again, None, "applying twice changes nothing");
    }

    #[test]
    fn only_what_the_user_says_changes() {
        let nothing = json!(null);
        check(
            &json!({"a": 1}),
            &json!({"a": 1}),
            &json!({"a": 1, "b": 2}),
            &nothing,
        );
        check(
            &json!({"a": 1}),
            &json!({"a": 2}),
            &json!({"a": 1, "b": 2}),
            &json!({"a": 2}),
        );
        check(
            &json!({"a": 1}),
            &json!({}),
            &json!({"a": 1, "b": 2}),
            &json!({"a": null}),
        );
        check(&json!({"a": 1}), &json!({}), &json!({"b": 2}), &nothing);
        check(&json!({}), &json!({}), &json!({"a": 1}), &nothing);
        // Somebody else changed it: the applied value comes back.
        check(
            &json!({"a": 1}),
            &json!({"a": 1}),
            &json!({"a": 7}),
            &json!({"a": 1}),
        );
        check(
            &json!({"m": {"x": 1, "y": 1}}),
            &json!({"m": {"x": 2}}),
            &json!({"m": {"x": 1, "y": 1, "z": 1}}),
            &json!({"m": {"x": 2, "y": null}}),
        );
        check(
            &json!({}),
            &json!({"m": {"x": 1}}),
            &json!({}),
            &json!({"m": {"x": 1}}),
        );
        check(
            &json!({"a": null}),
            &json!({"a": null}),
            &json!({"b": 1}),
            &nothing,
        );
        check(
            &json!({}),
            &json!({"a": null}),
            &json!({"a": 1}),
            &json!({"a": null}),
        );
    }

    #[test]
    fn defaults_inside_lists_are_no_change() {
        let applied = json!({"list": [{"name": "a"}, {"name": "b", "ports": [1]}]});
        let live = json!({"list": [{"name": "a", "policy": "Always"}, {"name": "b", "ports": [1], "x": 1}]});
        check(&applied, &applied, &live, &json!(null));
        let changed = json!({"list": [{"name": "a"}]});
        check(&applied, &changed, &live, &changed);
        let drifted = json!({"list": [{"name": "other"}, {"name": "b", "ports": [1]}]});
        check(&applied, &applied, &drifted, &applied);
    }

    #[test]
    fn what_is_applied_is_remembered_without_itself() {
        let mut object = json!({"kind": "Pod", "metadata": {"name": "a"}});
        let original = object.clone();
        remember(&mut object);
        assert_eq!(last_applied(&object), Some(original));
        let first = object.clone();
        remember(&mut object);
        let annotations = |object: &Value| object["metadata"]["annotations"][LAST_APPLIED].clone();
        assert_eq!(
            last_applied(&object).unwrap()["metadata"]["annotations"],
            json!({})
        );
        assert!(annotations(&first).is_string());
    }
}
