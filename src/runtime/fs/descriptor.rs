//! An open file or directory, and every operation a guest can ask of it.
//!
//! This is the filesystem as the three faces see it; they only translate flags and errors. A
//! descriptor is a place in one container's view plus what may be done through it. Whether a change
//! is allowed is decided here, once: the descriptor must carry the right to change directories
//! (otherwise EPERM, as wasmtime does), and the mount must be writable (otherwise EROFS).
//! Positions and append mode belong to WASI 0.1's table, not here.

mod open;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, MutexGuard, PoisonError};

pub use open::OpenOptions;

use super::directory::Entry;
use super::errno::Errno;
use super::inode::{Inode, Kind, NewTime, Stat};
use super::mem::New;
use super::mount::{Place, Root};
use super::rename::rename;
use super::walk::{Last, MAX_PATH, Target, walk};

#[derive(Clone, Debug)]
pub struct Descriptor {
    root: Arc<Root>,
    place: Place,
    access: Access,
}

/// What may be done through a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    /// Of a directory: what is below it may be changed. Inherited by what is opened through it.
    pub mutate: bool,
    /// The right to change was asked for, so it is also told.
    pub tells_mutate: bool,
    pub synchronized: Synchronized,
}

/// What reading and writing wait for: that the disk has what was written. In memory it always has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synchronized {
    /// A write waits for its data (`O_DSYNC`).
    pub data: bool,
    /// A write waits for its data and all that is known of the file (`O_SYNC`).
    pub file: bool,
    /// A read waits for what was written before it, as a write would (`O_RSYNC`).
    pub reads: bool,
}

impl Descriptor {
    pub(super) fn new(root: Arc<Root>, place: Place, access: Access) -> Self {
        Self {
            root,
            place,
            access,
        }
    }

    pub fn kind(&self) -> Kind {
        self.place.inode.kind()
    }

    pub fn access(&self) -> Access {
        self.access
    }

    /// The same object with fewer rights, for preopens that a guest may only read.
    pub fn read_only(mut self) -> Self {
        self.access = Access {
            read: self.access.read,
            ..Access::default()
        };
        self
    }

    pub fn stat(&self) -> Result<Stat, Errno> {
        self.place.inode.stat()
    }

    pub fn is_same_object(&self, other: &Self) -> bool {
        self.place.inode.is_same(&other.place.inode)
    }

