//! Opening: from a path below an open directory to another descriptor.
//!
//! The one operation in which finding, making and judging rights are a single step: which rights the
//! new descriptor has follows from the directory it was opened through, never from the path.

use std::sync::Arc;

use super::{Access, Descriptor, Synchronized};
use crate::runtime::fs::errno::Errno;
use crate::runtime::fs::inode::Kind;
use crate::runtime::fs::mem::New;
use crate::runtime::fs::mount::Place;
use crate::runtime::fs::walk::{Last, Named, Target, walk};

/// How to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    pub follow: bool,
    pub create: bool,
    pub exclusive: bool,
    pub truncate: bool,
    pub directory: bool,
    pub read: bool,
    pub write: bool,
    /// Ask for the right to change what is below a directory. It is inherited anyway, because no
    /// libc asks, but only who asks is told, and refused if there is none to inherit.
    pub mutate: bool,
    pub synchronized: Synchronized,
}

impl Descriptor {
    pub fn open_at(&self, path: &str, options: OpenOptions) -> Result<Self, Errno> {
        if options.directory && (options.create || options.exclusive || options.truncate) {
            return Err(Errno::Invalid);
        }
        let changes = options.create || options.truncate || options.write || options.mutate;
        if changes && !self.access.mutate {
            self.check_directory()?;
            return Err(Errno::NotPermitted);
        }
        // As on Linux, a slash says that no file can be made before it is looked at what is there.
        let is_named = options.create && (options.exclusive || path.ends_with('/'));
        let last = match (is_named, options.follow) {
            (true, _) => Last::Name,
            (false, true) => Last::Follow,
            (false, false) => Last::Keep,
        };
        // Another container may remove or make the file between the walk and the creation.
        for _ in 0..16 {
            let target = walk(&self.root, &self.place, path, last)?;
            match self.open_target(target, options) {
                Err(Errno::Exist) if !options.exclusive => {}
                opened => return opened,
            }
        }
        Err(Errno::Busy)
    }

    fn open_target(&self, target: Target, options: OpenOptions) -> Result<Self, Errno> {
        let place = match target {
            Target::Directory(_) if options.create && options.exclusive => {
                return Err(Errno::Exist);
            }
            Target::Directory(place) => place,
            // As on Linux, whatever is there: what is made here is no directory.
            Target::Entry(Named { slash: true, .. }) if options.create => {
                return Err(Errno::IsDirectory);
            }
            Target::Entry(Named {
                found: Some(place),
                slash,
                ..
            }) => {
                if options.create && options.exclusive {
                    return Err(Errno::Exist);
                }
                if slash && place.inode.kind() != Kind::Directory {
                    return Err(Errno::NotDirectory);
                }
                place
            }
            Target::Entry(named) => {
                if !options.create {
                    return Err(Errno::NoEntry);
                }
                named.parent.writable()?;
                let inode = named.parent.inode.create(&named.name, New::File)?;
                let mount = named.parent.mount;
                return Ok(self.opened(Place { inode, mount }, options));
            }
        };
        self.open_existing(place, options)
    }

    fn open_existing(&self, place: Place, options: OpenOptions) -> Result<Self, Errno> {
        match place.inode.kind() {
            Kind::Symlink | Kind::File if options.directory => return Err(Errno::NotDirectory),
            Kind::Symlink => return Err(Errno::Loop),
            Kind::Directory if options.create || options.write || options.truncate => {
                return Err(Errno::IsDirectory);
            }
            Kind::File if options.write || options.truncate => place.writable()?,
            Kind::Directory | Kind::File => {}
        }
        if options.truncate {
            place.inode.set_len(0)?;
        }
        Ok(self.opened(place, options))
    }

    fn opened(&self, place: Place, options: OpenOptions) -> Self {
        // As in wasmtime: what is opened for nothing can be read, what is made can be written.
        let implied = (options.create || options.truncate) && !place.mount.read_only;
        let access = Access {
            read: options.read || !options.write,
            write: options.write || implied,
            mutate: self.access.mutate,
            tells_mutate: options.mutate,
            synchronized: options.synchronized,
        };
        Self::new(Arc::clone(&self.root), place, access)
    }
}
