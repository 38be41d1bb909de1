//! The in-memory filesystem: making inodes, and every change of a tree.
//!
//! Invariants: a directory has one parent, and following parents ends at the root; an entry's inode
//! has at least one link; a removed directory is empty and stays empty. Locks: an operation on one
//! directory holds that directory's lock. Removing a directory and renaming touch several, so they
//! take [`Filesystem::tree`] first; only its holder ever waits for one directory while it holds
//! another, hence no deadlock. Mount points are pinned under the same lock. The cost: renames and
//! `rmdir`s of one filesystem take turns; everything else runs in parallel.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::time::SystemTime;

use bytes::Bytes;

use super::contents::Contents;
use super::directory::{Directory, Entry};
use super::errno::Errno;
use super::host_dir::Host;
use super::inode::{Body, Inode, Kind, Times, read, write};
use super::layer::{Layer, LayerDirectory, LayerNode};
use super::quota::{Charge, INODE_BYTES, Quota};
use crate::clock::Clock;

/// What all inodes of one filesystem share.
#[derive(Debug)]
pub struct Filesystem {
    pub(super) device: u64,
    pub(super) quota: Quota,
    pub(super) clock: Clock,
    /// The times of files that came with an image.
    pub(super) origin: SystemTime,
    pub(super) next_inode: AtomicU64,
    pub(super) tree: Mutex<()>,
    /// For who makes one change of several, see [`super::Descriptor::alone`].
    pub(super) alone: Mutex<()>,
    /// Of a filesystem on a directory of the host.
    pub(super) host: Option<Host>,
}

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New<'a> {
    File,
    Directory,
    Symlink(&'a str),
}

impl Filesystem {
    pub fn new(device: u64, quota: Quota, clock: Clock) -> Arc<Self> {
        let origin = clock.now().into();
        Self::dated(device, quota, clock, origin)
    }

    fn dated(device: u64, quota: Quota, clock: Clock, origin: SystemTime) -> Arc<Self> {
        Arc::new(Self {
            device,
            quota,
            clock,
            origin,
            next_inode: AtomicU64::new(1),
            tree: Mutex::default(),
            alone: Mutex::default(),
            host: None,
        })
    }

    /// The root directory of an empty filesystem. To be called once.
    pub fn root(self: &Arc<Self>) -> Result<Arc<Inode>, Errno> {
        let charges = self.quota.inode(0)?.into();
        let body = self.directory(Weak::new(), None);
        Ok(self.inode(body, 2, charges, self.now()))
    }

    /// A filesystem that shows `layer` and keeps what is written over it.
    pub fn of_layer(
        device: u64,
        quota: Quota,
        clock: Clock,
        layer: &Layer,
    ) -> Result<Arc<Inode>, Errno> {
        let filesystem = Self::dated(device, quota, clock, layer.modified);
        let directory = LayerNode::Directory(Arc::clone(&layer.root));
        filesystem.from_layer(&directory, Weak::new())
    }

