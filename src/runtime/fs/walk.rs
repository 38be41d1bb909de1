//! From a path to a place: the only code that interprets paths.
//!
//! A walk starts at a directory that the guest holds and never leaves what lies below it: `..` goes
//! back along the way the walk itself came, so it cannot pass the start, also when another
//! container renames directories meanwhile. Absolute paths are refused. Symbolic links are followed
//! here, at most 40 in one walk; an absolute link (images have them) is followed only if the walk
//! started at the container's root, because everywhere else it would lead outside. Mounts are
//! crossed here, on the way down; the way back is the walk's own again.

use std::borrow::Cow;

use super::errno::Errno;
use super::inode::Kind;
use super::mount::{Place, Root};

/// The longest name of an entry.
pub const MAX_NAME: usize = 255;
/// One more than the longest path, as `PATH_MAX` counts the NUL.
pub const MAX_PATH: usize = 4096;
/// Symbolic links followed in one walk.
const MAX_LINKS: usize = 40;

/// What to do with a symbolic link at the end of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Go where it points.
    Follow,
    /// Stay, unless a slash after it asks for the directory that it points to.
    Keep,
    /// Stay, always: the entry itself is to be made, removed or renamed.
    Name,
}

/// Where a walk ended.
#[derive(Debug)]
pub enum Target {
    /// A name in a directory, taken or free.
    Entry(Named),
    /// A directory that was reached without a name: the start, `.` or `..`.
    Directory(Place),
}

#[derive(Debug)]
pub struct Named {
    pub parent: Place,
    pub name: String,
    pub found: Option<Place>,
    /// The path ended with a slash: only a directory will do.
    pub slash: bool,
}

impl Target {
    /// The existing thing at the end of the path.
    pub fn existing(self) -> Result<Place, Errno> {
        match self {
            Self::Directory(place) => Ok(place),
            Self::Entry(Named { found, slash, .. }) => {
                let place = found.ok_or(Errno::NoEntry)?;
                if slash && place.inode.kind() != Kind::Directory {
                    return Err(Errno::NotDirectory);
                }
                Ok(place)
            }
        }
    }

    fn is_link_with_slash(&self) -> bool {
        let Self::Entry(Named {
            found: Some(place),
            slash: true,
            ..
        }) = self
        else {
            return false;
        };
        place.inode.kind() == Kind::Symlink
    }

    /// The entry, for changing it; `.` and `..` name none.
    pub fn named(self, otherwise: Errno) -> Result<Named, Errno> {
        match self {
            Self::Entry(named) => Ok(named),
            Self::Directory(_) => Err(otherwise),
        }
    }
}

impl Named {
    /// Fails if the name is taken.
    pub(super) fn free(&self) -> Result<(), Errno> {
        match &self.found {
            None => Ok(()),
            Some(place) if self.slash && place.inode.kind() != Kind::Directory => {
                Err(Errno::NotDirectory)
            }
            Some(_) => Err(Errno::Exist),
        }
    }

    /// Refuses a slash after the name of what is no directory.
    pub(super) fn not_slash(&self) -> Result<(), Errno> {
        match (&self.found, self.slash) {
            (_, false) => Ok(()),
            (None, true) => Err(Errno::NoEntry),
            (Some(_), true) => Err(Errno::NotDirectory),
        }
    }
}

/// Walks `path` from `start`.
pub fn walk(root: &Root, start: &Place, path: &str, last: Last) -> Result<Target, Errno> {
    if path.is_empty() {
        return Err(Errno::NoEntry);
    }
    if path.len() >= MAX_PATH {
        return Err(Errno::NameTooLong);
    }
    if path.contains('\0') {
        return Err(Errno::Invalid);
    }
    if path.starts_with('/') {
        return Err(Errno::NotPermitted);
    }
    if start.inode.kind() != Kind::Directory {
        return Err(Errno::NotDirectory);
    }
    let target = Walk::new(root, start).run(path, last)?;
    if last == Last::Name && target.is_link_with_slash() {
        // It will be refused, but what leads outside must be refused as that.
        if let Err(Errno::NotPermitted) = Walk::new(root, start).run(path, Last::Follow) {
            return Err(Errno::NotPermitted);
        }
    }
    Ok(target)
}

