//! The entries of one directory, with cookies that stay valid while the directory changes.
//!
//! An entry's cookie is given when it is inserted and never again, so a reader that remembers the
//! last cookie it saw meets every entry that existed all along exactly once, whatever is added or
//! removed meanwhile: what POSIX asks of `readdir` and what programs that delete a tree rely on.
//! The order of a listing is the order of creation.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use super::errno::Errno;
use super::inode::{Inode, Kind};
use super::layer::LayerDirectory;
use super::quota::{Charge, ENTRY_BYTES};

#[derive(Debug)]
pub struct Directory {
    /// The directory that holds this one; the root's is gone from the start.
    pub(super) parent: Weak<Inode>,
    /// Removed from its parent: nothing may be created in it any more.
    pub(super) removed: bool,
    /// What the image has here, until someone looks.
    pub(super) unread: Option<Arc<LayerDirectory>>,
    names: HashMap<Arc<str>, Slot>,
    order: BTreeMap<u64, Arc<str>>,
    next_cookie: u64,
    charge: Charge,
}

#[derive(Debug)]
struct Slot {
    cookie: u64,
    inode: Arc<Inode>,
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: Arc<str>,
    pub kind: Kind,
    /// The inode's.
    pub number: u64,
    /// Where the listing goes on after this entry; at least 1.
    pub next: u64,
}

impl Directory {
    pub(super) fn new(
        parent: Weak<Inode>,
        unread: Option<Arc<LayerDirectory>>,
        charge: Charge,
    ) -> Self {
        Self {
            parent,
            removed: false,
            unread,
            names: HashMap::new(),
            order: BTreeMap::new(),
            next_cookie: 0,
            charge,
        }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Inode>> {
        self.names.get(name).map(|slot| &slot.inode)
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Charges for one more name, so that an insertion that must not fail cannot.
    pub fn reserve(&mut self, name: &str) -> Result<(), Errno> {
        self.charge.grow(cost(name))
    }

    pub fn unreserve(&mut self, name: &str) {
        self.charge.shrink(cost(name));
    }

    /// Adds an entry whose name was reserved and is free.
    pub fn insert_reserved(&mut self, name: &str, inode: Arc<Inode>) {
        debug_assert!(!self.names.contains_key(name));
        let name: Arc<str> = name.into();
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.order.insert(cookie, Arc::clone(&name));
        self.names.insert(name, Slot { cookie, inode });
    }

    /// Puts another inode under a name that exists; the old one is handed back.
    pub fn replace(&mut self, name: &str, inode: Arc<Inode>) -> Option<Arc<Inode>> {
        let slot = self.names.get_mut(name)?;
        Some(std::mem::replace(&mut slot.inode, inode))
    }

    pub fn remove(&mut self, name: &str) -> Option<Arc<Inode>> {
        let (name, slot) = self.names.remove_entry(name)?;
        self.order.remove(&slot.cookie);
        self.charge.shrink(cost(&name));
        Some(slot.inode)
    }

    /// Up to `limit` entries from `from` on: 0 is the beginning, otherwise an [`Entry::next`].
    pub fn list(&self, from: u64, limit: usize) -> Vec<Entry> {
        let rest = (Bound::Included(from), Bound::Unbounded);
        let entries = self.order.range(rest).take(limit);
        entries
            .filter_map(|(cookie, name)| {
                let slot = self.names.get(name)?;
                Some(Entry {
                    name: Arc::clone(name),
                    kind: slot.inode.kind(),
                    number: slot.inode.identity().1,
                    next: cookie + 1,
                })
            })
            .collect()
    }

    /// Empties the directory, for taking a tree down without recursion.
    pub fn drain(&mut self) -> impl Iterator<Item = Arc<Inode>> + '_ {
        self.order.clear();
        self.names.drain().map(|(_, slot)| slot.inode)
    }
}

fn cost(name: &str) -> u64 {
    ENTRY_BYTES + name.len() as u64
}
