//! Strategic merge patch: a merge patch that knows which lists are maps in disguise.
//!
//! `kubectl edit`, `set`, `patch`, `rollout` and client-side `apply` send it. Maps merge and `null`
//! removes, as in a merge patch; a list with a merge key is merged item by item; other lists are
//! replaced. Directives in the patch say more: `$patch: replace|delete|merge` in a map or an item,
//! `$retainKeys`, `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`.
//!
//! Which lists have a key stands in `merge_keys`, for this and for server-side apply.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

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
        Shape::Set { is_patched: true } => Some(Merge::Set),
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
        | Shape::Set { is_patched: false }
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
            let doomed: HashSet<&Value> = list(name, value)?.iter().collect();
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

// Lists can be as long as a body is large: items are looked up, not looked for.

fn merge_set(mut items: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    let mut known: HashSet<Value> = items.iter().cloned().collect();
    for value in patch {
        if known.insert(value.clone()) {
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
    // Where the first item with a key is; what is deleted leaves a gap until the end.
    let mut places: HashMap<Value, usize> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(id) = item.get(key) {
            places.entry(id.clone()).or_insert(index);
        }
    }
    let mut items: Vec<Option<Value>> = items.into_iter().map(Some).collect();
    for change in changes {
        let Some(id) = change.get(key) else {
            return Err(Refusal::Malformed(format!(
                "an item of `{}` does not contain declared merge key: {key}",
                place.field()
            )));
        };
        let found = places.get(id).copied();
        let old = match found.and_then(|index| items[index].take()) {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let merged = merge_map(place, old, change)?.map(Value::Object);
        match (found, merged) {
            (Some(index), Some(item)) => items[index] = Some(item),
            (Some(_), None) => {
                places.remove(id);
            }
            (None, Some(item)) => {
                places.insert(id.clone(), items.len());
                items.push(Some(item));
            }
            (None, None) => {}
        }
    }
    Ok(items.into_iter().flatten().collect())
}

/// Puts items in the order that the patch lists them; an item that it does not list stays behind
/// the one that it followed.
fn sort(items: &mut Vec<Value>, order: &[Value], merge: Option<Merge>) {
    fn id(item: &Value, merge: Option<Merge>) -> Option<&Value> {
        match merge {
            Some(Merge::By(key)) => item.get(key),
            Some(Merge::Set) | None => Some(item),
        }
    }
    let mut ranks: HashMap<Option<&Value>, usize> = HashMap::new();
    for (rank, listed) in order.iter().enumerate() {
        ranks.entry(id(listed, merge)).or_insert(rank);
    }
    let mut last: Option<usize> = None;
    let mut ranked: Vec<(Option<usize>, bool, Value)> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let found = ranks.get(&id(&item, merge)).copied();
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
mod tests;
