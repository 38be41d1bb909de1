//! `wasi:filesystem` 0.3 over the pod's filesystem.
//!
//! The technique and the view are those of 0.2 (see `p2::filesystem`); a component may even mix both
//! versions, because their handles live in one table. What differs is how bytes flow: a stream and
//! a future that tells how it ended. Streams copy straight between the guest's memory and the file,
//! without a task and without a buffer in between.

mod convert;
mod streams;

use tokio::sync::oneshot;
use wasmtime::component::{Access, Accessor, FutureReader, Linker, Resource, StreamReader};
use wasmtime_wasi::p3::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use self::convert::{flags_of, new_time, open_options, stat, type_of};
use self::streams::{Listing, Reader, Target, Writer};
use crate::runtime::fs::Descriptor;
use crate::runtime::fs::errno::Errno;

pub use crate::runtime::wasi::p2::filesystem::{FsView, HasFs};

/// Adds `wasi:filesystem/types` and `preopens`.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> FsView<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, HasFs>(linker, get)?;
    preopens::add_to_linker::<T, HasFs>(linker, get)
}

type Handle = Resource<types::Descriptor>;
/// How a stream ended.
type Ended = Result<(), types::ErrorCode>;

impl preopens::Host for FsView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let preopens = self.root.preopens().into_iter();
        preopens
            .map(|(path, descriptor)| Ok((Resource::new_own(self.push(descriptor)?), path)))
            .collect()
    }
}

impl types::Host for FsView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<types::ErrorCode> {
        error.downcast()
    }
}

impl types::HostDescriptor for FsView<'_> {
    fn drop(&mut self, fd: Handle) -> wasmtime::Result<()> {
        self.delete(fd.rep())
    }
}

/// Works on the descriptor behind a handle. Nothing waits, so the store is held meanwhile.
fn on<U, R>(
    store: &Accessor<U, HasFs>,
    fd: &Handle,
    work: impl FnOnce(&Descriptor) -> Result<R, Errno>,
) -> FilesystemResult<R> {
    store.with(|mut store| {
        let view = store.get();
        let descriptor = view.descriptor(fd.rep()).map_err(FilesystemError::trap)?;
        Ok(work(descriptor)?)
    })
}

/// The same with two handles.
fn on_both<U, R>(
    store: &Accessor<U, HasFs>,
    fd: &Handle,
    other: &Handle,
    work: impl FnOnce(&Descriptor, &Descriptor) -> Result<R, Errno>,
) -> FilesystemResult<R> {
    store.with(|mut store| {
        let view = store.get();
        let other = view
            .descriptor(other.rep())
            .map_err(FilesystemError::trap)?;
        let descriptor = view.descriptor(fd.rep()).map_err(FilesystemError::trap)?;
        Ok(work(descriptor, other)?)
    })
}

/// Lets `data` flow into a file.
fn write_stream<U>(
    mut store: Access<'_, U, HasFs>,
    fd: &Handle,
    mut data: StreamReader<u8>,
    target: Target,
) -> wasmtime::Result<FutureReader<Ended>> {
    let (ended, end) = oneshot::channel();
    let descriptor = store.get().descriptor(fd.rep())?.clone();
    match descriptor.streamable() {
        Ok(()) => data.pipe(&mut store, Writer::new(descriptor, target, ended))?,
        Err(errno) => {
            data.close(&mut store)?;
            // The receiver lives until the end of this function.
            drop(ended.send(Err(errno.into())));
        }
    }
    FutureReader::new(&mut store, end)
}

impl<U> types::HostDescriptorWithStore<U> for HasFs {
    fn read_via_stream(
        mut store: Access<U, Self>,
        fd: Handle,
        offset: u64,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Ended>)> {
        let (ended, end) = oneshot::channel();
        let descriptor = store.get().descriptor(fd.rep())?.clone();
        let stream = match descriptor.readable() {
            Ok(_) => StreamReader::new(&mut store, Reader::new(descriptor, offset, ended))?,
            Err(errno) => {
                drop(ended.send(Err(errno.into())));
                StreamReader::new(&mut store, std::iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, end)?))
    }

    fn write_via_stream(
        store: Access<'_, U, Self>,
        fd: Handle,
        data: StreamReader<u8>,
        offset: u64,
    ) -> wasmtime::Result<FutureReader<Ended>> {
        write_stream(store, &fd, data, Target::At(offset))
    }

