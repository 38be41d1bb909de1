//! A map whose copies share what did not change.
//!
//! A snapshot of ten thousand services is taken for every change of one of them. Copying the map
//! each time would cost milliseconds; here a copy is a few hundred reference counts, and a change
//! copies one shard out of [`SHARDS`].

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

const SHARDS: usize = 128;

/// See the module.
#[derive(Clone)]
pub(super) struct ShardMap<K, V> {
    hasher: RandomState,
    shards: Vec<Arc<HashMap<K, V>>>,
}

impl<K, V> Default for ShardMap<K, V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: vec![Arc::default(); SHARDS],
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> ShardMap<K, V> {
    fn index<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[self.index(key)].get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let index = self.index(&key);
        Arc::make_mut(&mut self.shards[index]).insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.index(key);
        if !self.shards[index].contains_key(key) {
            return None;
        }
        Arc::make_mut(&mut self.shards[index]).remove(key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.values())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for ShardMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.shards.iter().flat_map(|shard| shard.iter());
        f.debug_map().entries(entries).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_was() {
        let mut map = ShardMap::default();
        for key in 0..1000 {
            map.insert(key, key);
        }
        let before = map.clone();
        map.insert(1, 7);
        map.remove(&2);
        assert_eq!(map.remove(&2), None);
        assert_eq!((before.get(&1), before.get(&2)), (Some(&1), Some(&2)));
        assert_eq!((map.get(&1), map.get(&2)), (Some(&7), None));
        assert_eq!((before.values().count(), map.values().count()), (1000, 999));
        let shared = before.shards.iter().zip(&map.shards);
        let copied = shared.filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
        assert!(copied <= 2);
    }
}