struct Walk<'a> {
    root: &'a Root,
    start: &'a Place,
    /// The directories from the start down to, and without, `at`.
    behind: Vec<Place>,
    at: Place,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Root, start: &'a Place) -> Self {
        Self {
            root,
            start,
            behind: Vec::new(),
            at: start.clone(),
            links: 0,
        }
    }

    fn run(mut self, path: &str, last: Last) -> Result<Target, Errno> {
        let mut path = Cow::Borrowed(path);
        let mut offset = 0;
        loop {
            let step = Step::next(&path, offset)?;
            let Some(step) = step else {
                return Ok(Target::Directory(self.at));
            };
            match step.name {
                "." => self.require_directory()?,
                ".." => self.back()?,
                name => {
                    let found = self.at.lookup(self.root, name)?;
                    let link = found.as_ref().filter(|place| step.follows(place, last));
                    if let Some(link) = link {
                        let target = self.link(&link.inode.target()?)?;
                        path = Cow::Owned(format!("{target}{}", &path[step.end..]));
                        offset = 0;
                        continue;
                    }
                    if step.is_last {
                        return Ok(Target::Entry(Named {
                            parent: self.at,
                            name: name.to_owned(),
                            found,
                            slash: step.slash,
                        }));
                    }
                    let child = found.ok_or(Errno::NoEntry)?;
                    if child.inode.kind() != Kind::Directory {
                        return Err(Errno::NotDirectory);
                    }
                    self.behind.push(std::mem::replace(&mut self.at, child));
                }
            }
            offset = step.end;
        }
    }

    /// What to walk instead of a symbolic link's name.
    fn link(&mut self, target: &str) -> Result<String, Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::Loop);
        }
        if target.is_empty() {
            return Err(Errno::NoEntry);
        }
        if let Some(below) = target.strip_prefix('/') {
            if !self.start.is_root_of(self.root) {
                return Err(Errno::NotPermitted);
            }
            self.behind.clear();
            self.at = self.start.clone();
            return Ok(format!("./{below}"));
        }
        Ok(target.to_owned())
    }

    fn back(&mut self) -> Result<(), Errno> {
        self.at = self.behind.pop().ok_or(Errno::NotPermitted)?;
        Ok(())
    }

    fn require_directory(&self) -> Result<(), Errno> {
        match self.at.inode.kind() {
            Kind::Directory => Ok(()),
            Kind::File | Kind::Symlink => Err(Errno::NotDirectory),
        }
    }
}

/// One name of a path.
struct Step<'a> {
    name: &'a str,
    /// Where the rest of the path begins, with its slash.
    end: usize,
    is_last: bool,
    slash: bool,
}

impl<'a> Step<'a> {
    /// Whether this step goes on where a symbolic link points.
    fn follows(&self, place: &Place, last: Last) -> bool {
        if place.inode.kind() != Kind::Symlink {
            return false;
        }
        match last {
            Last::Follow => true,
            Last::Keep => self.slash || !self.is_last,
            Last::Name => !self.is_last,
        }
    }

    fn next(path: &'a str, offset: usize) -> Result<Option<Self>, Errno> {
        let rest = &path[offset..];
        let name = rest.trim_start_matches('/');
        if name.is_empty() {
            return Ok(None);
        }
        let start = offset + rest.len() - name.len();
        let length = name.find('/').unwrap_or(name.len());
        if length > MAX_NAME {
            return Err(Errno::NameTooLong);
        }
        let end = start + length;
        let after = &path[end..];
        Ok(Some(Self {
            name: &path[start..end],
            end,
            is_last: after.bytes().all(|byte| byte == b'/'),
            slash: !after.is_empty(),
        }))
    }
}