    fn append_via_stream(
        store: Access<'_, U, Self>,
        fd: Handle,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Ended>> {
        write_stream(store, &fd, data, Target::End)
    }

    async fn advise(
        store: &Accessor<U, Self>,
        fd: Handle,
        _offset: u64,
        _length: u64,
        _advice: types::Advice,
    ) -> FilesystemResult<()> {
        on(store, &fd, Descriptor::require_file)
    }

    async fn sync_data(store: &Accessor<U, Self>, fd: Handle) -> FilesystemResult<()> {
        on(store, &fd, Descriptor::sync_data)
    }

    async fn get_flags(
        store: &Accessor<U, Self>,
        fd: Handle,
    ) -> FilesystemResult<types::DescriptorFlags> {
        on(store, &fd, |descriptor| Ok(flags_of(descriptor)))
    }

    async fn get_type(
        store: &Accessor<U, Self>,
        fd: Handle,
    ) -> FilesystemResult<types::DescriptorType> {
        on(store, &fd, |descriptor| Ok(type_of(descriptor.kind())))
    }

    async fn set_size(store: &Accessor<U, Self>, fd: Handle, size: u64) -> FilesystemResult<()> {
        on(store, &fd, |descriptor| descriptor.set_len(size))
    }

    async fn set_times(
        store: &Accessor<U, Self>,
        fd: Handle,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FilesystemResult<()> {
        let (accessed, modified) = (new_time(accessed)?, new_time(modified)?);
        on(store, &fd, |descriptor| {
            descriptor.set_times(accessed, modified)
        })
    }

    fn read_directory(
        mut store: Access<'_, U, Self>,
        fd: Handle,
    ) -> wasmtime::Result<(StreamReader<types::DirectoryEntry>, FutureReader<Ended>)> {
        let (ended, end) = oneshot::channel();
        let descriptor = store.get().descriptor(fd.rep())?.clone();
        let stream = match descriptor.list(0, 0) {
            Ok(_) => StreamReader::new(&mut store, Listing::new(descriptor, ended))?,
            Err(errno) => {
                drop(ended.send(Err(errno.into())));
                StreamReader::new(&mut store, std::iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, end)?))
    }

    async fn sync(store: &Accessor<U, Self>, fd: Handle) -> FilesystemResult<()> {
        on(store, &fd, Descriptor::sync)
    }

    async fn create_directory_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        path: String,
    ) -> FilesystemResult<()> {
        on(store, &fd, |directory| directory.create_directory_at(&path))
    }

    async fn stat(
        store: &Accessor<U, Self>,
        fd: Handle,
    ) -> FilesystemResult<types::DescriptorStat> {
        Ok(stat(on(store, &fd, Descriptor::stat)?))
    }

    async fn stat_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        flags: types::PathFlags,
        path: String,
    ) -> FilesystemResult<types::DescriptorStat> {
        let found = on(store, &fd, |directory| {
            directory.stat_at(&path, follows(flags))
        });
        Ok(stat(found?))
    }

    async fn set_times_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FilesystemResult<()> {
        let (accessed, modified) = (new_time(accessed)?, new_time(modified)?);
        on(store, &fd, |directory| {
            directory.set_times_at(&path, follows(flags), accessed, modified)
        })
    }

    async fn link_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        flags: types::PathFlags,
        old_path: String,
        new_fd: Handle,
        new_path: String,
    ) -> FilesystemResult<()> {
        if follows(flags) {
            return Err(types::ErrorCode::Invalid.into());
        }
        on_both(store, &fd, &new_fd, |directory, new| {
            directory.link_at(&old_path, new, &new_path)
        })
    }

    async fn open_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FilesystemResult<Handle> {
        let options = open_options(follows(path_flags), open_flags, flags);
        let opened = on(store, &fd, |base| base.open_at(&path, options))?;
        let rep = store.with(|mut store| store.get().push(opened));
        Ok(Resource::new_own(rep.map_err(FilesystemError::trap)?))
    }

    async fn readlink_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        path: String,
    ) -> FilesystemResult<String> {
        on(store, &fd, |directory| directory.read_link_at(&path))
    }

    async fn remove_directory_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        path: String,
    ) -> FilesystemResult<()> {
        on(store, &fd, |directory| directory.remove_directory_at(&path))
    }

    async fn rename_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        old_path: String,
        new_fd: Handle,
        new_path: String,
    ) -> FilesystemResult<()> {
        on_both(store, &fd, &new_fd, |directory, new| {
            directory.rename_at(&old_path, new, &new_path)
        })
    }

    async fn symlink_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        target: String,
        path: String,
    ) -> FilesystemResult<()> {
        on(store, &fd, |directory| directory.symlink_at(&target, &path))
    }

    async fn unlink_file_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        path: String,
    ) -> FilesystemResult<()> {
        on(store, &fd, |directory| directory.unlink_at(&path))
    }

    async fn is_same_object(
        store: &Accessor<U, Self>,
        fd: Handle,
        other: Handle,
    ) -> wasmtime::Result<bool> {
        store.with(|mut store| {
            let view = store.get();
            let other = view.descriptor(other.rep())?;
            Ok(view.descriptor(fd.rep())?.is_same_object(other))
        })
    }

    async fn metadata_hash(
        store: &Accessor<U, Self>,
        fd: Handle,
    ) -> FilesystemResult<types::MetadataHashValue> {
        let (lower, upper) = on(store, &fd, Descriptor::metadata_hash)?;
        Ok(types::MetadataHashValue { lower, upper })
    }

    async fn metadata_hash_at(
        store: &Accessor<U, Self>,
        fd: Handle,
        flags: types::PathFlags,
        path: String,
    ) -> FilesystemResult<types::MetadataHashValue> {
        let hash = on(store, &fd, |directory| {
            directory.metadata_hash_at(&path, follows(flags))
        });
        let (lower, upper) = hash?;
        Ok(types::MetadataHashValue { lower, upper })
    }
}

fn follows(flags: types::PathFlags) -> bool {
    flags.contains(types::PathFlags::SYMLINK_FOLLOW)
}
