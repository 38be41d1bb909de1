//! Volumes made of Kubernetes objects: ConfigMap, Secret, downward API.
//!
//! Such a volume is a read-only tree over the objects' own bytes. An update builds a new tree and
//! swaps one pointer, as the kubelet's `..data` symlink does: who walks finds all files of one
//! version; who has a file open keeps reading the old one; a `subPath` mount keeps the old tree,
//! as in Kubernetes. File modes exist for the API only, because WASI has none.

use std::sync::Arc;

use super::errno::Errno;
use super::inode::Inode;
use super::layer::LayerBuilder;
use super::mem::Filesystem;
use super::quota::Quota;
use crate::clock::Clock;
use crate::runtime::spec::ProjectedFile;

/// The root of a tree with `files`.
pub fn build(
    device: u64,
    quota: Quota,
    clock: &Clock,
    files: &[ProjectedFile],
) -> Result<Arc<Inode>, Errno> {
    let mut layer = LayerBuilder::new(clock.now().into());
    for file in files {
        layer.file(&file.path, file.contents.clone())?;
    }
    Filesystem::of_layer(device, quota, clock.clone(), &layer.build())
}
