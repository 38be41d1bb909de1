//! The current state: one immutable snapshot, published as a whole.
//!
//! A reader loads one pointer and has every resource at one revision; nobody waits for anybody.
//! The writer changes its own copy (cheap: see `tree.rs`) and publishes it after the disk has
//! answered, so a snapshot never shows a write that could still fail.

use std::collections::HashMap;
use std::sync::Arc;

use super::key::{ObjectKey, Revision};
use super::object::Stored;
use super::tree::Tree;

#[derive(Clone, Default)]
pub(super) struct Snapshot {
    /// The revision of the last change that the snapshot contains.
    pub(super) revision: Revision,
    resources: HashMap<Arc<str>, Tree>,
}

impl Snapshot {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<Stored>> {
        self.resources.get(&*key.resource)?.get(key.place())
    }

    pub(super) fn tree(&self, resource: &str) -> Option<&Tree> {
        self.resources.get(resource)
    }

    pub(super) fn insert(&mut self, stored: Arc<Stored>) -> Option<Arc<Stored>> {
        if let Some(tree) = self.resources.get_mut(&*stored.key.resource) {
            return tree.insert(stored);
        }
        let resource = Arc::clone(&stored.key.resource);
        self.resources.entry(resource).or_default().insert(stored)
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.resources.get_mut(&*key.resource)?.remove(key.place())
    }
}