    pub fn now(&self) -> SystemTime {
        self.clock.now().into()
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, ()> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inode(
        self: &Arc<Self>,
        body: Body,
        links: u64,
        charges: Vec<Charge>,
        time: SystemTime,
    ) -> Arc<Inode> {
        let number = self.next_inode.fetch_add(1, Ordering::Relaxed);
        self.numbered(number, body, links, charges, time)
    }

    pub(super) fn numbered(
        self: &Arc<Self>,
        number: u64,
        body: Body,
        links: u64,
        charges: Vec<Charge>,
        time: SystemTime,
    ) -> Arc<Inode> {
        Arc::new(Inode {
            number,
            filesystem: Arc::clone(self),
            body,
            links: AtomicU64::new(links),
            pins: AtomicU32::new(0),
            times: Mutex::new(Times {
                accessed: time,
                modified: time,
                changed: time,
            }),
            _charges: charges,
        })
    }

    fn directory(&self, parent: Weak<Inode>, unread: Option<Arc<LayerDirectory>>) -> Body {
        let charge = Charge::none(&self.quota.bookkeeping);
        Body::Directory(RwLock::new(Directory::new(parent, unread, charge)))
    }

    fn make(self: &Arc<Self>, parent: &Arc<Inode>, new: New<'_>) -> Result<Arc<Inode>, Errno> {
        let text = match new {
            New::Symlink(target) => target.len(),
            New::File | New::Directory => 0,
        };
        let charges = self.quota.inode(text)?.into();
        let (body, links) = match new {
            New::File => (self.file(Bytes::new()), 1),
            New::Directory => (self.directory(Arc::downgrade(parent), None), 2),
            New::Symlink(target) => (Body::Symlink(target.into()), 1),
        };
        Ok(self.inode(body, links, charges, self.now()))
    }

    fn file(&self, base: Bytes) -> Body {
        Body::File(RwLock::new(Contents::new(base, &self.quota.contents)))
    }

    /// Files of an image cost the pod their bookkeeping, but none of its inodes and storage.
    fn from_layer(
        self: &Arc<Self>,
        node: &LayerNode,
        parent: Weak<Inode>,
    ) -> Result<Arc<Inode>, Errno> {
        let charge = Charge::of(&self.quota.bookkeeping, INODE_BYTES);
        let charge = charge.map_err(|_| Errno::NoMemory)?;
        let (body, links) = match node {
            LayerNode::File(contents) => (self.file(contents.clone()), 1),
            LayerNode::Symlink(target) => (Body::Symlink(target.clone()), 1),
            LayerNode::Directory(directory) => {
                let nested = directory
                    .entries
                    .values()
                    .filter(|node| node.is_directory());
                let links = 2 + nested.count() as u64;
                (self.directory(parent, Some(Arc::clone(directory))), links)
            }
        };
        Ok(self.inode(body, links, vec![charge], self.origin))
    }
}

impl LayerNode {
    fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }
}

/// The operations of a directory. Names have been checked by the walk.
impl Inode {
    pub fn lookup(self: &Arc<Self>, name: &str) -> Result<Option<Arc<Self>>, Errno> {
        if let Body::Host(node) = &self.body {
            return node.lookup(&self.filesystem, name);
        }
        Ok(self.entries()?.get(name).cloned())
    }

    pub fn list(self: &Arc<Self>, from: u64, limit: usize) -> Result<Vec<Entry>, Errno> {
        if let Body::Host(node) = &self.body {
            return node.list(from, limit);
        }
        Ok(self.entries()?.list(from, limit))
    }

    /// Makes an entry that must not exist yet.
    pub fn create(self: &Arc<Self>, name: &str, new: New<'_>) -> Result<Arc<Self>, Errno> {
        if let Body::Host(node) = &self.body {
            return node.create(&self.filesystem, name, new);
        }
        let mut entries = self.entries_mut()?;
        if entries.removed {
            return Err(Errno::NoEntry);
        }
        if entries.get(name).is_some() {
            return Err(Errno::Exist);
        }
        let inode = self.filesystem.make(self, new)?;
        entries.reserve(name)?;
        entries.insert_reserved(name, Arc::clone(&inode));
        if new == New::Directory {
            self.links.fetch_add(1, Ordering::Relaxed);
        }
        self.touch_entries(inode.times().modified);
        Ok(inode)
    }

    /// Gives a file or symbolic link one more name.
    pub fn link(self: &Arc<Self>, name: &str, inode: &Arc<Self>) -> Result<(), Errno> {
        if !Arc::ptr_eq(&self.filesystem, &inode.filesystem) {
            return Err(Errno::CrossDevice);
        }
        if let Body::Host(node) = &self.body {
            return node.link(&self.filesystem, name, inode);
        }
        let mut entries = self.entries_mut()?;
        if entries.removed {
            return Err(Errno::NoEntry);
        }
        if entries.get(name).is_some() {
            return Err(Errno::Exist);
        }
        if inode.kind() == Kind::Directory {
            return Err(Errno::NotPermitted);
        }
        entries.reserve(name)?;
        let more = |links| (links > 0).then_some(links + 1);
        let linked = inode
            .links
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if linked.is_err() {
            entries.unreserve(name);
            return Err(Errno::NoEntry);
        }
        entries.insert_reserved(name, Arc::clone(inode));
        let now = self.filesystem.now();
        inode.touch_status(now);
        self.touch_entries(now);
        Ok(())
    }

