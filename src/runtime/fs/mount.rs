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

use super::descriptor::{Access, Descriptor, Synchronized};
use super::errno::Errno;
use super::inode::{Inode, Kind};

#[derive(Debug)]
pub struct Mount {
    pub(super) number: u32,
    pub(super) source: Source,
    pub(super) read_only: bool,
    /// Of the container's own root, where mount points are made also if it may not write itself.
    pub(super) is_root: bool,
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

/// What may be done through a directory that a guest is given.
const FULL: Access = Access {
    read: true,
    write: false,
    mutate: true,
    tells_mutate: true,
    synchronized: Synchronized {
        data: false,
        file: false,
        reads: false,
    },
};

/// One container's view.
#[derive(Debug)]
pub struct Root {
    base: Place,
    mounts: HashMap<(u32, u64, u64), Arc<Mount>>,
    preopens: Vec<(String, Place, Access)>,
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
            is_root: true,
        });
        Self {
            base: Place { inode: base, mount },
            mounts: HashMap::new(),
            preopens: Vec::new(),
            pinned: Vec::new(),
        }
    }

    /// Mounts a volume on `point`.
    pub(super) fn mount(
        &mut self,
        point: &Place,
        source: Source,
        read_only: bool,
    ) -> Result<(), Errno> {
        self.mount_as(point, source, (read_only, false))
    }

    /// Mounts a part of the container's image, which is as writable as its root.
    pub(super) fn mount_root(&mut self, point: &Place, inode: Arc<Inode>) -> Result<(), Errno> {
        let read_only = self.base.mount.read_only;
        self.mount_as(point, Source::Fixed(inode), (read_only, true))
    }

    fn mount_as(
        &mut self,
        point: &Place,
        source: Source,
        (read_only, is_root): (bool, bool),
    ) -> Result<(), Errno> {
        point.inode.pin()?;
        self.pinned.push(Arc::clone(&point.inode));
        let (device, inode) = point.inode.identity();
        let mount = Arc::new(Mount {
            number: self.pinned.len() as u32,
            source,
            read_only,
            is_root,
        });
        self.mounts
            .insert((point.mount.number, device, inode), mount);
        Ok(())
    }

    /// The same view once more, for further mounts that this one shall not have.
    pub(super) fn copy(&self) -> Result<Self, Errno> {
        let mut copy = Self {
            base: self.base.clone(),
            mounts: self.mounts.clone(),
            preopens: self.preopens.clone(),
            pinned: Vec::with_capacity(self.pinned.len()),
        };
        for inode in &self.pinned {
            inode.pin()?;
            copy.pinned.push(Arc::clone(inode));
        }
        Ok(copy)
    }

    pub(super) fn add_preopen(&mut self, name: &str, place: Place, read_only: bool) {
        let access = Access {
            mutate: !read_only,
            tells_mutate: !read_only,
            ..FULL
        };
        self.preopens.push((name.to_owned(), place, access));
    }

    pub(super) fn base(&self) -> &Place {
        &self.base
    }

    /// The root directory, for the host's own reads and writes and for the first preopen.
    pub fn open(self: &Arc<Self>) -> Descriptor {
        Descriptor::new(Arc::clone(self), self.base.clone(), FULL)
    }

    /// What a guest is given at its start, by name.
    pub fn preopens(self: &Arc<Self>) -> Vec<(String, Descriptor)> {
        let preopens = self.preopens.iter();
        preopens
            .map(|(name, place, access)| {
                let descriptor = Descriptor::new(Arc::clone(self), place.clone(), *access);
                (name.clone(), descriptor)
            })
            .collect()
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
