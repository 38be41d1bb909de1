//! A container's view of the pod's filesystem: the shared root with the container's own mounts.
//!
//! A mount sits on an inode of the mount it is visible in, as in Linux; the key is (mount, device,
//! inode). A mount's root is an inode, or the current root of a projected volume, which is looked
//! up at each crossing and so changes atomically. A place knows its mount, hence "read-only" is a
//! property of the view: one container may write where another only reads. Mount points are pinned
//! while the view lives, in every container's view.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::descriptor::{Access, Descriptor};
use super::errno::Errno;
use super::inode::{Inode, Kind};

#[derive(Debug)]
pub struct Mount {
    pub(super) number: u32,
    pub(super) source: Source,
    pub(super) read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug)]
pub enum Source {
    Fixed(Arc<Inode>),
    /// A projected volume, as it is now.
    Current(Arc<ArcSwap<Inode>>),
}

/// Something that a container sees: an inode, through a mount.
#[derive(Clone, Debug)]
pub struct Place {
    pub inode: Arc<Inode>,
    pub mount: Arc<Mount>,
}

/// One container's view.
#[derive(Debug)]
pub struct Root {
    base: Place,
    mounts: HashMap<(u32, u64, u64), Arc<Mount>>,
    working_dir: Option<Place>,
    pinned: Vec<Arc<Inode>>,
}

impl Mount {
    pub fn root(&self) -> Arc<Inode> {
        match &self.source {
            Source::Fixed(inode) => Arc::clone(inode),
            Source::Current(inode) => inode.load_full(),
        }
    }
}

impl Place {
    /// The entry `name` of this directory, through the mount that may sit on it.
    pub(super) fn lookup(&self, root: &Root, name: &str) -> Result<Option<Self>, Errno> {
        let Some(inode) = self.inode.lookup(name)? else {
            return Ok(None);
        };
        Ok(Some(root.cross(&self.mount, inode)))
    }

    pub(super) fn is_root_of(&self, root: &Root) -> bool {
        Arc::ptr_eq(&self.mount, &root.base.mount) && self.inode.is_same(&root.base.inode)
    }

    pub(super) fn writable(&self) -> Result<(), Errno> {
        if self.mount.read_only {
            return Err(Errno::ReadOnly);
        }
        Ok(())
    }

    /// Whether both are reached through the same mount, so that names can move between them.
    pub(super) fn same_mount(&self, other: &Self) -> Result<(), Errno> {
        if Arc::ptr_eq(&self.mount, &other.mount) {
            return Ok(());
        }
        Err(Errno::CrossDevice)
    }
}

impl Root {
    pub(super) fn new(base: Arc<Inode>, read_only: bool) -> Self {
        let mount = Arc::new(Mount {
            number: 0,
            source: Source::Fixed(Arc::clone(&base)),
            read_only,
        });
        Self {
            base: Place { inode: base, mount },
            mounts: HashMap::new(),
            working_dir: None,
            pinned: Vec::new(),
        }
    }

    /// Mounts `source` on `point`.
    pub(super) fn mount(
        &mut self,
        point: &Place,
        source: Source,
        read_only: bool,
    ) -> Result<(), Errno> {
        point.inode.pin()?;
        self.pinned.push(Arc::clone(&point.inode));
        let (device, inode) = point.inode.identity();
        let mount = Arc::new(Mount {
            number: self.pinned.len() as u32,
            source,
            read_only,
        });
        self.mounts
            .insert((point.mount.number, device, inode), mount);
        Ok(())
    }

    pub(super) fn set_working_dir(&mut self, place: Place) {
        self.working_dir = Some(place);
    }

    pub(super) fn base(&self) -> &Place {
        &self.base
    }

    /// The root directory, for the host's own reads and writes and for the first preopen.
    pub fn open(self: &Arc<Self>) -> Descriptor {
        self.descriptor(self.base.clone())
    }

    /// What a guest is given at its start: `.` if it has a working directory other than the root,
    /// then `/`. The order matters: wasi-libc takes the last preopen that matches, and to it both
    /// are prefixes of every path, so `/` must come last for absolute paths to work.
    pub fn preopens(self: &Arc<Self>) -> Vec<(String, Descriptor)> {
        let working_dir = self.working_dir.clone();
        let working_dir = working_dir.map(|place| (".".to_owned(), self.descriptor(place)));
        let root = ("/".to_owned(), self.open());
        working_dir.into_iter().chain([root]).collect()
    }

    fn descriptor(self: &Arc<Self>, place: Place) -> Descriptor {
        let access = Access {
            read: true,
            write: false,
            mutate: true,
        };
        Descriptor::new(Arc::clone(self), place, access)
    }

    /// Where `inode`, seen through `mount`, leads: to itself, or to the root of what is mounted.
    fn cross(&self, mount: &Arc<Mount>, inode: Arc<Inode>) -> Place {
        if self.mounts.is_empty() || inode.kind() == Kind::Symlink {
            let mount = Arc::clone(mount);
            return Place { inode, mount };
        }
        let (device, number) = inode.identity();
        match self.mounts.get(&(mount.number, device, number)) {
            Some(mounted) => Place {
                inode: mounted.root(),
                mount: Arc::clone(mounted),
            },
            None => Place {
                inode,
                mount: Arc::clone(mount),
            },
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for inode in &self.pinned {
            inode.unpin();
        }
    }
}
