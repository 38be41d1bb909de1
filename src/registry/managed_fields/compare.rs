//! Which fields an object has, and which of them differ between two versions of it.
//!
//! Two questions with one answer each: [`fields_of`] is what an applier claims by its manifest;
//! [`compare`] is what a writer has changed. Kubernetes' tables differ in one point that shows on
//! the wire and is kept: a writer also owns the maps and lists that it brought into being (`.`), an
//! applier only the items of lists.
//!
//! Every list is walked once, through an index of its keys.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::Element;
use super::set::Set;
use crate::registry::merge_keys::{Place, Root, Shape};

/// Maps and lists that Kubernetes' types always have, so that nobody brings them into being.
const ALWAYS: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "template",
    "strategy",
    "containers",
    "resources",
    "loadBalancer",
];

/// A list as a map, in order of its keys; `None` if it is one value, by its shape or because an
/// item has no key.
pub(super) fn index<'a>(
    shape: Shape<'_>,
    items: &'a [Value],
) -> Option<BTreeMap<Element, &'a Value>> {
    if !matches!(shape, Shape::Set { .. } | Shape::Items { .. }) {
        return None;
    }
    let mut index = BTreeMap::new();
    for item in items {
        // Of items with one key the first counts, as for whoever looks them up.
        index.entry(element(shape, item)?).or_insert(item);
    }
    Some(index)
}

/// The step to an item; `None` if there is none: the list is one value, or the item lacks a key.
pub(super) fn element(shape: Shape<'_>, item: &Value) -> Option<Element> {
    match shape {
        Shape::Set { .. } => Some(Element::of_value(item)),
        Shape::Items { keys, .. } => Element::of_item(keys, item),
        Shape::Plain | Shape::Atomic | Shape::PatchOnly(_) => None,
    }
}

/// How the items of a list of this shape merge.
pub(super) fn item_shape(shape: Shape<'_>) -> Shape<'static> {
    match shape {
        Shape::Items { atomic: false, .. } => Shape::Plain,
        Shape::Items { atomic: true, .. }
        | Shape::Set { .. }
        | Shape::Plain
        | Shape::Atomic
        | Shape::PatchOnly(_) => Shape::Atomic,
    }
}

/// The fields that an applied object claims.
pub(super) fn fields_of<'a>(root: impl Into<Root<'a>>, applied: &'a Value) -> Set {
    let mut set = claimed(Place::root(root), Shape::Plain, applied);
    set.owned = false;
    set
}

fn claimed(place: Place<'_>, shape: Shape<'_>, value: &Value) -> Set {
    match (value, shape) {
        (Value::Object(fields), Shape::Plain) if !fields.is_empty() => {
            let mut set = Set::default();
            for (name, value) in fields {
                let child = claimed(place.inside(name), place.shape(name), value);
                set.put(Element::Field(name.clone()), child);
            }
            set
        }
        (Value::Array(items), shape) if !items.is_empty() => {
            let Some(index) = index(shape, items) else {
                return Set::leaf();
            };
            let mut set = Set::default();
            for (element, item) in index {
                let mut child = claimed(place, item_shape(shape), item);
                child.owned = true;
                set.put(element, child);
            }
            set
        }
        _ => Set::leaf(),
    }
}

/// Why items of an applied object cannot be told apart, if they cannot.
pub(super) fn complaint(place: Place<'_>, value: &Value, path: &str) -> Option<String> {
    let fields = value.as_object()?;
    fields.iter().find_map(|(name, value)| {
        let (shape, path) = (place.shape(name), format!("{path}.{name}"));
        let inner = place.inside(name);
        match (value, shape) {
            (Value::Object(_), Shape::Plain) => complaint(inner, value, &path),
            (Value::Array(items), Shape::Set { .. } | Shape::Items { .. }) => {
                list_complaint(inner, shape, items, &path)
            }
            _ => None,
        }
    })
}

fn list_complaint(
    place: Place<'_>,
    shape: Shape<'_>,
    items: &[Value],
    path: &str,
) -> Option<String> {
    let mut seen = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let Some(element) = element(shape, item) else {
            return Some(format!(
                "{path}: element {at}: associative list with keys has an element that omits key field"
            ));
        };
        let below = format!("{path}{element}");
        if !seen.insert(element) {
            let key = below.trim_start_matches(path);
            return Some(format!("{path}: duplicate entries for key {key}"));
        }
        if let Some(complaint) = complaint(place, item, &below) {
            return Some(complaint);
        }
    }
    None
}

/// What is different in a newer version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Changes {
    fn put(&mut self, element: Element, child: Self) {
        self.added.put(element.clone(), child.added);
        self.modified.put(element.clone(), child.modified);
        self.removed.put(element, child.removed);
    }

    /// What the newer version says otherwise or anew.
    pub(super) fn written(&self) -> Set {
        let mut written = self.added.clone();
        written.add(&self.modified);
        written
    }

    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut changes = Self::default();
        match (old, new) {
            (None, Some(_)) => changes.added.owned = true,
            (Some(_), None) => changes.removed.owned = true,
            (Some(old), Some(new)) => changes.modified.owned = old != new,
            (None, None) => {}
        }
        changes
    }
}

