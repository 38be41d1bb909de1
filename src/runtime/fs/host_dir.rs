//! Directories of the host: `hostPath` and persistent volumes.
//!
//! The kernel keeps the state; this backend only lets nothing out. Every name is looked up alone,
//! relative to a directory that is held open, by `openat2` with `RESOLVE_BENEATH` and without
//! following links or crossing mounts; links are followed and `..` is resolved above, in
//! [`super::walk`], which never passes the volume's root. So a host program that renames things
//! meanwhile, or a link that somebody planted, leads nowhere. What is neither file, directory nor
//! link (devices, sockets, pipes) cannot be opened and is not listed.
//!
//! A file that several descriptors, containers or pods have open is one inode here too
//! ([`Host::open`]): its quota has one lock, and its charge is given back when the last of them
//! goes. A volume without a quota takes no lock for a write. Calls wait for the disk like those of
//! any process, which is why guests that can make them are polled on threads of their own
//! (`runtime/disk.rs`). Each inode in use costs the worker two
//! descriptors, which is why a volume may have only [`MAX_OPEN`] at a time.

mod entries;
mod filesystem;
mod volumes;
mod write;

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno as Os;

pub use volumes::HostVolumes;

use super::errno::Errno;
use super::inode::{Inode, Kind, NewTime, Stat, Times};
use super::mem::Filesystem;
use super::quota::Charge;
use crate::runtime::budget::Budget;

/// Inodes of one volume that are in use at a time.
pub const MAX_OPEN: u64 = 512;

/// What a filesystem on a host's directory has besides what all filesystems have.
#[derive(Debug)]
pub struct Host {
    /// The inodes in use by the kernel's number. An open descriptor keeps the number from reuse.
    open: Mutex<HashMap<u64, Weak<Inode>>>,
    descriptors: Arc<Budget>,
    /// Growth is counted only where there is a limit.
    is_limited: bool,
}

/// Something in a directory of the host.
#[derive(Debug)]
pub struct HostNode {
    /// Opened with `O_PATH`: names the inode, reads nothing.
    handle: OwnedFd,
    kind: Kind,
    /// For reading and, where the host permits, writing; opened at the first use.
    data: OnceLock<OwnedFd>,
    /// Orders changes of the size, so that each is charged once.
    size: Mutex<()>,
    /// No name leads here any more: the last user gives the charges back.
    is_orphan: AtomicBool,
    #[cfg(test)]
    syncs: std::sync::atomic::AtomicUsize,
    _descriptor: Charge,
}

impl Host {
    fn new(is_limited: bool) -> Self {
        Self {
            open: Mutex::default(),
            descriptors: Budget::new(MAX_OPEN),
            is_limited,
        }
    }

