//! A local copy of some objects of the API, fed by a watch.
//!
//! A new list replaces the copy when it is whole, not before: an interrupted list, like any error,
//! leaves the last known world in place.

use std::collections::HashMap;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};

/// Namespace (empty for cluster-scoped kinds) and name.
type Key = (String, String);

/// The copy.
#[derive(Debug)]
pub struct Mirror<K> {
    objects: HashMap<Key, Arc<K>>,
    /// The list that is arriving.
    arriving: Option<HashMap<Key, Arc<K>>>,
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
    /// Takes an event; tells whether the copy changed.
    pub fn apply(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => {
                self.arriving = Some(HashMap::new());
                false
            }
            Event::InitApply(object) => {
                let arriving = self.arriving.get_or_insert_default();
                arriving.insert(key(&object), Arc::new(object));
                false
            }
            Event::InitDone => {
                self.objects = self.arriving.take().unwrap_or_default();
                self.is_synced = true;
                true
            }
            Event::Apply(object) => {
                self.objects.insert(key(&object), Arc::new(object));
                true
            }
            Event::Delete(object) => self.objects.remove(&key(&object)).is_some(),
        }
    }

    /// Whether a whole list has been seen.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object
    }

    #[test]
    fn a_broken_list_does_not_shrink_the_world() {
        let mut mirror = Mirror::default();
        let names = |mirror: &Mirror<ConfigMap>| {
            let mut names: Vec<String> = mirror.iter().map(|it| it.name_any()).collect();
            names.sort();
            names.join(",")
        };
        for event in [Event::Init, Event::InitApply(object("a"))] {
            assert!(!mirror.apply(event));
        }
        assert!(!mirror.is_synced());
        assert!(mirror.apply(Event::InitDone));
        assert!(mirror.apply(Event::Apply(object("b"))));
        assert_eq!(names(&mirror), "a,b");
        mirror.apply(Event::Init);
        mirror.apply(Event::InitApply(object("c")));
        assert_eq!(names(&mirror), "a,b");
        mirror.apply(Event::Init);
        mirror.apply(Event::InitApply(object("b")));
        mirror.apply(Event::InitDone);
        assert_eq!(names(&mirror), "b");
        assert!(mirror.apply(Event::Delete(object("b"))));
        assert!(!mirror.apply(Event::Delete(object("b"))));
    }
}
