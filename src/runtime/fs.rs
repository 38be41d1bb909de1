//! The pod's virtual filesystem.
//!
//! One per pod, in memory, shared by its containers as a machine's disk is shared by its programs:
//! the pod has **one root** (with a `/tmp`), and each container sees it through a view of its own
//! ([`Root`]) with its volume mounts, its image's files and its read-only flags over it. What one
//! container writes below `/` the others see; what an image brings is private to the container
//! (its top-level directories are mounted copy-on-write over the shared root).
//!
//! Bounds: contents are charged to the pod's storage (and its memory), names and inodes to its
//! memory and its inode limit, all before allocating and returned on the last drop. Nothing here
//! waits, so nothing is async; nothing here knows WASI. Deliberately absent: permissions and users
//! (WASI has none), file locks, watching, device files.
//!
//! Reading order: `inode`, `contents`, `directory`, `mem`, `rename`, then `walk`, `mount`,
//! `descriptor`; `layer` and `projected` are where files come from.

pub mod contents;
pub mod descriptor;
pub mod directory;
pub mod errno;
pub mod host_dir;
pub mod inode;
pub mod layer;
pub mod mem;
pub mod mount;
pub mod projected;
pub mod quota;
pub mod rename;
pub mod view;
pub mod walk;
pub mod whole_file;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod posix_tests;
#[cfg(test)]
mod script;
#[cfg(test)]
mod view_tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use self::errno::Errno;
use self::inode::Inode;
use self::mem::Filesystem;
use self::quota::Quota;
use crate::clock::Clock;
use crate::runtime::budget::Budget;
use crate::runtime::spec::{PodLimits, ProjectedFile, VolumeSource, VolumeSpec};

pub use self::descriptor::{Access, Descriptor};
pub use self::host_dir::HostVolumes;
pub use self::layer::{Layer, LayerBuilder};
pub use self::mount::Root;
pub use self::view::{Preopen, RootSpec};

/// The filesystem of one pod.
#[derive(Debug)]
pub struct PodFs {
    root: Arc<Inode>,
    volumes: HashMap<String, Volume>,
    quota: Quota,
    /// The pod's storage or inodes refused something.
    full: Arc<Notify>,
    clock: Clock,
    next_device: AtomicU64,
}

#[derive(Debug)]
enum Volume {
    Empty(Arc<Inode>),
    Projected(Arc<ArcSwap<Inode>>),
    Host { root: Arc<Inode>, read_only: bool },
}

impl Volume {
    fn is_read_only(&self) -> bool {
        match self {
            Self::Empty(_) => false,
            Self::Projected(_) => true,
            Self::Host { read_only, .. } => *read_only,
        }
    }
}

/// What the pod's files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

/// Why a pod's filesystem cannot be made as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make the root filesystem")]
    Root(#[source] Errno),
    #[error("make volume `{volume}`")]
    Volume {
        volume: String,
        #[source]
        source: Errno,
    },
    #[error("open {} for volume `{volume}`", path.display())]
    HostDirectory {
        volume: String,
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("there is no volume `{0}`")]
    NoSuchVolume(String),
    #[error("volume `{0}` has no files that could be replaced")]
    NotProjected(String),
    #[error("`{path}` is not an absolute path")]
    NotAbsolute { path: String },
    #[error("find `{sub_path}` in volume `{volume}`")]
    SubPath {
        volume: String,
        sub_path: String,
        #[source]
        source: Errno,
    },
    #[error("mount `{name}` on `{path}`")]
    Mount {
        name: String,
        path: String,
        #[source]
        source: Errno,
    },
    #[error("make the directory `{path}`")]
    Directory {
        path: String,
        #[source]
        source: Errno,
    },
}

impl PodFs {
    /// An empty root and the pod's volumes. Contents and bookkeeping are charged to `memory`.
    pub fn new(
        limits: &PodLimits,
        memory: &Arc<Budget>,
        volumes: &[VolumeSpec],
        hosts: &HostVolumes,
        clock: Clock,
    ) -> Result<Arc<Self>, Error> {
        let full = Arc::new(Notify::new());
        let quota = Quota {
            contents: Budget::watched(limits.storage_bytes, Some(memory), &full),
            bookkeeping: Arc::clone(memory),
            inodes: Budget::watched(limits.inodes, None, &full),
        };
        let filesystem = Filesystem::new(1, quota.clone(), clock.clone());
        let root = filesystem.root().map_err(Error::Root)?;
        root.create("tmp", mem::New::Directory)
            .map_err(Error::Root)?;
        let mut pod = Self {
            root,
            volumes: HashMap::new(),
            quota,
            full,
            clock,
            next_device: AtomicU64::new(2),
        };
        for volume in volumes {
            let made = pod.make_volume(volume, hosts)?;
            pod.volumes.insert(volume.name.clone(), made);
        }
        Ok(Arc::new(pod))
    }

    /// Replaces all files of a projected volume at once.
    pub fn update_volume(&self, name: &str, files: &[ProjectedFile]) -> Result<(), Error> {
        match self.volumes.get(name) {
            Some(Volume::Projected(current)) => {
                current.store(self.project(name, files)?);
                Ok(())
            }
            Some(Volume::Empty(_) | Volume::Host { .. }) => {
                Err(Error::NotProjected(name.to_owned()))
            }
            None => Err(Error::NoSuchVolume(name.to_owned())),
        }
    }

    /// Resolves when the pod has asked for more storage or inodes than it may have.
    pub async fn full(&self) {
        self.full.notified().await;
    }

    /// How often more storage or inodes were wanted than there may be.
    pub fn refusals(&self) -> u64 {
        self.quota.contents.refusals() + self.quota.inodes.refusals()
    }

    pub fn usage(&self) -> Usage {
        Usage {
            bytes: self.quota.contents.used(),
            inodes: self.quota.inodes.used(),
        }
    }

    fn make_volume(&self, volume: &VolumeSpec, hosts: &HostVolumes) -> Result<Volume, Error> {
        match &volume.source {
            VolumeSource::Empty {
                size_limit,
                is_memory,
            } => {
                let quota = if *is_memory {
                    self.quota.in_memory(*size_limit)
                } else {
                    self.quota.limited(*size_limit)
                };
                let filesystem = Filesystem::new(self.device(), quota, self.clock.clone());
                let root = filesystem.root().map_err(|source| Error::Volume {
                    volume: volume.name.clone(),
                    source,
                })?;
                Ok(Volume::Empty(root))
            }
            VolumeSource::Files(files) => {
                let root = self.project(&volume.name, files)?;
                Ok(Volume::Projected(Arc::new(ArcSwap::new(root))))
            }
            VolumeSource::HostDir {
                directory,
                read_only,
            } => {
                let opened = hosts.open(directory, &self.clock);
                let root = opened.map_err(|source| Error::HostDirectory {
                    volume: volume.name.clone(),
                    path: directory.root.join(&directory.path),
                    source,
                })?;
                Ok(Volume::Host {
                    root,
                    read_only: *read_only,
                })
            }
        }
    }

    fn project(&self, name: &str, files: &[ProjectedFile]) -> Result<Arc<Inode>, Error> {
        let built = projected::build(self.device(), self.quota.clone(), &self.clock, files);
        built.map_err(|source| Error::Volume {
            volume: name.to_owned(),
            source,
        })
    }

    fn device(&self) -> u64 {
        self.next_device.fetch_add(1, Ordering::Relaxed)
    }
}