    /// Removes the name of anything but a directory.
    pub fn unlink(self: &Arc<Self>, name: &str) -> Result<(), Errno> {
        if let Body::Host(node) = &self.body {
            return node.unlink(&self.filesystem, name);
        }
        let mut entries = self.entries_mut()?;
        let inode = entries.get(name).ok_or(Errno::NoEntry)?;
        if inode.kind() == Kind::Directory {
            return Err(Errno::IsDirectory);
        }
        if inode.is_pinned() {
            return Err(Errno::Busy);
        }
        let removed = entries.remove(name);
        drop(entries);
        let now = self.filesystem.now();
        if let Some(inode) = removed {
            inode.links.fetch_sub(1, Ordering::Relaxed);
            inode.touch_status(now);
        }
        self.touch_entries(now);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_directory(self: &Arc<Self>, name: &str) -> Result<(), Errno> {
        if let Body::Host(node) = &self.body {
            return node.remove_directory(&self.filesystem, name);
        }
        let _tree = self.filesystem.tree();
        let mut entries = self.entries_mut()?;
        let child = entries.get(name).cloned().ok_or(Errno::NoEntry)?;
        child.retire()?;
        entries.remove(name);
        self.links.fetch_sub(1, Ordering::Relaxed);
        self.touch_entries(self.filesystem.now());
        Ok(())
    }

    /// Keeps the inode where it is, because something is mounted on it.
    pub fn pin(&self) -> Result<(), Errno> {
        let _tree = self.filesystem.tree();
        if self.links.load(Ordering::Relaxed) == 0 {
            return Err(Errno::NoEntry);
        }
        self.pins.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub fn unpin(&self) {
        self.pins.fetch_sub(1, Ordering::Relaxed);
    }

    /// Marks an empty directory as removed; nothing can be created in it from here on.
    pub(super) fn retire(self: &Arc<Self>) -> Result<(), Errno> {
        let mut entries = self.entries_mut()?;
        if self.is_pinned() {
            return Err(Errno::Busy);
        }
        if !entries.is_empty() {
            return Err(Errno::NotEmpty);
        }
        entries.removed = true;
        self.links.store(0, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn entries(self: &Arc<Self>) -> Result<RwLockReadGuard<'_, Directory>, Errno> {
        let Body::Directory(directory) = &self.body else {
            return Err(Errno::NotDirectory);
        };
        let entries = read(directory);
        if entries.unread.is_none() {
            return Ok(entries);
        }
        drop(entries);
        self.fill(&mut write(directory))?;
        Ok(read(directory))
    }

    pub(super) fn entries_mut(self: &Arc<Self>) -> Result<RwLockWriteGuard<'_, Directory>, Errno> {
        let Body::Directory(directory) = &self.body else {
            return Err(Errno::NotDirectory);
        };
        let mut entries = write(directory);
        self.fill(&mut entries)?;
        Ok(entries)
    }

    /// Makes the inodes of what the image has in this directory: all of them, or none.
    fn fill(self: &Arc<Self>, entries: &mut Directory) -> Result<(), Errno> {
        let Some(layer) = entries.unread.take() else {
            return Ok(());
        };
        let parent = Arc::downgrade(self);
        for (name, node) in &layer.entries {
            let made = self.filesystem.from_layer(node, parent.clone());
            let reserved = made.and_then(|inode| entries.reserve(name).map(|()| inode));
            let Ok(inode) = reserved else {
                for name in layer.entries.keys() {
                    entries.remove(name);
                }
                entries.unread = Some(layer);
                return Err(Errno::NoMemory);
            };
            entries.insert_reserved(name, inode);
        }
        Ok(())
    }
}
