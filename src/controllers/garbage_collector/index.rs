//! Who depends on whom: owner uid → dependents. Only objects that have owners are in it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::controllers::runtime::Key;

/// A dependent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) owners: Vec<String>,
}

#[derive(Default)]
struct Maps {
    entries: HashMap<String, Entry>,
    dependents: HashMap<String, BTreeSet<String>>,
    /// Uids not yet sent again since a kind's watch was opened anew.
    unseen: HashMap<&'static str, HashSet<String>>,
}

/// The lock is held for map operations only.
#[derive(Default)]
pub(super) struct Index(Mutex<Maps>);

impl Index {
    /// A kind's objects are about to be sent from the beginning.
    pub(super) fn begin(&self, kind: &'static str) {
        let mut maps = self.lock();
        let of_kind = maps
            .entries
            .iter()
            .filter(|(_, entry)| entry.key.kind == kind);
        let uids = of_kind.map(|(uid, _)| uid.clone()).collect();
        maps.unseen.insert(kind, uids);
    }

    /// All have been sent: forgets those that were not, and names them.
    pub(super) fn unseen(&self, kind: &'static str) -> Vec<String> {
        let mut maps = self.lock();
        let gone = maps.unseen.remove(kind).unwrap_or_default();
        for uid in &gone {
            maps.remove(uid);
        }
        gone.into_iter().collect()
    }

    /// Notes an object; one without owners is forgotten.
    pub(super) fn put(&self, uid: &str, entry: Entry) {
        let mut maps = self.lock();
        if let Some(unseen) = maps.unseen.get_mut(entry.key.kind) {
            unseen.remove(uid);
        }
        if maps.entries.get(uid) == Some(&entry) {
            return;
        }
        maps.remove(uid);
        if entry.owners.is_empty() {
            return;
        }
        for owner in &entry.owners {
            maps.dependents
                .entry(owner.clone())
                .or_default()
                .insert(uid.to_owned());
        }
        maps.entries.insert(uid.to_owned(), entry);
    }

    pub(super) fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The dependents of an owner, in a stable order.
    pub(super) fn dependents(&self, owner: &str) -> Vec<Key> {
        let maps = self.lock();
        let uids = maps.dependents.get(owner).into_iter().flatten();
        let mut keys: Vec<Key> = uids
            .filter_map(|uid| maps.entries.get(uid))
            .map(|entry| entry.key.clone())
            .collect();
        keys.sort();
        keys
    }

    /// All dependents.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.lock()
            .entries
            .values()
            .map(|entry| entry.key.clone())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else {
            return;
        };
        for owner in &entry.owners {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, owners: &[&str]) -> Entry {
        Entry {
            key: Key {
                kind: "Pod",
                namespace: "default".into(),
                name: name.into(),
            },
            owners: owners.iter().map(|&owner| owner.to_owned()).collect(),
        }
    }

    fn names(keys: Vec<Key>) -> Vec<String> {
        keys.into_iter().map(|key| key.name).collect()
    }

    #[test]
    fn follows_changes_of_owners() {
        let index = Index::default();
        index.put("1", entry("a", &["x", "y"]));
        index.put("2", entry("b", &["x"]));
        assert_eq!(names(index.dependents("x")), ["a", "b"]);
        index.put("1", entry("a", &["y"]));
        assert_eq!(names(index.dependents("x")), ["b"]);
        index.put("2", entry("b", &[]));
        index.remove("1");
        assert!(index.dependents("x").is_empty() && index.dependents("y").is_empty());
        assert!(index.lock().dependents.is_empty() && index.lock().entries.is_empty());
    }

    #[test]
    fn what_is_not_sent_again_has_gone() {
        let index = Index::default();
        index.put("1", entry("a", &["x"]));
        index.put("2", entry("b", &["x"]));
        index.begin("Pod");
        index.put("2", entry("b", &["x"]));
        assert_eq!(index.unseen("Pod"), ["1"]);
        assert_eq!(names(index.dependents("x")), ["b"]);
    }
}
