//! One file, directory or symbolic link: what a name points to and what a descriptor holds.
//!
//! An inode lives as long as somebody holds it — a directory entry, an open descriptor, a mount —
//! and gives its charges back when the last of them goes; "unlinked while open" needs no code.
//! Locks: each file's contents have a read-write lock, each directory's entries another, and the
//! times a small mutex; changes of the tree are ordered by [`Filesystem::tree`]. A lock is held for
//! a memory copy at most and never across an await. The cost: two writers of one file take turns.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use super::contents::Contents;
use super::directory::Directory;
use super::errno::Errno;
use super::host_dir::HostNode;
use super::mem::Filesystem;
use super::quota::Charge;

#[derive(Debug)]
pub struct Inode {
    pub(super) number: u64,
    pub(super) filesystem: Arc<Filesystem>,
    pub(super) body: Body,
    pub(super) links: AtomicU64,
    /// Mounts that sit on this inode; it can be neither removed nor renamed meanwhile.
    pub(super) pins: AtomicU32,
    pub(super) times: Mutex<Times>,
    pub(super) _charges: Vec<Charge>,
}

#[derive(Debug)]
pub enum Body {
    File(RwLock<Contents>),
    Directory(RwLock<Directory>),
    Symlink(Box<str>),
    /// Something in a directory of the host; the kernel keeps its state.
    Host(HostNode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Directory,
    Symlink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub accessed: SystemTime,
    pub modified: SystemTime,
    pub changed: SystemTime,
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub device: u64,
    pub inode: u64,
    pub kind: Kind,
    pub links: u64,
    pub size: u64,
    pub times: Times,
}

/// What to set a time to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewTime {
    Keep,
    Now,
    At(SystemTime),
}

impl Inode {
    pub fn kind(&self) -> Kind {
        match &self.body {
            Body::File(_) => Kind::File,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Host(node) => node.kind(),
        }
    }

    /// Whether both are the same object.
    pub fn is_same(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// Device and inode number.
    pub fn identity(&self) -> (u64, u64) {
        (self.filesystem.device, self.number)
    }

    pub fn stat(&self) -> Result<Stat, Errno> {
        let size = match &self.body {
            Body::File(contents) => read(contents).size(),
            Body::Directory(_) => 0,
            Body::Symlink(target) => target.len() as u64,
            Body::Host(node) => return node.stat(self.filesystem.device),
        };
        Ok(Stat {
            device: self.filesystem.device,
            inode: self.number,
            kind: self.kind(),
            links: self.links.load(Ordering::Relaxed),
            size,
            times: *self.times(),
        })
    }

    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let count = match &self.body {
            Body::File(contents) => read(contents).read_at(offset, buffer),
            Body::Host(node) => return node.read_at(offset, buffer),
            Body::Directory(_) => return Err(Errno::IsDirectory),
            Body::Symlink(_) => return Err(Errno::Invalid),
        };
        if count > 0 {
            self.mark_accessed();
        }
        Ok(count)
    }

