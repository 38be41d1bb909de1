//! `wasi:filesystem` 0.2 by its host traits, and both versions in one linker.

use std::sync::Arc;

use wasmorch::runtime::fs::Root;
use wasmorch::runtime::wasi::p2::filesystem::FsView;
use wasmorch::runtime::wasi::{p2, p3};
use wasmtime::Engine;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, Host as _, HostDescriptor,
    HostDirectoryEntryStream, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsResult, StreamError};

struct State {
    root: Arc<Root>,
    table: ResourceTable,
}

impl State {
    fn new() -> Self {
        Self {
            root: super::root(),
            table: ResourceTable::new(),
        }
    }

    fn view(&mut self) -> FsView<'_> {
        FsView {
            root: &self.root,
            table: &mut self.table,
        }
    }

    fn preopen(&mut self) -> u32 {
        let mut preopens = self.view().get_directories().unwrap();
        assert_eq!(preopens.len(), 1);
        let (directory, path) = preopens.remove(0);
        assert_eq!(path, "/");
        directory.rep()
    }

    async fn open(&mut self, base: u32, path: &str, mode: &str) -> Result<u32, ErrorCode> {
        let mut open = OpenFlags::empty();
        let mut flags = DescriptorFlags::empty();
        for letter in mode.chars() {
            match letter {
                'c' => open |= OpenFlags::CREATE,
                't' => open |= OpenFlags::TRUNCATE,
                'd' => open |= OpenFlags::DIRECTORY,
                'r' => flags |= DescriptorFlags::READ,
                'w' => flags |= DescriptorFlags::WRITE,
                _ => flags |= DescriptorFlags::DATA_INTEGRITY_SYNC,
            }
        }
        let follow = PathFlags::SYMLINK_FOLLOW;
        let opened = self
            .view()
            .open_at(handle(base), follow, path.to_owned(), open, flags)
            .await;
        self.outcome(opened).map(|opened| opened.rep())
    }

    fn outcome<T>(&mut self, result: FsResult<T>) -> Result<T, ErrorCode> {
        result.map_err(|error| self.view().convert_error_code(error).unwrap())
    }

    fn writer(&mut self, stream: &Resource<DynOutputStream>) -> &mut DynOutputStream {
        self.table.get_mut(stream).unwrap()
    }
}

fn handle(rep: u32) -> Resource<Descriptor> {
    Resource::new_borrow(rep)
}

#[tokio::test]
async fn descriptors_read_write_and_tell() {
    let mut state = State::new();
    let root = state.preopen();
    assert_eq!(state.open(root, "a", "r").await, Err(ErrorCode::NoEntry));
    let file = state.open(root, "a", "crw").await.unwrap();
    let written = state.view().write(handle(file), b"hello".to_vec(), 3).await;
    assert_eq!(state.outcome(written), Ok(5));
    let read = state.view().read(handle(file), u64::MAX, 2).await;
    assert_eq!(state.outcome(read), Ok((b"\0hello".to_vec(), false)));
    let end = state.view().read(handle(file), 1, 8).await;
    assert_eq!(state.outcome(end), Ok((Vec::new(), true)));
    let stat = state.view().stat(handle(file)).await;
    let stat = state.outcome(stat).unwrap();
    assert_eq!((stat.size, stat.type_), (8, DescriptorType::RegularFile));
    let flags = state.view().get_flags(handle(root)).await;
    let expected = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
    assert_eq!(state.outcome(flags), Ok(expected));
    let synchronized = state.open(root, "a", "ws").await.unwrap();
    let flags = state.view().get_flags(handle(synchronized)).await;
    let expected = DescriptorFlags::WRITE | DescriptorFlags::DATA_INTEGRITY_SYNC;
    assert_eq!(state.outcome(flags), Ok(expected));
    let set = state
        .view()
        .set_times(handle(file), NewTimestamp::Now, NewTimestamp::NoChange)
        .await;
    assert_eq!(state.outcome(set), Ok(()));
    let read = state.view().read(handle(root), 1, 0).await;
    assert_eq!(state.outcome(read), Err(ErrorCode::IsDirectory));
    HostDescriptor::drop(&mut state.view(), Resource::new_own(file)).unwrap();
    assert!(state.view().stat(handle(file)).await.is_err());
}

#[tokio::test]
async fn streams_close_at_the_end_and_after_an_error() {
    let mut state = State::new();
    let root = state.preopen();
    let file = state.open(root, "a", "crw").await.unwrap();
    let stream = state.view().append_via_stream(handle(file)).unwrap();
    for part in ["one ", "two"] {
        let writer = state.writer(&stream);
        assert!(writer.check_write().unwrap() >= part.len());
        writer.write(part.into()).unwrap();
        writer.flush().unwrap();
    }
    let stream: Resource<DynInputStream> = state.view().read_via_stream(handle(file), 4).unwrap();
    let reader = state.table.get_mut(&stream).unwrap();
    assert!(reader.read(0).unwrap().is_empty());
    assert_eq!(&reader.read(2).unwrap()[..], b"tw");
    assert_eq!(&reader.read(100).unwrap()[..], b"o");
    assert!(matches!(reader.read(1), Err(StreamError::Closed)));

    // Beyond the end of the largest file.
    let stream = state.view().write_via_stream(handle(file), i64::MAX as u64);
    let stream = stream.unwrap();
    let failed = state.writer(&stream).write("x".into()).unwrap_err();
    let StreamError::LastOperationFailed(error) = failed else {
        panic!("{failed:?} tells no cause");
    };
    let error = state.table.push(error).unwrap();
    let code = state.view().filesystem_error_code(error).unwrap();
    assert_eq!(code, Some(ErrorCode::FileTooLarge));
    let after = state.writer(&stream).check_write();
    assert!(matches!(after, Err(StreamError::Closed)));

    let read_only = state.open(root, "a", "r").await.unwrap();
    let refused = state.view().write_via_stream(handle(read_only), 0);
    assert_eq!(
        state.outcome(refused).unwrap_err(),
        ErrorCode::BadDescriptor
    );
}

#[tokio::test]
async fn directories_are_listed_without_dots() {
    let mut state = State::new();
    let root = state.preopen();
    for number in 0..150 {
        state
            .open(root, &format!("tmp/{number}"), "cw")
            .await
            .unwrap();
    }
    let directory = state.open(root, "tmp", "d").await.unwrap();
    let stream = state.view().read_directory(handle(directory)).await;
    let stream = state.outcome(stream).unwrap().rep();
    for number in 0..150 {
        let entry = state
            .view()
            .read_directory_entry(Resource::new_borrow(stream))
            .await;
        let entry = state.outcome(entry).unwrap().unwrap();
        assert_eq!(entry.name, number.to_string());
    }
    let end = state
        .view()
        .read_directory_entry(Resource::new_borrow(stream))
        .await;
    assert!(state.outcome(end).unwrap().is_none());
    HostDirectoryEntryStream::drop(&mut state.view(), Resource::new_own(stream)).unwrap();
    let file = state.view().read_directory(handle(directory + 1000)).await;
    assert!(file.is_err(), "a handle that is none is a trap");
}

#[tokio::test]
async fn both_versions_fit_into_one_linker() {
    let mut linker = Linker::<State>::new(&Engine::default());
    p2::filesystem::add_to_linker(&mut linker, State::view).unwrap();
    p3::filesystem::add_to_linker(&mut linker, State::view).unwrap();
}
