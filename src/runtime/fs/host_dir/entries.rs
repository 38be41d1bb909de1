//! The names in a directory of the host.
//!
//! Removing, linking and renaming take the filesystem's tree lock, so that "was that the last name?"
//! has one answer among our guests. Other programs of the host may change the directory at any time;
//! then the quota is wrong by what they did until the volume is opened again.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno as Os;

use super::{HostNode, errno};
use crate::runtime::fs::directory::Entry;
use crate::runtime::fs::errno::Errno;
use crate::runtime::fs::inode::{Body, Inode, Kind};
use crate::runtime::fs::mem::{Filesystem, New};

/// Bytes of names that are read at a time.
const LISTING: usize = 16 << 10;

impl HostNode {
    pub fn lookup(
        &self,
        filesystem: &Arc<Filesystem>,
        name: &str,
    ) -> Result<Option<Arc<Inode>>, Errno> {
        match self.find(name) {
            Ok(handle) => filesystem.host()?.inode(filesystem, handle).map(Some),
            Err(Os::NOENT) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    /// A single name is confined by being one; the flags say so to the kernel as well.
    pub(super) fn find(&self, name: &str) -> Result<OwnedFd, Os> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.handle, name, flags, Mode::empty(), resolve)
    }

    pub fn list(&self, from: u64, limit: usize) -> Result<Vec<Entry>, Errno> {
        if self.kind != Kind::Directory {
            return Err(Errno::NotDirectory);
        }
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        let directory = self.listing()?;
        if from > 0 {
            rustix::fs::seek(&directory, SeekFrom::Start(from)).map_err(errno)?;
        }
        let mut buffer = vec![MaybeUninit::uninit(); LISTING];
        let mut names = RawDir::new(&directory, &mut buffer);
        while let Some(entry) = names.next() {
            let entry = entry.map_err(errno)?;
            // Guests have no way to write a name that is not Unicode.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind_of(name),
                known => kind(known),
            };
            let Some(kind) = kind.filter(|_| name != "." && name != "..") else {
                continue;
            };
            entries.push(Entry {
                name: name.into(),
                kind,
                number: entry.ino(),
                next: entry.next_entry_cookie(),
            });
            if entries.len() >= limit {
                break;
            }
        }
        Ok(entries)
    }

    /// For filesystems that do not tell with the name.
    fn kind_of(&self, name: &str) -> Option<Kind> {
        let stat = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        kind(FileType::from_raw_mode(stat.st_mode))
    }

    pub fn create(
        &self,
        filesystem: &Arc<Filesystem>,
        name: &str,
        new: New<'_>,
    ) -> Result<Arc<Inode>, Errno> {
        let inodes = filesystem.inodes();
        inodes.charge(1).map_err(|_| Errno::NoSpace)?;
        if let Err(error) = self.make(name, new) {
            inodes.forgive(1);
            return Err(errno(error));
        }
        // A program of the host may have removed it already.
        self.lookup(filesystem, name)?.ok_or(Errno::NoEntry)
    }

    fn make(&self, name: &str, new: New<'_>) -> Result<(), Os> {
        match new {
            New::File => {
                let flags = OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::WRONLY
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o644);
                rustix::fs::openat(&self.handle, name, flags, mode).map(drop)
            }
            New::Directory => rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(0o755)),
            New::Symlink(target) => rustix::fs::symlinkat(target, &self.handle, name),
        }
    }

    /// One more name for `inode`, by what it is and not by the name it was found under.
    pub fn link(&self, filesystem: &Filesystem, name: &str, inode: &Inode) -> Result<(), Errno> {
        let Body::Host(node) = &inode.body else {
            return Err(Errno::CrossDevice);
        };
        if node.kind == Kind::Directory {
            return Err(Errno::NotPermitted);
        }
        let _tree = filesystem.tree();
        let from = node.proc_path();
        rustix::fs::linkat(CWD, from, &self.handle, name, AtFlags::SYMLINK_FOLLOW).map_err(errno)
    }

    pub fn unlink(&self, filesystem: &Arc<Filesystem>, name: &str) -> Result<(), Errno> {
        let _tree = filesystem.tree();
        let inode = self.removable(filesystem, name)?;
        if inode.kind() == Kind::Directory {
            return Err(Errno::IsDirectory);
        }
        rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()).map_err(errno)?;
        lost_a_name(&inode);
        Ok(())
    }

    pub fn remove_directory(&self, filesystem: &Arc<Filesystem>, name: &str) -> Result<(), Errno> {
        let _tree = filesystem.tree();
        let inode = self.removable(filesystem, name)?;
        rustix::fs::unlinkat(&self.handle, name, AtFlags::REMOVEDIR).map_err(errno)?;
        lost_a_name(&inode);
        Ok(())
    }

    pub fn rename(
        &self,
        filesystem: &Arc<Filesystem>,
        old: &str,
        to: &Self,
        new: &str,
    ) -> Result<(), Errno> {
        let _tree = filesystem.tree();
        let source = self.removable(filesystem, old)?;
        let target = to.lookup(filesystem, new)?;
        if target.as_ref().is_some_and(|target| target.is_pinned()) {
            return Err(Errno::Busy);
        }
        rustix::fs::renameat(&self.handle, old, &to.handle, new).map_err(errno)?;
        if let Some(target) = target.filter(|target| !target.is_same(&source)) {
            lost_a_name(&target);
        }
        Ok(())
    }

    fn removable(&self, filesystem: &Arc<Filesystem>, name: &str) -> Result<Arc<Inode>, Errno> {
        let inode = self.lookup(filesystem, name)?.ok_or(Errno::NoEntry)?;
        if inode.is_pinned() {
            return Err(Errno::Busy);
        }
        Ok(inode)
    }
}

/// Notes an inode that was reached by its last name; its last user pays back.
fn lost_a_name(inode: &Inode) {
    let Body::Host(node) = &inode.body else {
        return;
    };
    let links = rustix::fs::fstat(&node.handle).map_or(0, |stat| stat.st_nlink);
    // Some filesystems count a directory's links otherwise; a removed one is gone in any case.
    if links == 0 || node.kind == Kind::Directory {
        node.is_orphan.store(true, Ordering::Relaxed);
    }
}

fn kind(file_type: FileType) -> Option<Kind> {
    match file_type {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => None,
    }
}
