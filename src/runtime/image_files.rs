//! The files of an image: from the end of the wasm file to a layer, mapped once per digest.
//!
//! The file is mapped, not read: what no pod looks at stays on disk, and all pods share what they do
//! look at. It lies in the worker's own directory under its digest and is never changed in place.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::artifact::Error;
use super::fs::{Layer, LayerBuilder};
use crate::api::image_files::{self, Entry};
use crate::errors::chain;

/// The layer of an image; `None` if it is a program alone.
pub(super) fn load(wasm: &Path) -> Result<Option<Arc<Layer>>, Error> {
    let failed = |operation| {
        move |source: io::Error| Error::File {
            operation,
            path: wasm.to_owned(),
            source,
        }
    };
    let mut file = File::open(wasm).map_err(failed("open"))?;
    let found = image_files::find(&mut file).map_err(|error| unusable(&error))?;
    let Some(range) = found else { return Ok(None) };
    let mapped = Mapped::of(&file).map_err(failed("map"))?;
    let archive = Bytes::from_owner(mapped).slice(range.start as usize..range.end as usize);
    let files = image_files::read(&archive).map_err(|error| unusable(&error))?;
    let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(files.modified));
    let mut layer = LayerBuilder::new(modified.unwrap_or(SystemTime::UNIX_EPOCH));
    for entry in files.entries {
        let (path, added) = match entry {
            Entry::Directory(path) => {
                let added = layer.directory(&path);
                (path, added)
            }
            Entry::File(path, range) => {
                let added = layer.file(&path, archive.slice(range));
                (path, added)
            }
            Entry::Link(path, target) => {
                let added = layer.symlink(&path, &target);
                (path, added)
            }
        };
        added.map_err(|errno| Error::Program(format!("the image's file `{path}`: {errno}")))?;
    }
    Ok(Some(layer.build()))
}

fn unusable(error: &image_files::Error) -> Error {
    Error::Program(format!("the image's files: {}", chain(error)))
}

/// A whole file in memory, read-only.
struct Mapped {
    start: *mut std::ffi::c_void,
    length: usize,
}

// SAFETY: the mapping is private to this value, read-only, and unmapped when it is dropped.
unsafe impl Send for Mapped {}
// SAFETY: as above; nobody writes to it.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn of(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::PRIVATE,
                file,
                0,
            )
        }?;
        Ok(Self { start, length })
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the mapping has that length and lives as long as `self`; the file is the worker's
        // own and is only ever renamed or removed, which a mapping survives.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it can be left.
        if let Err(error) = unsafe { munmap(self.start, self.length) } {
            tracing::warn!(%error, "unmap the files of an image");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_comes_from_the_end_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.wasm");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mtime(0);
        let contents = &b"hello"[..];
        builder
            .append_data(&mut header, "etc/greeting", contents)
            .unwrap();
        let archive = builder.into_inner().unwrap();
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        std::fs::write(&path, &wasm).unwrap();
        assert!(load(&path).unwrap().is_none());
        wasm.extend(image_files::section_head(archive.len() as u64).unwrap());
        wasm.extend(archive);
        std::fs::write(&path, &wasm).unwrap();
        let layer = load(&path).unwrap().unwrap();
        // The mapping outlives the file's name.
        std::fs::remove_file(&path).unwrap();
        assert!(format!("{layer:?}").contains("hello"), "{layer:?}");
    }
}
