//! `wasi:filesystem` 0.2 over the pod's filesystem.
//!
//! wasmtime-wasi's own generated traits, implemented for our view; so every other interface can stay
//! wasmtime-wasi's. The traits name its `Descriptor` type, but a resource handle is a typed number
//! that the table checks by what was pushed: ours are pushed and the handles re-typed by `rep`.
//!
//! The methods are async by the traits' signature only; nothing here waits, except for a host
//! directory's disk.

pub mod convert;
mod streams;

use std::collections::VecDeque;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use self::convert::{flags_of, new_time, open_options, stat, type_of};
use self::streams::{Reader, Writer};
use crate::runtime::fs::directory::Entry;
use crate::runtime::fs::{Descriptor, Root};

/// What the methods work on: one container's view and its resource table.
pub struct FsView<'a> {
    pub root: &'a Arc<Root>,
    pub table: &'a mut ResourceTable,
}

/// Says to the linker that its data has an [`FsView`].
pub struct HasFs;

impl HasData for HasFs {
    type Data<'a> = FsView<'a>;
}

/// Adds `wasi:filesystem/types` and `preopens`.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> FsView<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, HasFs>(linker, get)?;
    preopens::add_to_linker::<T, HasFs>(linker, get)
}

/// The most that one `read` returns, whatever the guest asks for.
pub const MAX_READ: usize = 1 << 20;
/// Directory entries fetched at a time.
pub const LIST_BATCH: usize = 64;

type Handle = Resource<types::Descriptor>;
type ListingHandle = Resource<types::DirectoryEntryStream>;

/// A directory stream: a cookie and the entries fetched from there.
struct Listing {
    directory: Descriptor,
    next: u64,
    fetched: VecDeque<Entry>,
}

impl FsView<'_> {
    /// The descriptor behind a handle; a wrong handle is a trap.
    pub fn descriptor(&self, rep: u32) -> wasmtime::Result<&Descriptor> {
        Ok(self.table.get(&Resource::<Descriptor>::new_borrow(rep))?)
    }

    /// A new handle's number.
    pub fn push(&mut self, descriptor: Descriptor) -> wasmtime::Result<u32> {
        Ok(self.table.push(descriptor)?.rep())
    }

    pub fn delete(&mut self, rep: u32) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Descriptor>::new_own(rep))?;
        Ok(())
    }

    fn get(&self, handle: &Handle) -> FsResult<&Descriptor> {
        self.descriptor(handle.rep()).map_err(FsError::trap)
    }

    fn push_writer(&mut self, writer: Writer) -> FsResult<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(writer);
        Ok(self.table.push(stream)?)
    }
}

impl preopens::Host for FsView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let preopens = self.root.preopens().into_iter();
        preopens
            .map(|(path, descriptor)| Ok((Resource::new_own(self.push(descriptor)?), path)))
            .collect()
    }
}

impl types::Host for FsView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<types::ErrorCode>().copied())
    }
}

