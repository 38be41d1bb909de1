//! Building one container's view: its image, its volume mounts, its working directory.
//!
//! Mount points are made as container runtimes make them, with all their parents, in the shared
//! root; outer mounts come before the mounts inside them. Several containers may be started at
//! once, so whoever finds a mount point made by another takes that.

use std::sync::Arc;

use super::errno::Errno;
use super::inode::{Inode, Kind};
use super::layer::Layer;
use super::mem::{Filesystem, New};
use super::mount::{Place, Root, Source};
use super::walk::{Last, Target, walk};
use super::{Error, PodFs, Volume};
use crate::runtime::spec::MountSpec;

/// What a container's view is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct RootSpec<'a> {
    pub mounts: &'a [MountSpec],
    /// The root itself cannot be written through this view; volumes can.
    pub read_only: bool,
    pub working_dir: Option<&'a str>,
    /// The files of the container's image, all its layers merged.
    pub image: Option<&'a Layer>,
    /// The directories that the guest is given instead of `/` and `.`.
    pub preopens: Option<&'a [Preopen<'a>]>,
}

/// A directory that a guest is given under a name of its own.
#[derive(Clone, Copy, Debug)]
pub struct Preopen<'a> {
    pub name: &'a str,
    /// Absolute; made if it is missing.
    pub path: &'a str,
    pub read_only: bool,
}

impl PodFs {
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
        add_preopens(&mut root, spec)?;
        Ok(Arc::new(root))
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
            let Some(inode) = tree.lookup(&entry.name).map_err(failed)? else {
                continue;
            };
            let kind = match inode.kind() {
                Kind::Directory => Kind::Directory,
                Kind::File | Kind::Symlink => Kind::File,
            };
            let point = make_point(root, [&*entry.name], kind).map_err(failed)?;
            root.mount(&point, Source::Fixed(inode), false)
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
            (Volume::Empty(inode), Some(path)) => sub_path(spec, inode, path, true)?,
            (Volume::Host { root, .. }, None) => Source::Fixed(Arc::clone(root)),
            (Volume::Host { root, read_only }, Some(path)) => {
                sub_path(spec, root, path, !read_only)?
            }
            (Volume::Projected(current), None) => Source::Current(Arc::clone(current)),
            (Volume::Projected(current), Some(path)) => {
                sub_path(spec, &current.load_full(), path, false)?
            }
        };
        let kind = match &source {
            Source::Fixed(inode) => inode.kind(),
            Source::Current(_) => Kind::Directory,
        };
        let read_only = spec.read_only || volume.is_read_only();
        let mounted = make_point(root, absolute(&spec.path)?, kind)
            .and_then(|point| root.mount(&point, source, read_only));
        mounted.map_err(|source| Error::Mount {
            name: spec.volume.clone(),
            path: spec.path.clone(),
            source,
        })
    }
}

/// The inode at `path` inside a volume, made as a directory if that is missing and allowed.
fn sub_path(
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

/// Gives the guest its directories. If the container names none, that is `.` where it has a working
/// directory other than the root, then `/`. The order matters: wasi-libc takes the last preopen
/// that matches, and to it both are prefixes of every path, so `/` must come last for absolute
/// paths to work.
fn add_preopens(root: &mut Root, spec: &RootSpec<'_>) -> Result<(), Error> {
    if let Some(preopens) = spec.preopens {
        for preopen in preopens {
            let place = directory(root, preopen.path)?;
            root.add_preopen(preopen.name, place, preopen.read_only);
        }
        return Ok(());
    }
    if let Some(path) = spec.working_dir
        && !absolute(path)?.is_empty()
    {
        let place = directory(root, path)?;
        root.add_preopen(".", place, false);
    }
    let base = root.base().clone();
    root.add_preopen("/", base, false);
    Ok(())
}

/// The directory at an absolute path, made if it is missing.
fn directory(root: &Root, path: &str) -> Result<Place, Error> {
    let made = make_point(root, absolute(path)?, Kind::Directory);
    made.map_err(|source| Error::Directory {
        path: path.to_owned(),
        source,
    })
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
        place = find_or_make(root, &path, wanted)?;
        match (place.inode.kind(), wanted) {
            (Kind::Directory, Kind::Directory)
            | (Kind::File | Kind::Symlink, Kind::File | Kind::Symlink) => {}
            (Kind::Directory, Kind::File | Kind::Symlink) => return Err(Errno::IsDirectory),
            (Kind::File | Kind::Symlink, Kind::Directory) => return Err(Errno::NotDirectory),
        }
    }
    Ok(place)
}

fn find_or_make(root: &Root, path: &str, kind: Kind) -> Result<Place, Errno> {
    let new = match kind {
        Kind::Directory => New::Directory,
        Kind::File | Kind::Symlink => New::File,
    };
    loop {
        let named = match walk(root, root.base(), path, Last::Follow)? {
            Target::Directory(place) => return Ok(place),
            Target::Entry(named) => named,
        };
        if let Some(place) = named.found {
            return Ok(place);
        }
        // The root may be read-only to the container; a volume that is read-only is so to us too.
        let mount = named.parent.mount;
        if mount.read_only && mount.number != 0 {
            return Err(Errno::ReadOnly);
        }
        match named.parent.inode.create(&named.name, new) {
            Ok(inode) => return Ok(Place { inode, mount }),
            // Another container was faster.
            Err(Errno::Exist) => {}
            Err(errno) => return Err(errno),
        }
    }
}
