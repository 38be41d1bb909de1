//! `rename`: the one operation on two directories, atomic for everyone who looks.
//!
//! Both directories are locked for the whole exchange, so another container sees the new name
//! with the old or the new file, never without one. The tree lock keeps the ancestors still while
//! a directory is checked not to move below itself.

use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLockWriteGuard};

use super::directory::Directory;
use super::errno::Errno;
use super::inode::{Body, Inode, Kind};

/// The directories of a rename, which may be one.
enum Pair<'a> {
    One(RwLockWriteGuard<'a, Directory>),
    Two {
        old: RwLockWriteGuard<'a, Directory>,
        new: RwLockWriteGuard<'a, Directory>,
    },
}

impl Pair<'_> {
    fn source(&mut self) -> &mut Directory {
        match self {
            Self::One(directory) => directory,
            Self::Two { old, .. } => old,
        }
    }

    fn destination(&mut self) -> &mut Directory {
        match self {
            Self::One(directory) => directory,
            Self::Two { new, .. } => new,
        }
    }
}

/// Moves `old_name` of `old` to `new_name` of `new`, over what is there.
pub fn rename(
    old: &Arc<Inode>,
    old_name: &str,
    new: &Arc<Inode>,
    new_name: &str,
) -> Result<(), Errno> {
    if !Arc::ptr_eq(&old.filesystem, &new.filesystem) {
        return Err(Errno::CrossDevice);
    }
    if let (Body::Host(from), Body::Host(to)) = (&old.body, &new.body) {
        return from.rename(&old.filesystem, old_name, to, new_name);
    }
    let _tree = old.filesystem.tree();
    let source = old.entries()?.get(old_name).cloned();
    let source = source.ok_or(Errno::NoEntry)?;
    let is_directory = source.kind() == Kind::Directory;
    if is_directory && is_within(new, &source) {
        return Err(Errno::Invalid);
    }
    let target = new.entries()?.get(new_name).cloned();
    if target.is_some_and(|target| is_within(old, &target)) {
        return Err(Errno::NotEmpty);
    }

    let mut pair = if Arc::ptr_eq(old, new) {
        Pair::One(old.entries_mut()?)
    } else {
        let new = new.entries_mut()?;
        let old = old.entries_mut()?;
        Pair::Two { old, new }
    };
    // A file may have been unlinked and replaced in between; a directory cannot, see `tree`.
    let current = pair.source().get(old_name).cloned().ok_or(Errno::NoEntry)?;
    if is_directory != (current.kind() == Kind::Directory) || pair.destination().removed {
        return Err(Errno::NoEntry);
    }
    let source = current;
    let target = pair.destination().get(new_name).cloned();
    if let Some(target) = &target {
        if Arc::ptr_eq(target, &source) {
            return Ok(());
        }
        check_replaceable(&source, target)?;
    }
    if source.is_pinned() {
        return Err(Errno::Busy);
    }
    exchange(&mut pair, old_name, new_name, &source, target.is_some())?;
    drop(pair);
    settle(old, new, &source, target.as_deref());
    Ok(())
}

/// Whether `target` may be replaced by `source`; an empty directory is retired by that.
fn check_replaceable(source: &Arc<Inode>, target: &Arc<Inode>) -> Result<(), Errno> {
    if source.is_pinned() || target.is_pinned() {
        return Err(Errno::Busy);
    }
    match (source.kind(), target.kind()) {
        (Kind::Directory, Kind::Directory) => target.retire(),
        (Kind::File | Kind::Symlink, Kind::Directory) => Err(Errno::IsDirectory),
        (Kind::Directory, Kind::File | Kind::Symlink) => Err(Errno::NotDirectory),
        (Kind::File | Kind::Symlink, Kind::File | Kind::Symlink) => Ok(()),
    }
}

fn exchange(
    pair: &mut Pair<'_>,
    old_name: &str,
    new_name: &str,
    source: &Arc<Inode>,
    replaces: bool,
) -> Result<(), Errno> {
    if replaces {
        pair.destination().replace(new_name, Arc::clone(source));
    } else {
        pair.destination().reserve(new_name)?;
        pair.destination()
            .insert_reserved(new_name, Arc::clone(source));
    }
    pair.source().remove(old_name);
    Ok(())
}

/// Link counts, parents and times after the exchange. Readers may see them a moment late.
fn settle(old: &Arc<Inode>, new: &Arc<Inode>, source: &Arc<Inode>, target: Option<&Inode>) {
    let now = old.filesystem.now();
    if let Some(target) = target {
        if target.kind() == Kind::Directory {
            new.links.fetch_sub(1, Ordering::Relaxed);
        } else {
            target.links.fetch_sub(1, Ordering::Relaxed);
        }
        target.touch_status(now);
    }
    if source.kind() == Kind::Directory && !Arc::ptr_eq(old, new) {
        old.links.fetch_sub(1, Ordering::Relaxed);
        new.links.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut entries) = source.entries_mut() {
            entries.parent = Arc::downgrade(new);
        }
    }
    source.touch_status(now);
    old.touch_entries(now);
    new.touch_entries(now);
}

/// Whether `inode` is `ancestor` or lies below it. The tree lock is held.
fn is_within(inode: &Arc<Inode>, ancestor: &Arc<Inode>) -> bool {
    let mut at = Some(Arc::clone(inode));
    while let Some(inode) = at {
        if Arc::ptr_eq(&inode, ancestor) {
            return true;
        }
        at = inode
            .entries()
            .ok()
            .and_then(|entries| entries.parent.upgrade());
    }
    false
}
