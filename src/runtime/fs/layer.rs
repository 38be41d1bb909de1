//! An image's files: an immutable tree, built once per worker and shared by all pods that use it.
//!
//! A container sees a layer through a filesystem of its own ([`super::mem::Filesystem`]) whose
//! directories are filled from the layer when they are first looked into, and whose file contents
//! stay the layer's bytes until they are written (copy on write). So an image of ten thousand files
//! costs a pod nothing until it looks, and an unchanged file is in memory once per worker. `Bytes`
//! may be backed by a memory map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::errno::Errno;
use super::walk::{MAX_NAME, MAX_PATH};

/// An immutable tree of files.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(super) root: Arc<LayerDirectory>,
    pub(super) modified: SystemTime,
}

#[derive(Clone, Debug, Default)]
pub(super) struct LayerDirectory {
    pub(super) entries: BTreeMap<Box<str>, LayerNode>,
}

#[derive(Clone, Debug)]
pub(super) enum LayerNode {
    File(Bytes),
    Directory(Arc<LayerDirectory>),
    Symlink(Box<str>),
}

/// Collects the files of a layer; later entries replace earlier ones of the same path.
#[derive(Debug)]
pub struct LayerBuilder {
    root: LayerDirectory,
    modified: SystemTime,
}

impl LayerBuilder {
    /// An empty layer whose files were all last modified at `modified`.
    pub fn new(modified: SystemTime) -> Self {
        Self {
            root: LayerDirectory::default(),
            modified,
        }
    }

    pub fn file(&mut self, path: &str, contents: Bytes) -> Result<(), Errno> {
        self.insert(path, LayerNode::File(contents))
    }

    pub fn directory(&mut self, path: &str) -> Result<(), Errno> {
        let names = split(path)?;
        self.root.make(&names).map(|_| ())
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), Errno> {
        if target.is_empty() || target.len() >= MAX_PATH || target.contains('\0') {
            return Err(Errno::Invalid);
        }
        self.insert(path, LayerNode::Symlink(target.into()))
    }

    pub fn build(self) -> Arc<Layer> {
        Arc::new(Layer {
            root: Arc::new(self.root),
            modified: self.modified,
        })
    }

    fn insert(&mut self, path: &str, node: LayerNode) -> Result<(), Errno> {
        let names = split(path)?;
        let (name, parents) = names.split_last().ok_or(Errno::Invalid)?;
        let directory = self.root.make(parents)?;
        directory.entries.insert((*name).into(), node);
        Ok(())
    }
}

impl LayerDirectory {
    /// The directory at `names`, made where it is missing.
    fn make(&mut self, names: &[&str]) -> Result<&mut Self, Errno> {
        let mut directory = self;
        for name in names {
            let node = directory
                .entries
                .entry((*name).into())
                .or_insert_with(|| LayerNode::Directory(Arc::default()));
            match node {
                LayerNode::Directory(child) => directory = Arc::make_mut(child),
                LayerNode::File(_) | LayerNode::Symlink(_) => return Err(Errno::NotDirectory),
            }
        }
        Ok(directory)
    }
}

/// The names of a path inside a layer; a leading `/` or `./` is how archives write it.
fn split(path: &str) -> Result<Vec<&str>, Errno> {
    if path.len() >= MAX_PATH {
        return Err(Errno::NameTooLong);
    }
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => return Err(Errno::NotPermitted),
            name if name.len() > MAX_NAME => return Err(Errno::NameTooLong),
            name if name.contains('\0') => return Err(Errno::Invalid),
            name => names.push(name),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_archives_are_checked() {
        let mut layer = LayerBuilder::new(SystemTime::UNIX_EPOCH);
        let file =
            |layer: &mut LayerBuilder, path: &str| layer.file(path, Bytes::from_static(b"x"));
        assert_eq!(file(&mut layer, "./usr/lib/a"), Ok(()));
        assert_eq!(file(&mut layer, "/usr/lib/a"), Ok(()));
        assert_eq!(file(&mut layer, "usr/lib/a/b"), Err(Errno::NotDirectory));
        assert_eq!(file(&mut layer, "usr/../etc"), Err(Errno::NotPermitted));
        assert_eq!(file(&mut layer, "/"), Err(Errno::Invalid));
        assert_eq!(layer.directory("usr/share"), Ok(()));
        assert_eq!(layer.symlink("bin", "usr/bin"), Ok(()));
        let layer = layer.build();
        let names: Vec<_> = layer.root.entries.keys().map(|name| &**name).collect();
        assert_eq!(names, ["bin", "usr"]);
    }
}
