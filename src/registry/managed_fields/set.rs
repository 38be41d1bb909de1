//! A set of fields, as a tree of steps: what one manager owns.
//!
//! It is Kubernetes' `fieldsV1`: a node that is in the set and has nothing below it is `{}`, one
//! that is in the set and has something below it holds `.`. All operations walk both trees once.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::Element;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Set {
    /// Whether the node itself is in the set.
    pub(super) owned: bool,
    pub(super) children: BTreeMap<Element, Set>,
}

impl Set {
    pub(super) fn leaf() -> Self {
        Self {
            owned: true,
            children: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.owned && self.children.is_empty()
    }

    pub(super) fn take_field(&mut self, name: &str) -> Option<Self> {
        self.children.remove(&Element::Field(name.to_owned()))
    }

    /// Makes a field known without putting it into the set.
    pub(super) fn hold(&mut self, name: &str) {
        let field = Element::Field(name.to_owned());
        self.children.entry(field).or_default();
    }

    /// Puts a subtree in its place; an empty one is none.
    pub(super) fn put(&mut self, element: Element, child: Self) {
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.owned |= other.owned;
        for (element, child) in &other.children {
            self.children.entry(element.clone()).or_default().add(child);
        }
    }

    pub(super) fn remove(&mut self, other: &Self) {
        self.owned &= !other.owned;
        for (element, gone) in &other.children {
            if let Some(child) = self.children.get_mut(element) {
                child.remove(gone);
                if child.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    pub(super) fn common(&self, other: &Self) -> Self {
        let mut common = Self {
            owned: self.owned && other.owned,
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            if let Some(others) = other.children.get(element) {
                common.put(element.clone(), child.common(others));
            }
        }
        common
    }

    /// Each member as a path: `.spec.containers[name="web"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(&mut String::new(), &mut paths);
        paths
    }

    fn collect(&self, path: &mut String, paths: &mut Vec<String>) {
        if self.owned {
            paths.push(path.clone());
        }
        for (element, child) in &self.children {
            let length = path.len();
            path.push_str(&element.to_string());
            child.collect(path, paths);
            path.truncate(length);
        }
    }

    pub(super) fn encode(&self) -> Value {
        let mut fields = Map::new();
        if self.owned && !self.children.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            fields.insert(element.encode(), child.encode());
        }
        Value::Object(fields)
    }

    /// `None` if it is no `fieldsV1`.
    pub(super) fn decode(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        let mut set = Self::default();
        for (name, below) in fields {
            if name == "." {
                set.owned = true;
                continue;
            }
            let element = Element::parse(name)?;
            let mut child = Self::decode(below)?;
            child.owned |= child.children.is_empty();
            set.children.insert(element, child);
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: &Value) -> Set {
        Set::decode(value).unwrap()
    }

    #[test]
    fn the_wire_form_comes_back() {
        let wire = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:containers":
            {"k:{\"name\":\"web\"}": {".": {}, "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}},
            "f:list": {"v:\"a\"": {}, "v:1": {}, "i:0": {}}});
        assert_eq!(set(&wire).encode(), wire);
        assert_eq!(
            set(&wire).paths(),
            [
                ".list[=\"a\"]",
                ".list[=1]",
                ".list[0]",
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"web\"]",
                ".spec.containers[name=\"web\"].ports[containerPort=80,protocol=\"TCP\"]",
                ".spec.containers[name=\"web\"].ports[containerPort=80,protocol=\"TCP\"].containerPort",
            ]
        );
        let loose = json!({"k:{ \"protocol\": \"TCP\", \"containerPort\": 80}": {}});
        let tight = json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}});
        assert_eq!(set(&loose), set(&tight));
        for odd in [
            json!([]),
            json!({"x": {}}),
            json!({"f:a": 1}),
            json!({"k:1": {}}),
        ] {
            assert_eq!(Set::decode(&odd), None, "{odd}");
        }
    }

    #[test]
    fn sets_are_sets() {
        let one = set(&json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}}));
        let other = set(&json!({"f:a": {"f:c": {}, "f:d": {}}}));
        assert_eq!(one.common(&other), set(&json!({"f:a": {"f:c": {}}})));
        let mut rest = one.clone();
        rest.remove(&other);
        assert_eq!(rest, set(&json!({"f:a": {".": {}, "f:b": {}}})));
        rest.add(&other);
        assert_eq!(
            rest,
            set(&json!({"f:a": {".": {}, "f:b": {}, "f:c": {}, "f:d": {}}}))
        );
        rest.remove(&rest.clone());
        assert!(rest.is_empty());
    }
}
