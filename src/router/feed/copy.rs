//! The last known objects of one kind, and what an event changes in them.
//!
//! A new list replaces the copy when it is whole and not before, and only what is different in it
//! is a change. Of each object no more is kept than the table reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Resource;
use kube::runtime::watcher::Event;

use super::key_of;
use crate::api::annotations::{SERVICE_NAME, WIRE_ADDRESS};
use crate::router::table::Key;

/// An object, or its absence.
pub(super) type Changed<K> = (Key, Option<Arc<K>>);

/// See the module.
pub(super) struct Copy<K> {
    objects: BTreeMap<Key, Arc<K>>,
    arriving: Option<BTreeMap<Key, Arc<K>>>,
    is_synced: bool,
}

impl<K> Default for Copy<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            arriving: None,
            is_synced: false,
        }
    }
}

impl<K: Resource + Lean + PartialEq> Copy<K> {
    /// Takes an event and tells what it changes.
    pub(super) fn apply(&mut self, event: Event<K>) -> Vec<Changed<K>> {
        match event {
            Event::Init => {
                self.arriving = Some(BTreeMap::new());
                Vec::new()
            }
            Event::InitApply(mut object) => {
                object.make_lean();
                let arriving = self.arriving.get_or_insert_default();
                arriving.insert(key_of(&object), Arc::new(object));
                Vec::new()
            }
            Event::InitDone => {
                self.is_synced = true;
                let arriving = self.arriving.take().unwrap_or_default();
                self.replace(arriving)
            }
            Event::Apply(mut object) => {
                object.make_lean();
                let key = key_of(&object);
                if self.objects.get(&key).is_some_and(|old| **old == object) {
                    return Vec::new();
                }
                let object = Arc::new(object);
                self.objects.insert(key.clone(), Arc::clone(&object));
                vec![(key, Some(object))]
            }
            Event::Delete(object) => {
                let key = key_of(&object);
                match self.objects.remove(&key) {
                    Some(_) => vec![(key, None)],
                    None => Vec::new(),
                }
            }
        }
    }

    fn replace(&mut self, new: BTreeMap<Key, Arc<K>>) -> Vec<Changed<K>> {
        let old = std::mem::replace(&mut self.objects, new);
        let gone = old.keys().filter(|key| !self.objects.contains_key(*key));
        let mut changed: Vec<Changed<K>> = gone.map(|key| (key.clone(), None)).collect();
        for (key, object) in &self.objects {
            if old.get(key).is_none_or(|before| before != object) {
                changed.push((key.clone(), Some(Arc::clone(object))));
            }
        }
        changed
    }

    /// Takes what was kept by an earlier run.
    pub(super) fn restore(&mut self, objects: Vec<Arc<K>>) {
        let keyed = objects.into_iter().map(|it| (key_of(&*it), it));
        self.objects = keyed.collect();
        self.is_synced = true;
    }

    /// Whether a whole list has been seen, now or by an earlier run.
    pub(super) fn is_synced(&self) -> bool {
        self.is_synced
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<K>)> {
        self.objects.iter()
    }

    pub(super) fn objects(&self) -> Vec<Arc<K>> {
        self.objects.values().cloned().collect()
    }
}

/// Throws away what the table does not read.
pub(super) trait Lean {
    fn make_lean(&mut self);
}

macro_rules! keep_metadata {
    ($object:expr, $labels:expr, $annotations:expr) => {{
        let meta = &mut $object.metadata;
        meta.managed_fields = None;
        meta.owner_references = None;
        meta.finalizers = None;
        meta.resource_version = None;
        meta.generation = None;
        if let Some(labels) = &mut meta.labels {
            labels.retain(|key, _| $labels.contains(&key.as_str()));
        }
        if let Some(annotations) = &mut meta.annotations {
            annotations.retain(|key, _| $annotations.contains(&key.as_str()));
        }
    }};
}

const NONE: [&str; 0] = [];

impl Lean for Service {
    fn make_lean(&mut self) {
        keep_metadata!(self, NONE, NONE);
        if let Some(spec) = &mut self.spec {
            spec.selector = None;
        }
    }
}

impl Lean for EndpointSlice {
    fn make_lean(&mut self) {
        keep_metadata!(self, [SERVICE_NAME], NONE);
        for endpoint in &mut self.endpoints {
            endpoint.target_ref = None;
        }
    }
}

impl Lean for Node {
    fn make_lean(&mut self) {
        keep_metadata!(self, NONE, [WIRE_ADDRESS]);
        self.status = None;
    }
}

impl Lean for Ingress {
    fn make_lean(&mut self) {
        keep_metadata!(self, NONE, NONE);
        self.status = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, wire: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node.metadata.resource_version = Some(crate::ids::uid());
        let annotations = [(WIRE_ADDRESS, wire), ("other", wire)];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        node.metadata.annotations = Some(annotations.into());
        node
    }

    fn apply(copy: &mut Copy<Node>, event: Event<Node>) -> String {
        let changed = copy.apply(event).into_iter();
        let words = changed.map(|(key, object)| match object {
            Some(_) => format!("+{}", key.name()),
            None => format!("-{}", key.name()),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_differences_are_changes_and_half_a_list_is_none() {
        let mut copy = Copy::default();
        let script = vec![
            (Event::Init, ""),
            (Event::InitApply(node("a", "1")), ""),
            (Event::InitApply(node("b", "1")), ""),
            (Event::InitDone, "+a +b"),
            (Event::Apply(node("a", "1")), ""),
            (Event::Apply(node("a", "2")), "+a"),
            (Event::Init, ""),
            (Event::InitApply(node("c", "1")), ""),
            (Event::Init, ""),
            (Event::InitApply(node("a", "2")), ""),
            (Event::InitApply(node("c", "1")), ""),
            (Event::InitDone, "-b +c"),
            (Event::Delete(node("b", "1")), ""),
            (Event::Delete(node("a", "1")), "-a"),
        ];
        for (step, (event, expected)) in script.into_iter().enumerate() {
            assert_eq!(apply(&mut copy, event), expected, "step {step}");
        }
        let (_, kept) = copy.iter().next().unwrap();
        assert_eq!(kept.metadata.annotations.as_ref().unwrap().len(), 1);
    }
}