/// What is different in `new`; `null` is an object that does not exist yet.
pub(super) fn compare<'a>(root: impl Into<Root<'a>>, old: &'a Value, new: &'a Value) -> Changes {
    let old = Some(old).filter(|old| !old.is_null());
    let mut changes = differ(Place::root(root), Shape::Plain, old, Some(new));
    changes.added.owned = false;
    changes
}

fn differ(place: Place<'_>, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Changes {
    let maps = (map(shape, old), map(shape, new));
    let lists = (list(shape, old), list(shape, new));
    let mut changes = match (old, new, maps, lists) {
        (_, _, (Some(a), Some(b)), _) => differ_maps(place, Some(a), Some(b)),
        (None, Some(_), (_, Some(b)), _) => differ_maps(place, None, Some(b)),
        (Some(_), None, (Some(a), _), _) => differ_maps(place, Some(a), None),
        (_, _, _, (Some(a), Some(b))) => differ_lists(place, shape, &a, &b),
        (None, Some(_), _, (_, Some(b))) => differ_lists(place, shape, &BTreeMap::new(), &b),
        (Some(_), None, _, (Some(a), _)) => differ_lists(place, shape, &a, &BTreeMap::new()),
        _ => return Changes::leaf(old, new),
    };
    changes.removed.owned = new.is_none();
    let is_bare = changes.added.children.is_empty();
    changes.added.owned = old.is_none() && (is_bare || !ALWAYS.contains(&place.field()));
    changes
}

/// A map that merges field by field.
fn map<'a>(shape: Shape<'_>, value: Option<&'a Value>) -> Option<&'a Map<String, Value>> {
    match shape {
        Shape::Plain => value?.as_object(),
        Shape::Atomic | Shape::Set { .. } | Shape::Items { .. } | Shape::PatchOnly(_) => None,
    }
}

/// A list that merges item by item.
fn list<'a>(shape: Shape<'_>, value: Option<&'a Value>) -> Option<BTreeMap<Element, &'a Value>> {
    index(shape, value?.as_array()?)
}

fn differ_maps(
    place: Place<'_>,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
) -> Changes {
    let mut changes = Changes::default();
    let mut visit = |name: &String, old: Option<&Value>, new: Option<&Value>| {
        let child = differ(place.inside(name), place.shape(name), old, new);
        changes.put(Element::Field(name.clone()), child);
    };
    for (name, value) in new.into_iter().flatten() {
        visit(name, old.and_then(|old| old.get(name)), Some(value));
    }
    for (name, value) in old.into_iter().flatten() {
        if new.is_none_or(|new| !new.contains_key(name)) {
            visit(name, Some(value), None);
        }
    }
    changes
}

fn differ_lists(
    place: Place<'_>,
    shape: Shape<'_>,
    old: &BTreeMap<Element, &Value>,
    new: &BTreeMap<Element, &Value>,
) -> Changes {
    let mut changes = Changes::default();
    let mut visit = |element: &Element, old: Option<&Value>, new: Option<&Value>| {
        let mut child = differ(place, item_shape(shape), old, new);
        child.added.owned |= old.is_none();
        changes.put(element.clone(), child);
    };
    for (element, item) in new {
        visit(element, old.get(element).copied(), Some(item));
    }
    for (element, item) in old {
        if !new.contains_key(element) {
            visit(element, Some(item), None);
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_applier_claims_what_it_says() {
        let applied = json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "name": "http"}], "type": "ClusterIP"},
            "metadata": {"finalizers": ["a/b"], "labels": {"app": "web"}, "annotations": {}}});
        assert_eq!(
            fields_of("Service", &applied).encode(),
            json!({
                "f:metadata": {"f:annotations": {}, "f:finalizers": {"v:\"a/b\"": {}}, "f:labels": {"f:app": {}}},
                "f:spec": {"f:selector": {}, "f:type": {},
                    "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}}}},
            })
        );
    }

    #[test]
    fn a_writer_owns_what_it_brought_into_being() {
        let pod = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"tolerations": [{"key": "x"}], "containers":
            [{"name": "main", "resources": {}, "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}]}});
        assert_eq!(
            compare("Pod", &Value::Null, &pod).added.encode(),
            json!({
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {"f:tolerations": {}, "f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:name": {}, "f:resources": {},
                    "f:env": {".": {}, "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:fieldRef": {}}}}}}},
            })
        );
    }

    #[test]
    fn changes_are_told_apart() {
        let old = json!({"spec": {"a": 1, "b": 2, "c": {"x": 1}, "containers": [{"name": "one", "image": "x"}, {"name": "two"}]}});
        let new = json!({"spec": {"a": 1, "b": 3, "d": 4, "containers": [{"name": "two"}, {"name": "one", "image": "y"}]}});
        let changes = compare("Pod", &old, &new);
        assert_eq!(changes.added.paths(), [".spec.d"]);
        assert_eq!(
            changes.modified.paths(),
            [".spec.b", ".spec.containers[name=\"one\"].image"]
        );
        assert_eq!(changes.removed.paths(), [".spec.c", ".spec.c.x"]);
        assert_eq!(compare("Pod", &new, &new), Changes::default());
    }
}