    /// Changes when the file is modified or replaced.
    pub fn metadata_hash(&self) -> Result<(u64, u64), Errno> {
        hash(&self.place.inode)
    }

    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let inode = self.readable()?;
        check_offset(offset)?;
        if self.access.synchronized.reads {
            self.settle()?;
        }
        inode.read_at(offset, buffer)
    }

    /// The same into a new vector of at most `max` bytes; empty is the end.
    pub fn read_vec(&self, offset: u64, max: usize) -> Result<Vec<u8>, Errno> {
        let inode = self.readable()?;
        check_offset(offset)?;
        inode.read_vec(offset, max)
    }

    /// Writes all buffers as one, as far as the quota goes: at least one byte, or it fails.
    pub fn write_at(&self, offset: u64, buffers: &[&[u8]]) -> Result<usize, Errno> {
        let inode = self.writable()?;
        check_offset(offset)?;
        let count = inode.write_at(offset, buffers)?;
        self.settle()?;
        Ok(count)
    }

    /// Writes at the end of the file in one step, and says where the end now is.
    pub fn append(&self, buffers: &[&[u8]]) -> Result<(usize, u64), Errno> {
        let appended = self.writable()?.append(buffers)?;
        self.settle()?;
        Ok(appended)
    }

    /// Waits for the disk, if this descriptor was opened to.
    fn settle(&self) -> Result<(), Errno> {
        match self.access.synchronized {
            Synchronized { file: true, .. } => self.sync(),
            Synchronized { data: true, .. } => self.sync_data(),
            Synchronized { .. } => Ok(()),
        }
    }

    /// Fails if reading would.
    pub fn readable(&self) -> Result<&Inode, Errno> {
        match self.kind() {
            Kind::Directory => Err(Errno::IsDirectory),
            Kind::File | Kind::Symlink if self.access.read => Ok(&self.place.inode),
            Kind::File | Kind::Symlink => Err(Errno::BadDescriptor),
        }
    }

    /// Fails if writing would.
    pub fn writable(&self) -> Result<&Inode, Errno> {
        match self.kind() {
            Kind::File | Kind::Symlink if self.access.write => Ok(&self.place.inode),
            // No directory is open for writing.
            Kind::File | Kind::Symlink | Kind::Directory => Err(Errno::BadDescriptor),
        }
    }

    /// Fails if a stream of writes would; a right that was never given is EPERM there.
    pub fn streamable(&self) -> Result<(), Errno> {
        if self.kind() == Kind::File && !self.access.write && !self.access.mutate {
            return Err(Errno::NotPermitted);
        }
        self.writable().map(|_| ())
    }

    pub fn require_file(&self) -> Result<(), Errno> {
        match self.kind() {
            Kind::File => Ok(()),
            Kind::Directory | Kind::Symlink => Err(Errno::BadDescriptor),
        }
    }

    pub fn set_len(&self, len: u64) -> Result<(), Errno> {
        match self.kind() {
            Kind::File | Kind::Symlink if self.access.write => self.place.inode.set_len(len),
            Kind::File | Kind::Symlink | Kind::Directory => Err(Errno::Invalid),
        }
    }

    /// Reserves room for a range of the file, which becomes as long as that if it is shorter.
    pub fn allocate(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let inode = self.writable()?;
        check_offset(offset)?;
        if length == 0 {
            return Err(Errno::Invalid);
        }
        inode.allocate(offset, length)
    }

    /// Times belong to the owner, not to the way a file was opened; a read-only view has no owner.
    pub fn set_times(&self, accessed: NewTime, modified: NewTime) -> Result<(), Errno> {
        self.place.writable()?;
        if !self.access.write && !self.access.mutate {
            return Err(Errno::NotPermitted);
        }
        self.place.inode.set_times(accessed, modified)
    }

    pub fn sync(&self) -> Result<(), Errno> {
        self.place.inode.sync()
    }

    /// How often the disk was waited for.
    #[cfg(test)]
    pub(super) fn flushes(&self) -> usize {
        self.place.inode.flushes()
    }

    pub fn sync_data(&self) -> Result<(), Errno> {
        self.place.inode.sync_data()
    }

    /// Up to `limit` entries from the cookie `from` on, without `.` and `..`.
    pub fn list(&self, from: u64, limit: usize) -> Result<Vec<Entry>, Errno> {
        self.place.inode.list(from, limit)
    }

    pub fn stat_at(&self, path: &str, follow: bool) -> Result<Stat, Errno> {
        self.at(path, follow)?.inode.stat()
    }

    pub fn metadata_hash_at(&self, path: &str, follow: bool) -> Result<(u64, u64), Errno> {
        hash(&self.at(path, follow)?.inode)
    }

    pub fn set_times_at(
        &self,
        path: &str,
        follow: bool,
        accessed: NewTime,
        modified: NewTime,
    ) -> Result<(), Errno> {
        self.mutable()?;
        let place = self.at(path, follow)?;
        place.writable()?;
        place.inode.set_times(accessed, modified)
    }

    pub fn read_link_at(&self, path: &str) -> Result<String, Errno> {
        self.at(path, false)?.inode.target()
    }

    pub fn create_directory_at(&self, path: &str) -> Result<(), Errno> {
        let named = self.entry(path)?.named(Errno::Exist)?;
        if named.found.is_some() {
            return Err(Errno::Exist);
        }
        named.parent.writable()?;
        named.parent.inode.create(&named.name, New::Directory)?;
        Ok(())
    }

    pub fn symlink_at(&self, target: &str, path: &str) -> Result<(), Errno> {
        match target {
            "" => return Err(Errno::NoEntry),
            long if long.len() >= MAX_PATH => return Err(Errno::NameTooLong),
            text if text.contains('\0') => return Err(Errno::Invalid),
            absolute if absolute.starts_with('/') => return Err(Errno::NotPermitted),
            _ => {}
        }
        let named = self.entry(path)?.named(Errno::Exist)?;
        named.free()?;
        named.not_slash()?;
        named.parent.writable()?;
        named
            .parent
            .inode
            .create(&named.name, New::Symlink(target))?;
        Ok(())
    }

    /// Makes `new_path` another name of what is at `path`; a symbolic link there is linked itself.
    pub fn link_at(&self, path: &str, new: &Self, new_path: &str) -> Result<(), Errno> {
        self.mutable()?;
        let source = walk(&self.root, &self.place, path, Last::Keep)?.existing()?;
        let named = new.entry(new_path)?.named(Errno::Exist)?;
        named.free()?;
        if source.inode.kind() == Kind::Directory {
            return Err(Errno::NotPermitted);
        }
        named.not_slash()?;
        source.same_mount(&named.parent)?;
        named.parent.writable()?;
        named.parent.inode.link(&named.name, &source.inode)
    }

    pub fn unlink_at(&self, path: &str) -> Result<(), Errno> {
        let named = self.entry(path)?.named(Errno::IsDirectory)?;
        let found = named.found.as_ref().ok_or(Errno::NoEntry)?;
        if found.inode.kind() == Kind::Directory {
            return Err(Errno::IsDirectory);
        }
        named.not_slash()?;
        named.parent.writable()?;
        named.parent.inode.unlink(&named.name)
    }

    pub fn remove_directory_at(&self, path: &str) -> Result<(), Errno> {
        let is_parent = path.trim_end_matches('/').ends_with("..");
        let otherwise = if is_parent {
            Errno::NotEmpty
        } else {
            Errno::Invalid
        };
        let named = self.entry(path)?.named(otherwise)?;
        let found = named.found.as_ref().ok_or(Errno::NoEntry)?;
        if found.inode.kind() != Kind::Directory {
            return Err(Errno::NotDirectory);
        }
        named.parent.writable()?;
        named.parent.inode.remove_directory(&named.name)
    }

    pub fn rename_at(&self, path: &str, new: &Self, new_path: &str) -> Result<(), Errno> {
        let (from, to) = (self.entry(path)?, new.entry(new_path)?);
        let (from, to) = (from.named(Errno::Busy)?, to.named(Errno::Busy)?);
        let source = from.found.as_ref().ok_or(Errno::NoEntry)?;
        from.parent.same_mount(&to.parent)?;
        from.parent.writable()?;
        if source.inode.kind() != Kind::Directory && (from.slash || to.slash) {
            return Err(Errno::NotDirectory);
        }
        rename(&from.parent.inode, &from.name, &to.parent.inode, &to.name)
    }

    /// Held by who makes one change of several in this filesystem; others are not kept from theirs.
    pub fn alone(&self) -> MutexGuard<'_, ()> {
        let alone = &self.place.inode.filesystem.alone;
        alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, path: &str, follow: bool) -> Result<Place, Errno> {
        let last = if follow { Last::Follow } else { Last::Keep };
        walk(&self.root, &self.place, path, last)?.existing()
    }

    /// An entry that is about to be changed.
    fn entry(&self, path: &str) -> Result<Target, Errno> {
        self.mutable()?;
        walk(&self.root, &self.place, path, Last::Name)
    }

    fn mutable(&self) -> Result<(), Errno> {
        self.check_directory()?;
        if self.access.mutate {
            return Ok(());
        }
        Err(Errno::NotPermitted)
    }

    fn check_directory(&self) -> Result<(), Errno> {
        match self.kind() {
            Kind::Directory => Ok(()),
            Kind::File | Kind::Symlink => Err(Errno::NotDirectory),
        }
    }
}

/// Offsets are signed to the kernel, so they are to us.
fn check_offset(offset: u64) -> Result<(), Errno> {
    match i64::try_from(offset) {
        Ok(_) => Ok(()),
        Err(_) => Err(Errno::Invalid),
    }
}

fn hash(inode: &Inode) -> Result<(u64, u64), Errno> {
    let stat = inode.stat()?;
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, stat.device, stat.inode, stat.size).hash(&mut hasher);
        (stat.times.modified, stat.times.changed).hash(&mut hasher);
        hasher.finish()
    };
    Ok((half(0), half(1)))
}