    /// Like [`Inode::read_at`], into a new vector of at most `max` bytes; empty is the end.
    pub fn read_vec(&self, offset: u64, max: usize) -> Result<Vec<u8>, Errno> {
        if let Body::File(contents) = &self.body {
            let bytes = read(contents).read_vec(offset, max);
            if !bytes.is_empty() {
                self.mark_accessed();
            }
            return Ok(bytes);
        }
        let left = self.stat()?.size.saturating_sub(offset);
        let mut bytes = vec![0; left.min(max as u64) as usize];
        let count = self.read_at(offset, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Writes all buffers as one, as far as the quota goes: at least one byte, or it fails.
    pub fn write_at(&self, offset: u64, buffers: &[&[u8]]) -> Result<usize, Errno> {
        let count = match &self.body {
            Body::Host(node) => return node.write_at(&self.filesystem, offset, buffers),
            Body::File(_) | Body::Directory(_) | Body::Symlink(_) => {
                write_all(&mut *self.contents()?, offset, buffers)?
            }
        };
        self.mark_written(count);
        Ok(count)
    }

    /// Writes at the end, which nobody else moves meanwhile, and says where the end now is.
    pub fn append(&self, buffers: &[&[u8]]) -> Result<(usize, u64), Errno> {
        if let Body::Host(node) = &self.body {
            return node.append(&self.filesystem, buffers);
        }
        let (count, end) = {
            let mut contents = self.contents()?;
            let end = contents.size();
            let count = write_all(&mut contents, end, buffers)?;
            (count, end + count as u64)
        };
        self.mark_written(count);
        Ok((count, end))
    }

    pub fn set_len(&self, len: u64) -> Result<(), Errno> {
        match &self.body {
            Body::Host(node) => return node.set_len(&self.filesystem, len),
            Body::File(_) | Body::Directory(_) | Body::Symlink(_) => {
                self.contents()?.set_len(len)?;
            }
        }
        self.mark_written(1);
        Ok(())
    }

    /// Reserves room for a range, and lengthens the file to hold it.
    pub fn allocate(&self, offset: u64, length: u64) -> Result<(), Errno> {
        match &self.body {
            Body::Host(node) => return node.allocate(&self.filesystem, offset, length),
            Body::File(_) | Body::Directory(_) | Body::Symlink(_) => {
                self.contents()?.allocate(offset, length)?;
            }
        }
        self.mark_written(1);
        Ok(())
    }

    pub fn set_times(&self, accessed: NewTime, modified: NewTime) -> Result<(), Errno> {
        if let Body::Host(node) = &self.body {
            return node.set_times(accessed, modified);
        }
        let now = self.filesystem.now();
        let pick = |new: NewTime, old: SystemTime| match new {
            NewTime::Keep => old,
            NewTime::Now => now,
            NewTime::At(time) => time,
        };
        let mut times = self.times();
        times.accessed = pick(accessed, times.accessed);
        times.modified = pick(modified, times.modified);
        times.changed = now;
        Ok(())
    }

    /// Where a symbolic link points.
    pub fn target(&self) -> Result<String, Errno> {
        match &self.body {
            Body::Symlink(target) => Ok(target.to_string()),
            Body::Host(node) => node.target(),
            Body::File(_) | Body::Directory(_) => Err(Errno::Invalid),
        }
    }

    pub fn sync(&self) -> Result<(), Errno> {
        match &self.body {
            Body::Host(node) => node.sync(),
            Body::File(_) | Body::Directory(_) | Body::Symlink(_) => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn flushes(&self) -> usize {
        match &self.body {
            Body::Host(node) => node.flushes(),
            Body::File(_) | Body::Directory(_) | Body::Symlink(_) => 0,
        }
    }

    pub fn sync_data(&self) -> Result<(), Errno> {
        match &self.body {
            Body::Host(node) => node.sync_data(),
            Body::File(_) | Body::Directory(_) | Body::Symlink(_) => Ok(()),
        }
    }

    /// The modification of an entry of this directory.
    pub(super) fn touch_entries(&self, now: SystemTime) {
        let mut times = self.times();
        times.modified = now;
        times.changed = now;
    }

    pub(super) fn touch_status(&self, now: SystemTime) {
        self.times().changed = now;
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Relaxed) > 0
    }

    fn contents(&self) -> Result<RwLockWriteGuard<'_, Contents>, Errno> {
        match &self.body {
            Body::File(contents) => Ok(contents.write().unwrap_or_else(PoisonError::into_inner)),
            Body::Directory(_) => Err(Errno::IsDirectory),
            Body::Symlink(_) | Body::Host(_) => Err(Errno::Invalid),
        }
    }

    pub(super) fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `relatime`: the first access after a modification is noted, the others cost no clock.
    fn mark_accessed(&self) {
        let mut times = self.times();
        if times.accessed <= times.modified {
            times.accessed = self.filesystem.now();
        }
    }

    fn mark_written(&self, count: usize) {
        if count > 0 {
            self.touch_entries(self.filesystem.now());
        }
    }
}

impl Drop for Inode {
    /// Takes a tree down level by level: a guest may nest directories far deeper than a stack is.
    fn drop(&mut self) {
        let directory = match &mut self.body {
            Body::Directory(directory) => directory,
            Body::Host(node) => {
                node.give_back(&self.filesystem);
                self.filesystem.forget(self.number);
                return;
            }
            Body::File(_) | Body::Symlink(_) => return,
        };
        let directory = directory.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut orphans: Vec<Arc<Self>> = directory.drain().collect();
        while let Some(orphan) = orphans.pop() {
            if let Some(mut inode) = Arc::into_inner(orphan)
                && let Body::Directory(directory) = &mut inode.body
            {
                let directory = directory.get_mut().unwrap_or_else(PoisonError::into_inner);
                orphans.extend(directory.drain());
            }
        }
    }
}

fn write_all(contents: &mut Contents, offset: u64, buffers: &[&[u8]]) -> Result<usize, Errno> {
    let mut done = 0;
    for buffer in buffers {
        let count = match contents.write_at(offset.saturating_add(done as u64), buffer) {
            Ok(count) => count,
            // What was written already is the answer; the error comes again.
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        done += count;
        if count < buffer.len() {
            break;
        }
    }
    Ok(done)
}

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
