//! A local copy of some objects of the API, fed by a watch, that says what changed.
//!
//! A new list replaces the copy when it is whole, not before: an interrupted list, like any error,
//! leaves the last known world in place. What a list no longer holds is told as a deletion.

use std::collections::HashMap;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};

/// Namespace (empty for cluster-scoped kinds) and name.
pub type MirrorKey = (String, String);

/// An object that is new or different, or `None` for one that is gone.
pub type Change<K> = (MirrorKey, Option<Arc<K>>);

/// The copy.
#[derive(Debug)]
pub struct Mirror<K> {
    objects: HashMap<MirrorKey, Arc<K>>,
    /// The list that is arriving.
    arriving: Option<HashMap<MirrorKey, Arc<K>>>,
    is_synced: bool,
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            arriving: None,
            is_synced: false,
        }
    }
}

impl<K: Resource> Mirror<K> {
    /// Takes an event.
    pub fn apply(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => {
                self.arriving = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let arriving = self.arriving.get_or_insert_default();
                arriving.insert(key(&object), Arc::new(object));
                Vec::new()
            }
            Event::InitDone => self.replace(),
            Event::Apply(object) => {
                let (key, object) = (key(&object), Arc::new(object));
                self.objects.insert(key.clone(), Arc::clone(&object));
                vec![(key, Some(object))]
            }
            Event::Delete(object) => {
                let key = key(&object);
                let known = self.objects.remove(&key);
                known.map(|_| (key, None)).into_iter().collect()
            }
        }
    }

    /// Whether a whole list has been seen.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All of them, in no order.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    fn replace(&mut self) -> Vec<Change<K>> {
        self.is_synced = true;
        let arrived = self.arriving.take().unwrap_or_default();
        let known = std::mem::replace(&mut self.objects, arrived);
        let gone = known.keys().filter(|key| !self.objects.contains_key(*key));
        let mut changes: Vec<Change<K>> = gone.map(|key| (key.clone(), None)).collect();
        for (key, object) in &self.objects {
            let is_known = known.get(key).is_some_and(|old| {
                let version = object.resource_version();
                version.is_some() && old.resource_version() == version
            });
            if !is_known {
                changes.push((key.clone(), Some(Arc::clone(object))));
            }
        }
        changes
    }
}

fn key<K: Resource>(object: &K) -> MirrorKey {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    fn told(mirror: &mut Mirror<ConfigMap>, event: Event<ConfigMap>) -> Vec<String> {
        let mut told: Vec<String> = mirror
            .apply(event)
            .into_iter()
            .map(|((_, name), object)| {
                format!("{}{name}", if object.is_some() { '+' } else { '-' })
            })
            .collect();
        told.sort();
        told
    }

    #[test]
    fn a_broken_list_does_not_shrink_the_world() {
        let mut mirror = Mirror::default();
        let nothing: [&str; 0] = [];
        assert_eq!(told(&mut mirror, Event::Init), nothing);
        assert_eq!(
            told(&mut mirror, Event::InitApply(object("a", "1"))),
            nothing
        );
        assert!(!mirror.is_synced());
        assert_eq!(told(&mut mirror, Event::InitDone), ["+a"]);
        assert_eq!(told(&mut mirror, Event::Apply(object("b", "2"))), ["+b"]);
        // A list that breaks off, and one that is whole.
        told(&mut mirror, Event::Init);
        told(&mut mirror, Event::InitApply(object("c", "3")));
        assert!(mirror.get("", "a").is_some() && mirror.get("", "c").is_none());
        told(&mut mirror, Event::Init);
        told(&mut mirror, Event::InitApply(object("b", "2")));
        told(&mut mirror, Event::InitApply(object("c", "3")));
        assert_eq!(told(&mut mirror, Event::InitDone), ["+c", "-a"]);
        assert_eq!(told(&mut mirror, Event::Delete(object("b", "2"))), ["-b"]);
        assert_eq!(told(&mut mirror, Event::Delete(object("b", "2"))), nothing);
    }
}