impl types::HostDescriptor for FsView<'_> {
    fn read_via_stream(&mut self, fd: Handle, offset: u64) -> FsResult<Resource<DynInputStream>> {
        let descriptor = self.get(&fd)?.clone();
        descriptor.readable()?;
        let stream: DynInputStream = Box::new(Reader::new(descriptor, offset));
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(&mut self, fd: Handle, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        let descriptor = self.get(&fd)?.clone();
        descriptor.streamable()?;
        self.push_writer(Writer::at(descriptor, offset))
    }

    fn append_via_stream(&mut self, fd: Handle) -> FsResult<Resource<DynOutputStream>> {
        let descriptor = self.get(&fd)?.clone();
        descriptor.streamable()?;
        self.push_writer(Writer::append(descriptor))
    }

    async fn advise(
        &mut self,
        fd: Handle,
        _offset: u64,
        _length: u64,
        _advice: types::Advice,
    ) -> FsResult<()> {
        self.get(&fd)?.require_file()?;
        Ok(())
    }

    async fn sync_data(&mut self, fd: Handle) -> FsResult<()> {
        Ok(self.get(&fd)?.sync_data()?)
    }

    async fn get_flags(&mut self, fd: Handle) -> FsResult<types::DescriptorFlags> {
        Ok(flags_of(self.get(&fd)?))
    }

    async fn get_type(&mut self, fd: Handle) -> FsResult<types::DescriptorType> {
        Ok(type_of(self.get(&fd)?.kind()))
    }

    async fn set_size(&mut self, fd: Handle, size: u64) -> FsResult<()> {
        Ok(self.get(&fd)?.set_len(size)?)
    }

    async fn set_times(
        &mut self,
        fd: Handle,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (new_time(accessed)?, new_time(modified)?);
        Ok(self.get(&fd)?.set_times(accessed, modified)?)
    }

    async fn read(&mut self, fd: Handle, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        let length = length.min(MAX_READ as u64) as usize;
        let bytes = self.get(&fd)?.read_vec(offset, length)?;
        let is_end = bytes.is_empty();
        Ok((bytes, is_end))
    }

    async fn write(&mut self, fd: Handle, buffer: Vec<u8>, offset: u64) -> FsResult<u64> {
        Ok(self.get(&fd)?.write_at(offset, &[&buffer])? as u64)
    }

    async fn read_directory(&mut self, fd: Handle) -> FsResult<ListingHandle> {
        let directory = self.get(&fd)?.clone();
        directory.list(0, 0)?;
        let listing = Listing {
            directory,
            next: 0,
            fetched: VecDeque::new(),
        };
        Ok(Resource::new_own(self.table.push(listing)?.rep()))
    }

    async fn sync(&mut self, fd: Handle) -> FsResult<()> {
        Ok(self.get(&fd)?.sync()?)
    }

    async fn create_directory_at(&mut self, fd: Handle, path: String) -> FsResult<()> {
        Ok(self.get(&fd)?.create_directory_at(&path)?)
    }

    async fn stat(&mut self, fd: Handle) -> FsResult<types::DescriptorStat> {
        Ok(stat(self.get(&fd)?.stat()?))
    }

    async fn stat_at(
        &mut self,
        fd: Handle,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        Ok(stat(self.get(&fd)?.stat_at(&path, follows(flags))?))
    }

    async fn set_times_at(
        &mut self,
        fd: Handle,
        flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (new_time(accessed)?, new_time(modified)?);
        let descriptor = self.get(&fd)?;
        Ok(descriptor.set_times_at(&path, follows(flags), accessed, modified)?)
    }

    async fn link_at(
        &mut self,
        fd: Handle,
        flags: types::PathFlags,
        old_path: String,
        new_fd: Handle,
        new_path: String,
    ) -> FsResult<()> {
        if follows(flags) {
            return Err(types::ErrorCode::Invalid.into());
        }
        let new = self.get(&new_fd)?;
        Ok(self.get(&fd)?.link_at(&old_path, new, &new_path)?)
    }

    async fn open_at(
        &mut self,
        fd: Handle,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Handle> {
        let options = open_options(follows(path_flags), open_flags, flags);
        let opened = self.get(&fd)?.open_at(&path, options)?;
        let rep = self.push(opened).map_err(FsError::trap)?;
        Ok(Resource::new_own(rep))
    }

    async fn readlink_at(&mut self, fd: Handle, path: String) -> FsResult<String> {
        Ok(self.get(&fd)?.read_link_at(&path)?)
    }

    async fn remove_directory_at(&mut self, fd: Handle, path: String) -> FsResult<()> {
        Ok(self.get(&fd)?.remove_directory_at(&path)?)
    }

    async fn rename_at(
        &mut self,
        fd: Handle,
        old_path: String,
        new_fd: Handle,
        new_path: String,
    ) -> FsResult<()> {
        let new = self.get(&new_fd)?;
        Ok(self.get(&fd)?.rename_at(&old_path, new, &new_path)?)
    }

    async fn symlink_at(&mut self, fd: Handle, target: String, path: String) -> FsResult<()> {
        Ok(self.get(&fd)?.symlink_at(&target, &path)?)
    }

    async fn unlink_file_at(&mut self, fd: Handle, path: String) -> FsResult<()> {
        Ok(self.get(&fd)?.unlink_at(&path)?)
    }

    async fn is_same_object(&mut self, fd: Handle, other: Handle) -> wasmtime::Result<bool> {
        let other = self.descriptor(other.rep())?;
        Ok(self.descriptor(fd.rep())?.is_same_object(other))
    }

    async fn metadata_hash(&mut self, fd: Handle) -> FsResult<types::MetadataHashValue> {
        let (lower, upper) = self.get(&fd)?.metadata_hash()?;
        Ok(types::MetadataHashValue { lower, upper })
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Handle,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let hash = self.get(&fd)?.metadata_hash_at(&path, follows(flags));
        let (lower, upper) = hash?;
        Ok(types::MetadataHashValue { lower, upper })
    }

    fn drop(&mut self, fd: Handle) -> wasmtime::Result<()> {
        self.delete(fd.rep())
    }
}

impl types::HostDirectoryEntryStream for FsView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: ListingHandle,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let handle = Resource::<Listing>::new_borrow(stream.rep());
        let listing = self.table.get_mut(&handle)?;
        if listing.fetched.is_empty() {
            listing.fetched = listing.directory.list(listing.next, LIST_BATCH)?.into();
        }
        let entry = listing.fetched.pop_front();
        Ok(entry.map(|entry| {
            listing.next = entry.next;
            types::DirectoryEntry {
                type_: type_of(entry.kind),
                name: entry.name.to_string(),
            }
        }))
    }

    fn drop(&mut self, stream: ListingHandle) -> wasmtime::Result<()> {
        self.table
            .delete(Resource::<Listing>::new_own(stream.rep()))?;
        Ok(())
    }
}

fn follows(flags: types::PathFlags) -> bool {
    flags.contains(types::PathFlags::SYMLINK_FOLLOW)
}
