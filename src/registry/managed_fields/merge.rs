//! Lays an applied object over the live one, and takes away what its applier no longer applies.
//!
//! [`merge`] keeps everything that the applied object does not mention. [`prune`] then removes what
//! the applier had claimed before and nobody claims now: a field goes with all that is below it,
//! also with defaults that nobody owns, and an item of a list goes when nobody claims the item.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::compare::{element, index, item_shape};
use super::element::Element;
use super::set::Set;
use crate::registry::merge_keys::{Place, Root, Shape};

/// `live` with everything that `applied` says.
pub(super) fn merge<'a>(root: impl Into<Root<'a>>, live: Value, applied: &'a Value) -> Value {
    merge_value(Place::root(root), Shape::Plain, live, applied)
}

fn merge_value(place: Place<'_>, shape: Shape<'_>, live: Value, applied: &Value) -> Value {
    match (live, applied) {
        (Value::Object(mut fields), Value::Object(applied)) if shape == Shape::Plain => {
            for (name, applied) in applied {
                let live = fields.remove(name).unwrap_or_default();
                let merged = merge_value(place.inside(name), place.shape(name), live, applied);
                fields.insert(name.clone(), merged);
            }
            Value::Object(fields)
        }
        (Value::Array(live), Value::Array(applied)) => {
            Value::Array(merge_lists(place, shape, live, applied))
        }
        (_, applied) => applied.clone(),
    }
}

/// Items stand as they are applied; what only the live list has stays between its neighbours.
fn merge_lists(
    place: Place<'_>,
    shape: Shape<'_>,
    live: Vec<Value>,
    applied: &[Value],
) -> Vec<Value> {
    let (Some(wanted), Some(there)) = (index(shape, applied), index(shape, &live)) else {
        return applied.to_vec();
    };
    let shared: BTreeSet<Element> = wanted
        .keys()
        .filter(|element| there.contains_key(element))
        .cloned()
        .collect();
    let mut held: BTreeMap<Element, Value> = BTreeMap::new();
    // The live list: items of its own, and the places of the shared ones.
    let mut order = Vec::with_capacity(live.len());
    for item in live {
        match element(shape, &item).filter(|element| shared.contains(element)) {
            None => order.push((None, item)),
            Some(element) if held.contains_key(&element) => {}
            Some(element) => {
                order.push((Some(element.clone()), Value::Null));
                held.insert(element, item);
            }
        }
    }
    let mut order = order.into_iter().peekable();
    let mut merged = Vec::with_capacity(order.len() + applied.len());
    let mut done: BTreeSet<Element> = BTreeSet::new();
    for item in applied {
        let Some(element) = element(shape, item) else {
            continue;
        };
        // Own items of the live list come before the shared item that they stood before.
        while let Some((shared, _)) = order.peek() {
            match shared {
                Some(shared) if *shared == element || !done.contains(shared) => break,
                Some(_) | None => {
                    if let Some((None, item)) = order.next() {
                        merged.push(item);
                    }
                }
            }
        }
        let live = held.remove(&element).unwrap_or_default();
        merged.push(merge_value(place, item_shape(shape), live, item));
        done.insert(element);
    }
    merged.extend(
        order
            .filter(|(place, _)| place.is_none())
            .map(|(_, item)| item),
    );
    merged
}

/// Removes what `last` has and `kept` has not.
pub(super) fn prune<'a>(
    root: impl Into<Root<'a>>,
    object: &mut Value,
    last: &'a Set,
    kept: &'a Set,
) {
    if let Value::Object(fields) = object {
        prune_map(Place::root(root), fields, last, kept);
    }
}

fn prune_map(place: Place<'_>, fields: &mut Map<String, Value>, last: &Set, kept: &Set) {
    for (element, last) in &last.children {
        let Element::Field(name) = element else {
            continue;
        };
        let (shape, inner) = (place.shape(name), place.inside(name));
        let kept = kept.children.get(element);
        let is_gone = match (fields.get_mut(name), kept) {
            (Some(Value::Array(items)), kept) if !last.children.is_empty() => {
                let nothing = Set::default();
                prune_list(inner, shape, items, last, kept.unwrap_or(&nothing));
                items.is_empty() && kept.is_none()
            }
            (Some(Value::Object(fields)), Some(kept)) if shape == Shape::Plain => {
                prune_map(inner, fields, last, kept);
                false
            }
            (Some(_), None) => true,
            (Some(_), Some(_)) | (None, _) => false,
        };
        if is_gone {
            fields.remove(name);
        }
    }
}

fn prune_list(place: Place<'_>, shape: Shape<'_>, items: &mut Vec<Value>, last: &Set, kept: &Set) {
    let nothing = Set::default();
    items.retain_mut(|item| {
        let Some(element) = element(shape, item) else {
            return true;
        };
        let Some(last) = last.children.get(&element) else {
            return true;
        };
        let kept = kept.children.get(&element).unwrap_or(&nothing);
        if last.owned && !kept.owned {
            return false;
        }
        if let (Value::Object(fields), Shape::Plain) = (&mut *item, item_shape(shape)) {
            prune_map(place, fields, last, kept);
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(names: &str) -> Value {
        let items: Vec<Value> = names
            .chars()
            .map(|name| json!({"name": name.to_string()}))
            .collect();
        json!({"spec": {"containers": items}})
    }

    #[test]
    fn lists_keep_both_orders() {
        for (live, applied, expected) in [
            ("abc", "", "abc"),
            ("", "abc", "abc"),
            ("ab", "ba", "ba"),
            ("axb", "ab", "axb"),
            ("axb", "ba", "bax"),
            ("xa", "ay", "xay"),
            ("xyz", "ab", "xyzab"),
            ("abc", "c", "abc"),
        ] {
            assert_eq!(
                merge("Pod", names(live), &names(applied)),
                names(expected),
                "{live} {applied}"
            );
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "takes what json! makes")]
    fn pruned(object: Value, last: Value, kept: Value) -> Value {
        let mut object = object;
        let (last, kept) = (Set::decode(&last).unwrap(), Set::decode(&kept).unwrap());
        prune("Pod", &mut object, &last, &kept);
        object
    }

    #[test]
    fn what_nobody_claims_goes() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [
            {"name": "one", "image": "x", "policy": "default"}, {"name": "two", "probe": {"path": "/", "period": 10}}]}});
        assert_eq!(
            pruned(
                object.clone(),
                json!({"f:metadata": {"f:labels": {"f:a": {}}}}),
                json!({"f:metadata": {"f:labels": {"f:b": {}}}})
            )["metadata"],
            json!({"labels": {"b": "2"}})
        );
        assert_eq!(
            pruned(
                object.clone(),
                json!({"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}}),
                json!({"f:spec": {}, "f:metadata": {"f:name": {}}})
            )["metadata"],
            json!({})
        );
        // An item goes whole, a field with what is below it.
        let last = json!({"f:spec": {"f:containers": {"k:{\"name\":\"one\"}": {".": {}, "f:image": {}},
            "k:{\"name\":\"two\"}": {".": {}, "f:probe": {"f:path": {}}}}}});
        let kept =
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"two\"}": {".": {}, "f:name": {}}}}});
        assert_eq!(
            pruned(object, last, kept)["spec"],
            json!({"containers": [{"name": "two"}]})
        );
    }
}
