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
pub mod walk;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use self::descriptor::OpenOptions;
use self::errno::Errno;
use self::inode::{Inode, Kind};
use self::mem::Filesystem;
use self::mount::{Place, Source};
use self::quota::Quota;
use self::walk::{Last, walk};
use crate::clock::Clock;
use crate::runtime::budget::Budget;
use crate::runtime::spec::{MountSpec, PodLimits, ProjectedFile, VolumeSource, VolumeSpec};

pub use self::descriptor::{Access, Descriptor};
pub use self::layer::{Layer, LayerBuilder};
pub use self::mount::Root;

/// The filesystem of one pod.
#[derive(Debug)]
pub struct PodFs {
    root: Arc<Inode>,
    volumes: HashMap<String, Volume>,
    quota: Quota,
    clock: Clock,
    next_device: AtomicU64,
}

#[derive(Debug)]
enum Volume {
    Empty(Arc<Inode>),
    Projected(Arc<ArcSwap<Inode>>),
}

/// What a container's view is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct RootSpec<'a> {
    pub mounts: &'a [MountSpec],
    /// The root itself cannot be written through this view; volumes can.
    pub read_only: bool,
    pub working_dir: Option<&'a str>,
    /// The files of the container's image, all its layers merged.
    pub image: Option<&'a Layer>,
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
    #[error("volume `{volume}` is a directory of the host, which this worker does not offer")]
    HostDirectory { volume: String },
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
    #[error("make the working directory `{path}`")]
    WorkingDir {
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
        clock: Clock,
    ) -> Result<Arc<Self>, Error> {
        let quota = Quota {
            contents: Budget::within(memory, limits.storage_bytes),
            bookkeeping: Arc::clone(memory),
            inodes: Budget::new(limits.inodes),
        };
        let filesystem = Filesystem::new(1, quota.clone(), clock.clone());
        let root = filesystem.root().map_err(Error::Root)?;
        root.create("tmp", mem::New::Directory)
            .map_err(Error::Root)?;
        let mut pod = Self {
            root,
            volumes: HashMap::new(),
            quota,
            clock,
            next_device: AtomicU64::new(2),
        };
        for volume in volumes {
            let made = pod.make_volume(volume)?;
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
            Some(Volume::Empty(_)) => Err(Error::NotProjected(name.to_owned())),
            None => Err(Error::NoSuchVolume(name.to_owned())),
        }
    }

    /// The view of one container.
    pub fn root(&self, spec: &RootSpec<'_>) -> Result<Arc<Root>, Error> {
        let mut root = Root::new(Arc::clone(&self.root), spec.read_only);
        if let Some(image) = spec.image {
            self.mount_image(&mut root, image)?;
        }
        // Outer mounts first, so that the inner ones are made inside them.
        let mut mounts: Vec<_> = spec.mounts.iter().collect();
        mounts.sort_by_key(|mount| {
            mount
                .path
                .split('/')
                .filter(|name| !name.is_empty())
                .count()
        });
        for mount in mounts {
            self.mount_volume(&mut root, mount)?;
        }
        if let Some(path) = spec.working_dir {
            let names = absolute(path)?;
            if !names.is_empty() {
                let source = |source| Error::WorkingDir {
                    path: path.to_owned(),
                    source,
                };
                let place = make_point(&root, names, Kind::Directory).map_err(source)?;
                root.set_working_dir(place);
            }
        }
        Ok(Arc::new(root))
    }

    pub fn usage(&self) -> Usage {
        Usage {
            bytes: self.quota.contents.used(),
            inodes: self.quota.inodes.used(),
        }
    }

    fn make_volume(&self, volume: &VolumeSpec) -> Result<Volume, Error> {
        match &volume.source {
            VolumeSource::Empty { size_limit } => {
                let quota = self.quota.limited(*size_limit);
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
            VolumeSource::HostDir { .. } => Err(Error::HostDirectory {
                volume: volume.name.clone(),
            }),
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

    /// Mounts each top-level entry of an image over the shared root.
    fn mount_image(&self, root: &mut Root, image: &Layer) -> Result<(), Error> {
        let failed = |name: &str, source| Error::Mount {
            name: "image".to_owned(),
            path: format!("/{name}"),
            source,
        };
        let quota = self.quota.clone();
        let tree = Filesystem::of_layer(self.device(), quota, self.clock.clone(), image)
            .map_err(|source| failed("", source))?;
        let entries = tree
            .list(0, usize::MAX)
            .map_err(|source| failed("", source))?;
        for entry in entries {
            let failed = |source| failed(&entry.name, source);
            let kind = match entry.inode.kind() {
                Kind::Directory => Kind::Directory,
                Kind::File | Kind::Symlink => Kind::File,
            };
            let point = make_point(root, [&*entry.name], kind).map_err(failed)?;
            root.mount(&point, Source::Fixed(entry.inode), false)
                .map_err(failed)?;
        }
        Ok(())
    }

    fn mount_volume(&self, root: &mut Root, spec: &MountSpec) -> Result<(), Error> {
        let volume = self.volumes.get(&spec.volume);
        let volume = volume.ok_or_else(|| Error::NoSuchVolume(spec.volume.clone()))?;
        let source = match (
            volume,
            spec.sub_path.as_deref().filter(|path| !path.is_empty()),
        ) {
            (Volume::Empty(inode), None) => Source::Fixed(Arc::clone(inode)),
            (Volume::Empty(inode), Some(path)) => self.sub_path(spec, inode, path, true)?,
            (Volume::Projected(current), None) => Source::Current(Arc::clone(current)),
            (Volume::Projected(current), Some(path)) => {
                self.sub_path(spec, &current.load_full(), path, false)?
            }
        };
        let kind = match &source {
            Source::Fixed(inode) => inode.kind(),
            Source::Current(_) => Kind::Directory,
        };
        let read_only = spec.read_only || matches!(volume, Volume::Projected(_));
        let mounted = make_point(root, absolute(&spec.path)?, kind)
            .and_then(|point| root.mount(&point, source, read_only));
        mounted.map_err(|source| Error::Mount {
            name: spec.volume.clone(),
            path: spec.path.clone(),
            source,
        })
    }

    /// The inode at `path` inside a volume, made as a directory if that is missing and allowed.
    fn sub_path(
        &self,
        spec: &MountSpec,
        volume: &Arc<Inode>,
        path: &str,
        make: bool,
    ) -> Result<Source, Error> {
        let root = Root::new(Arc::clone(volume), false);
        let found = match walk(&root, root.base(), path, Last::Follow) {
            Ok(target) => target.existing(),
            Err(errno) => Err(errno),
        };
        let place = match found {
            Err(Errno::NoEntry) if make => make_point(&root, path.split('/'), Kind::Directory),
            found => found,
        };
        let place = place.map_err(|source| Error::SubPath {
            volume: spec.volume.clone(),
            sub_path: path.to_owned(),
            source,
        })?;
        Ok(Source::Fixed(place.inode))
    }
}

/// The names of an absolute path.
fn absolute(path: &str) -> Result<Vec<&str>, Error> {
    let Some(below) = path.strip_prefix('/') else {
        return Err(Error::NotAbsolute {
            path: path.to_owned(),
        });
    };
    Ok(below.split('/').filter(|name| !name.is_empty()).collect())
}

/// The place at `names`, made as container runtimes make mount points: with all its parents, also
/// in a root that the container itself may not write.
fn make_point<'a>(
    root: &Root,
    names: impl IntoIterator<Item = &'a str>,
    kind: Kind,
) -> Result<Place, Errno> {
    let mut names = names.into_iter().filter(|name| !name.is_empty()).peekable();
    let mut path = String::from(".");
    let mut place = root.base().clone();
    while let Some(name) = names.next() {
        path.push('/');
        path.push_str(name);
        let wanted = if names.peek().is_some() {
            Kind::Directory
        } else {
            kind
        };
        let target = walk(root, root.base(), &path, Last::Follow)?;
        place = match target {
            walk::Target::Directory(place) => place,
            walk::Target::Entry(named) => match named.found {
                Some(place) => place,
                None => {
                    let new = match wanted {
                        Kind::Directory => mem::New::Directory,
                        Kind::File | Kind::Symlink => mem::New::File,
                    };
                    let inode = named.parent.inode.create(&named.name, new)?;
                    let mount = named.parent.mount;
                    Place { inode, mount }
                }
            },
        };
        match (place.inode.kind(), wanted) {
            (Kind::Directory, Kind::Directory) => {}
            (Kind::Directory, Kind::File | Kind::Symlink) => return Err(Errno::IsDirectory),
            (Kind::File | Kind::Symlink, Kind::Directory) => return Err(Errno::NotDirectory),
            (Kind::File | Kind::Symlink, Kind::File | Kind::Symlink) => {}
        }
    }
    Ok(place)
}

/// Host-side conveniences over a view: what the worker itself reads and writes in a pod.
impl Root {
    /// Writes a whole file, made or replaced.
    pub fn write_file(self: &Arc<Self>, path: &str, contents: &[u8]) -> Result<(), Errno> {
        let options = OpenOptions {
            follow: true,
            create: true,
            truncate: true,
            write: true,
            ..OpenOptions::default()
        };
        let file = self.open().open_at(path.trim_start_matches('/'), options)?;
        let mut offset = 0;
        while offset < contents.len() {
            offset += file.write_at(offset as u64, &contents[offset..])?;
        }
        Ok(())
    }

    /// Reads a file of at most `limit` bytes; what is beyond is cut.
    pub fn read_file(self: &Arc<Self>, path: &str, limit: usize) -> Result<Vec<u8>, Errno> {
        let options = OpenOptions {
            follow: true,
            read: true,
            ..OpenOptions::default()
        };
        let file = self.open().open_at(path.trim_start_matches('/'), options)?;
        let size = usize::try_from(file.stat()?.size).unwrap_or(usize::MAX);
        let mut contents = vec![0; size.min(limit)];
        let mut length = 0;
        while length < contents.len() {
            match file.read_at(length as u64, &mut contents[length..])? {
                0 => break,
                count => length += count,
            }
        }
        contents.truncate(length);
        Ok(contents)
    }
}
