//! A namespace's buckets in the worker's memory.
//!
//! One lock for all of a namespace: operations are short, and it makes every one of them atomic. A
//! value is charged with its key and a share of the map before it is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Error, MAX_BUCKETS, add};
use crate::runtime::budget::Budget;

/// Charged for each entry besides its bytes.
const OVERHEAD: usize = 96;

type Entries = BTreeMap<String, Vec<u8>>;

pub(super) struct Namespace {
    buckets: Mutex<BTreeMap<String, Entries>>,
    budget: Arc<Budget>,
}

impl Namespace {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            buckets: Mutex::default(),
            budget,
        }
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Entries>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, name: &str) -> Result<(), Error> {
        let mut buckets = self.buckets();
        if !buckets.contains_key(name) {
            if buckets.len() >= MAX_BUCKETS {
                return Err(Error::NoSuchStore);
            }
            buckets.insert(name.to_owned(), Entries::new());
        }
        Ok(())
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.buckets().get(bucket)?.get(key).cloned()
    }

    pub(super) fn exists(&self, bucket: &str, key: &str) -> bool {
        let buckets = self.buckets();
        buckets
            .get(bucket)
            .is_some_and(|entries| entries.contains_key(key))
    }

    pub(super) fn set(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), Error> {
        self.put(
            self.buckets().entry(bucket.to_owned()).or_default(),
            key,
            value,
        )
    }

    fn put(&self, entries: &mut Entries, key: &str, mut value: Vec<u8>) -> Result<(), Error> {
        value.shrink_to_fit();
        let (old, new) = (
            entries.get(key).map_or(0, |old| cost(key, old)),
            cost(key, &value),
        );
        if new > old {
            let grown = self.budget.charge(new - old);
            grown.map_err(|exceeded| Error::Full(exceeded.to_string()))?;
        } else {
            self.budget.release(old - new);
        }
        match entries.get_mut(key) {
            Some(kept) => *kept = value,
            None => drop(entries.insert(key.to_owned(), value)),
        }
        Ok(())
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) {
        let mut buckets = self.buckets();
        let removed = buckets
            .get_mut(bucket)
            .and_then(|entries| entries.remove(key));
        if let Some(value) = removed {
            self.budget.release(cost(key, &value));
        }
    }

    pub(super) fn keys(&self, bucket: &str, from: u64, page: usize) -> (Vec<String>, Option<u64>) {
        let buckets = self.buckets();
        let Some(entries) = buckets.get(bucket) else {
            return (Vec::new(), None);
        };
        let skipped = usize::try_from(from).unwrap_or(usize::MAX);
        let keys: Vec<String> = entries.keys().skip(skipped).take(page).cloned().collect();
        let next = skipped.saturating_add(keys.len());
        let is_more = !keys.is_empty() && next < entries.len();
        (keys, is_more.then_some(next as u64))
    }

    pub(super) fn increment(&self, bucket: &str, key: &str, delta: u64) -> Result<u64, Error> {
        let mut buckets = self.buckets();
        let entries = buckets.entry(bucket.to_owned()).or_default();
        let sum = add(entries.get(key).map(Vec::as_slice), delta)?;
        self.put(entries, key, sum.to_string().into_bytes())?;
        Ok(sum)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.budget.release(self.budget.used());
    }
}

fn cost(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len() + OVERHEAD) as u64
}
