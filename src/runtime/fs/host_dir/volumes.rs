//! From a path of the host to the root of a volume, once per worker.
//!
//! The operator's root is opened as any program would open it; everything below is resolved with
//! `RESOLVE_BENEATH`, so a link inside that leads out of the root is refused. Pods that use the same
//! directory share one filesystem: one quota, one lock per file. A quota starts with what is there,
//! which is counted by walking it once: a matter of milliseconds per thousand files, so whoever
//! opens a large volume should not do it on a thread that others wait for.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno as Os;

use super::{Host, errno};
use crate::clock::Clock;
use crate::runtime::budget::Budget;
use crate::runtime::fs::errno::Errno;
use crate::runtime::fs::inode::{Inode, Kind};
use crate::runtime::fs::mem::Filesystem;
use crate::runtime::fs::quota::Quota;
use crate::runtime::spec::{HostDirectory, HostDirectoryType};

/// Devices of the host's directories are told from those of pods by their numbers.
const FIRST_DEVICE: u64 = 1 << 32;
/// A volume with a capacity has one inode for so many bytes of it, and never fewer than a thousand.
const BYTES_PER_INODE: u64 = 4096;
const FEWEST_INODES: u64 = 1024;
/// Deeper trees than any path can name are not counted.
const MAX_DEPTH: usize = 2048;

/// The directories of the host that are in use on this worker.
#[derive(Debug)]
pub struct HostVolumes {
    open: Mutex<HashMap<PathBuf, Weak<Inode>>>,
    next_device: AtomicU64,
}

impl Default for HostVolumes {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            next_device: AtomicU64::new(FIRST_DEVICE),
        }
    }
}

impl HostVolumes {
    /// The root of a directory's filesystem; the one in use, if there is one.
    pub fn open(&self, directory: &HostDirectory, clock: &Clock) -> Result<Arc<Inode>, Errno> {
        let key = directory.root.join(&directory.path);
        let find = |open: &HashMap<PathBuf, Weak<Inode>>| open.get(&key).and_then(Weak::upgrade);
        if let Some(inode) = find(&self.lock()) {
            return check(inode, directory.expected);
        }
        let made = self.make(directory, clock)?;
        let mut open = self.lock();
        // Whoever opened it meanwhile was faster.
        let inode = find(&open).unwrap_or_else(|| {
            open.retain(|_, inode| inode.strong_count() > 0);
            open.insert(key, Arc::downgrade(&made));
            made
        });
        drop(open);
        check(inode, directory.expected)
    }

    fn make(&self, directory: &HostDirectory, clock: &Clock) -> Result<Arc<Inode>, Errno> {
        let handle = resolve(directory).map_err(errno)?;
        let unlimited = || Budget::new(u64::MAX);
        let quota = match directory.capacity {
            Some(bytes) => Quota {
                contents: Budget::new(bytes),
                bookkeeping: unlimited(),
                inodes: Budget::new((bytes / BYTES_PER_INODE).max(FEWEST_INODES)),
            },
            None => Quota {
                contents: unlimited(),
                bookkeeping: unlimited(),
                inodes: unlimited(),
            },
        };
        if directory.capacity.is_some() {
            let used = count(&handle).map_err(errno)?;
            // A volume that is over its capacity can be read and emptied; it cannot grow.
            quota.contents.overdraw(used.bytes);
            quota.inodes.overdraw(used.inodes);
        }
        let device = self.next_device.fetch_add(1, Ordering::Relaxed);
        let host = Host::new(directory.capacity.is_some());
        let filesystem = Filesystem::on_host(device, quota, clock.clone(), host);
        filesystem.host()?.inode(&filesystem, handle)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Weak<Inode>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(inode: Arc<Inode>, expected: HostDirectoryType) -> Result<Arc<Inode>, Errno> {
    use HostDirectoryType::{Any, Directory, DirectoryOrCreate, File, FileOrCreate};
    match (expected, inode.kind()) {
        (Any, Kind::File | Kind::Directory)
        | (Directory | DirectoryOrCreate, Kind::Directory)
        | (File | FileOrCreate, Kind::File) => Ok(inode),
        (Directory | DirectoryOrCreate, Kind::File | Kind::Symlink) => Err(Errno::NotDirectory),
        (File | FileOrCreate, Kind::Directory) => Err(Errno::IsDirectory),
        (Any | File | FileOrCreate, Kind::Symlink) => Err(Errno::Invalid),
    }
}

/// Opens the directory, made as its type says.
fn resolve(directory: &HostDirectory) -> Result<OwnedFd, Os> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(&directory.root, flags, Mode::empty())?;
    let names = names(&directory.path)?;
    match (below(&root, &names), directory.expected) {
        (Err(Os::NOENT), HostDirectoryType::DirectoryOrCreate | HostDirectoryType::Any) => {
            make_directories(&root, &names)?
        }
        (Err(Os::NOENT), HostDirectoryType::FileOrCreate) => make_file(&root, &names)?,
        (found, _) => return found,
    }
    below(&root, &names)
}

fn names(path: &Path) -> Result<Vec<&Path>, Os> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(Path::new(name)),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Os::PERM);
            }
        }
    }
    Ok(names)
}

fn below(root: &OwnedFd, names: &[&Path]) -> Result<OwnedFd, Os> {
    let path: PathBuf = std::iter::once(Path::new("."))
        .chain(names.iter().copied())
        .collect();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

fn make_directories(root: &OwnedFd, names: &[&Path]) -> Result<(), Os> {
    for (index, name) in names.iter().enumerate() {
        let parent = below(root, &names[..index])?;
        match rustix::fs::mkdirat(&parent, *name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Os::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn make_file(root: &OwnedFd, names: &[&Path]) -> Result<(), Os> {
    let (name, parents) = names.split_last().ok_or(Os::ISDIR)?;
    let parent = below(root, parents)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

#[derive(Default)]
struct Used {
    bytes: u64,
    inodes: u64,
}

/// What is in a directory; a file of several names counts once, the root does not.
fn count(root: &OwnedFd) -> Result<Used, Os> {
    let mut used = Used::default();
    let mut seen = HashSet::new();
    let mut within = vec![list(root, c".")?];
    while let Some(directory) = within.last_mut() {
        let Some(entry) = directory.read() else {
            within.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let at = directory.fd()?;
        let stat = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Os::NOENT) => continue,
            Err(error) => return Err(error),
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_directory = file_type == FileType::Directory;
        if !is_directory && stat.st_nlink > 1 && !seen.insert(stat.st_ino) {
            continue;
        }
        used.inodes += 1;
        if file_type == FileType::RegularFile {
            used.bytes = used.bytes.saturating_add(stat.st_size.cast_unsigned());
        }
        if is_directory {
            let child = list(at, name)?;
            if within.len() < MAX_DEPTH {
                within.push(child);
            }
        }
    }
    Ok(used)
}

fn list(at: impl AsFd, name: &CStr) -> Result<Dir, Os> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Dir::new(rustix::fs::openat(at, name, flags, Mode::empty())?)
}