    /// The inode that `handle` names: the one in use, or a new one.
    fn inode(&self, filesystem: &Arc<Filesystem>, handle: OwnedFd) -> Result<Arc<Inode>, Errno> {
        let stat = rustix::fs::fstat(&handle).map_err(errno)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Err(Errno::Access),
        };
        let mut open = self.open();
        if let Some(inode) = open.get(&stat.st_ino).and_then(Weak::upgrade) {
            return Ok(inode);
        }
        let descriptor = Charge::of(&self.descriptors, 1).map_err(|_| Errno::TooManyOpenFiles)?;
        let node = HostNode {
            handle,
            kind,
            data: OnceLock::new(),
            size: Mutex::default(),
            is_orphan: AtomicBool::new(false),
            #[cfg(test)]
            syncs: std::sync::atomic::AtomicUsize::new(0),
            _descriptor: descriptor,
        };
        let inode = filesystem.host_inode(stat.st_ino, node);
        open.insert(stat.st_ino, Arc::downgrade(&inode));
        Ok(inode)
    }

    /// The last user of an inode has gone.
    pub(super) fn forget(&self, number: u64) {
        let mut open = self.open();
        // Another may have come meanwhile under the same number.
        if open
            .get(&number)
            .is_some_and(|weak| weak.strong_count() == 0)
        {
            open.remove(&number);
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Weak<Inode>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostNode {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn stat(&self, device: u64) -> Result<Stat, Errno> {
        let stat = rustix::fs::fstat(&self.handle).map_err(errno)?;
        Ok(Stat {
            device,
            inode: stat.st_ino,
            kind: self.kind,
            links: stat.st_nlink,
            size: match self.kind {
                Kind::Directory => 0,
                Kind::File | Kind::Symlink => stat.st_size.cast_unsigned(),
            },
            times: Times {
                accessed: time(stat.st_atime, stat.st_atime_nsec),
                modified: time(stat.st_mtime, stat.st_mtime_nsec),
                changed: time(stat.st_ctime, stat.st_ctime_nsec),
            },
        })
    }

    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut buffers = [IoSliceMut::new(buffer)];
        rustix::io::preadv(self.data()?, &mut buffers, offset).map_err(errno)
    }

    pub fn set_times(&self, accessed: NewTime, modified: NewTime) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: new_time(accessed)?,
            last_modification: new_time(modified)?,
        };
        rustix::fs::utimensat(&self.handle, "", &times, AtFlags::EMPTY_PATH).map_err(errno)
    }

    pub fn target(&self) -> Result<String, Errno> {
        if self.kind != Kind::Symlink {
            return Err(Errno::Invalid);
        }
        let target = rustix::fs::readlinkat(&self.handle, "", Vec::new()).map_err(errno)?;
        target.into_string().map_err(|_| Errno::IllegalByteSequence)
    }

    pub fn sync(&self) -> Result<(), Errno> {
        // Nothing but the kernel sees a flush, so tests count the calls.
        #[cfg(test)]
        self.syncs.fetch_add(1, Ordering::Relaxed);
        match self.kind {
            Kind::File => rustix::fs::fsync(self.data()?).map_err(errno),
            Kind::Directory => rustix::fs::fsync(self.listing()?).map_err(errno),
            Kind::Symlink => Ok(()),
        }
    }

    pub fn sync_data(&self) -> Result<(), Errno> {
        if self.kind != Kind::File {
            return self.sync();
        }
        // Nothing but the kernel sees a flush, so tests count the calls.
        #[cfg(test)]
        self.syncs.fetch_add(1, Ordering::Relaxed);
        rustix::fs::fdatasync(self.data()?).map_err(errno)
    }

    #[cfg(test)]
    pub(super) fn flushes(&self) -> usize {
        self.syncs.load(Ordering::Relaxed)
    }

    /// What is charged for the file when nobody can reach it any more.
    pub(super) fn give_back(&self, filesystem: &Filesystem) {
        if !self.is_orphan.load(Ordering::Relaxed) {
            return;
        }
        filesystem.inodes().forgive(1);
        if self.kind == Kind::File && filesystem.is_limited_host() {
            filesystem.contents().forgive(self.len().unwrap_or(0));
        }
    }

    fn len(&self) -> Result<u64, Errno> {
        let stat = rustix::fs::fstat(&self.handle).map_err(errno)?;
        Ok(stat.st_size.cast_unsigned())
    }

    fn data(&self) -> Result<&OwnedFd, Errno> {
        match self.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::IsDirectory),
            Kind::Symlink => return Err(Errno::Invalid),
        }
        if let Some(data) = self.data.get() {
            return Ok(data);
        }
        let opened = match self.reopen(OFlags::RDWR) {
            Err(Os::ACCESS | Os::ROFS | Os::TXTBSY | Os::PERM) => self.reopen(OFlags::RDONLY),
            opened => opened,
        };
        let opened = opened.map_err(errno)?;
        // Another thread may have been faster; then this descriptor is closed again.
        Ok(self.data.get_or_init(|| opened))
    }

    /// A descriptor of its own for reading a directory, because it has a position.
    fn listing(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.handle, ".", flags, Mode::empty()).map_err(errno)
    }

    /// The same inode, not the same name: names may have moved.
    fn reopen(&self, flags: OFlags) -> Result<OwnedFd, Os> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::open(self.proc_path(), flags, Mode::empty())
    }

    fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd())
    }

    fn size(&self) -> MutexGuard<'_, ()> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn time(seconds: i64, nanos: u64) -> SystemTime {
    let nanos = Duration::from_nanos(nanos);
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    at.and_then(|at| at.checked_add(nanos))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn new_time(time: NewTime) -> Result<Timespec, Errno> {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    match time {
        NewTime::Keep => Ok(special(UTIME_OMIT)),
        NewTime::Now => Ok(special(UTIME_NOW)),
        NewTime::At(time) => {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            let since = since.map_err(|_| Errno::Invalid)?;
            Ok(Timespec {
                tv_sec: i64::try_from(since.as_secs()).map_err(|_| Errno::Overflow)?,
                tv_nsec: since.subsec_nanos().into(),
            })
        }
    }
}

/// The kernel's word in ours.
fn errno(error: Os) -> Errno {
    match error {
        Os::ACCESS => Errno::Access,
        Os::BADF => Errno::BadDescriptor,
        Os::BUSY => Errno::Busy,
        Os::EXIST => Errno::Exist,
        Os::FBIG => Errno::FileTooLarge,
        Os::ILSEQ => Errno::IllegalByteSequence,
        Os::INTR => Errno::Interrupted,
        Os::INVAL => Errno::Invalid,
        Os::ISDIR => Errno::IsDirectory,
        Os::LOOP => Errno::Loop,
        Os::NAMETOOLONG => Errno::NameTooLong,
        Os::NOENT => Errno::NoEntry,
        Os::NOMEM => Errno::NoMemory,
        Os::NOSPC => Errno::NoSpace,
        Os::NOTDIR => Errno::NotDirectory,
        Os::NOTEMPTY => Errno::NotEmpty,
        Os::PERM => Errno::NotPermitted,
        Os::OVERFLOW => Errno::Overflow,
        Os::DQUOT => Errno::Quota,
        Os::ROFS => Errno::ReadOnly,
        Os::TXTBSY => Errno::TextFileBusy,
        Os::MLINK => Errno::TooManyLinks,
        Os::MFILE | Os::NFILE => Errno::TooManyOpenFiles,
        Os::OPNOTSUPP => Errno::Unsupported,
        Os::XDEV => Errno::CrossDevice,
        _ => Errno::Io,
    }
}

#[cfg(test)]
mod tests;
