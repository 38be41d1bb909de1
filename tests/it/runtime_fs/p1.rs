//! All functions of WASI 0.1, called one by one.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmorch::clock::Clock;
use wasmorch::runtime::fs::Root;
use wasmorch::runtime::net::TcpListener;
use wasmorch::runtime::spec::{PortSpec, Protocol};
use wasmorch::runtime::wasi::p1::{self, Config, MODULE, P1};
use wasmtime::{Engine, Instance, Linker, Memory, Module, Store, Val};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

use super::world::World;

/// Every function with its parameters: `i` is 32 bits, `l` is 64.
const FUNCTIONS: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

const SUCCESS: i32 = 0;
const AGAIN: i32 = 6;
const BADF: i32 = 8;
const EXIST: i32 = 20;
const ILSEQ: i32 = 25;
const INVAL: i32 = 28;
const ISDIR: i32 = 31;
const LOOP: i32 = 32;
const MFILE: i32 = 33;
const NAMETOOLONG: i32 = 37;
const NOENT: i32 = 44;
const NOTDIR: i32 = 54;
const NOTSOCK: i32 = 57;
const NOTSUP: i32 = 58;
const PERM: i32 = 63;
const PIPE: i32 = 64;
const SPIPE: i32 = 70;

const CREAT: i64 = 1;
const DIRECTORY: i64 = 2;
const EXCL: i64 = 4;
const TRUNC: i64 = 8;
const READ: i64 = 1 << 1;
const WRITE: i64 = 1 << 6;
const APPEND: i64 = 1;
const NONBLOCK: i64 = 4;

/// Where things lie in the guest's memory.
const OUT: u32 = 0;
const VECTORS: u32 = 64;
const PATH: u32 = 1024;
const OTHER_PATH: u32 = 8192;
const DATA: u32 = 65536;

struct Guest {
    store: Store<P1>,
    instance: Instance,
    memory: Memory,
    stdout: MemoryOutputPipe,
}

fn config(root: Arc<Root>) -> Config {
    Config {
        args: vec!["prog".to_owned(), "one".to_owned()],
        env: vec![("A".to_owned(), "b=c".to_owned())],
        root,
        listeners: Vec::new(),
        stdin: Box::new(MemoryInputPipe::new("typed")),
        stdout: Box::new(MemoryOutputPipe::new(1 << 20)),
        stderr: Box::new(MemoryOutputPipe::new(1 << 20)),
        clock: Clock::system(),
        max_descriptors: 32,
    }
}

/// Compiled once for all tests.
fn compiled() -> &'static (Engine, Module) {
    static COMPILED: LazyLock<(Engine, Module)> = LazyLock::new(|| {
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(module()).unwrap()).unwrap();
        (engine, module)
    });
    &COMPILED
}

fn module() -> String {
    let mut text = String::from("(module\n");
    for (name, parameters) in FUNCTIONS {
        let result = if name == "proc_exit" {
            ""
        } else {
            "(result i32)"
        };
        let types = types(parameters);
        text += &format!("(import \"{MODULE}\" \"{name}\" (func ${name} {types} {result}))\n");
    }
    text += "(memory (export \"memory\") 4)\n";
    for (name, parameters) in FUNCTIONS {
        let types = types(parameters);
        let arguments: String = (0..parameters.len())
            .map(|index| format!("local.get {index} "))
            .collect();
        let end = if name == "proc_exit" {
            "unreachable"
        } else {
            ""
        };
        text += &format!(
            "(func (export \"{name}\") {types} (result i32) {arguments} call ${name} {end})\n"
        );
    }
    text + ")"
}

fn types(parameters: &str) -> String {
    let names = parameters.chars().map(|kind| match kind {
        'i' => " i32",
        _ => " i64",
    });
    format!("(param{})", names.collect::<String>())
}

impl Guest {
    async fn new(mut config: Config) -> Self {
        let stdout = MemoryOutputPipe::new(100);
        config.stdout = Box::new(stdout.clone());
        let (engine, module) = compiled();
        let mut linker = Linker::new(engine);
        p1::add_to_linker(&mut linker, |p1: &mut P1| p1).unwrap();
        let mut store = Store::new(engine, P1::new(config));
        let instance = linker.instantiate_async(&mut store, module).await.unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Self {
            store,
            instance,
            memory,
            stdout,
        }
    }

    async fn with_root() -> Self {
        Self::new(config(super::root())).await
    }

    async fn try_call(&mut self, name: &str, arguments: &[i64]) -> wasmtime::Result<i32> {
        let (_, parameters) = FUNCTIONS.iter().find(|(known, _)| *known == name).unwrap();
        assert_eq!(parameters.len(), arguments.len(), "{name}");
        let values: Vec<Val> = parameters
            .chars()
            .zip(arguments)
            .map(|(kind, value)| match kind {
                'i' => Val::I32(*value as i32),
                _ => Val::I64(*value),
            })
            .collect();
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let mut results = [Val::I32(-1)];
        function
            .call_async(&mut self.store, &values, &mut results)
            .await?;
        Ok(results[0].unwrap_i32())
    }

    async fn call(&mut self, name: &str, arguments: &[i64]) -> i32 {
        self.try_call(name, arguments).await.unwrap()
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        self.memory
            .write(&mut self.store, at as usize, bytes)
            .unwrap();
    }

    fn bytes(&self, at: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory
            .read(&self.store, at as usize, &mut bytes)
            .unwrap();
        bytes
    }

    fn u32(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    fn u64(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    /// Puts a path at `at`; gives its pointer and length as arguments.
    fn path(&mut self, at: u32, path: &str) -> [i64; 2] {
        self.put(at, path.as_bytes());
        [i64::from(at), path.len() as i64]
    }

    async fn on_path(&mut self, name: &str, fd: i64, path: &str) -> i32 {
        let [pointer, length] = self.path(PATH, path);
        self.call(name, &[fd, pointer, length]).await
    }

    /// `path_open` without following links.
    async fn open(
        &mut self,
        path: &str,
        flags: i64,
        rights: i64,
        fd_flags: i64,
    ) -> Result<i64, i32> {
        self.open_at(3, path, flags, rights, fd_flags).await
    }

    async fn open_at(
        &mut self,
        fd: i64,
        path: &str,
        flags: i64,
        rights: i64,
        fd_flags: i64,
    ) -> Result<i64, i32> {
        let [pointer, length] = self.path(PATH, path);
        let arguments = [
            fd,
            0,
            pointer,
            length,
            flags,
            rights,
            0,
            fd_flags,
            i64::from(OUT),
        ];
        match self.call("path_open", &arguments).await {
            SUCCESS => Ok(i64::from(self.u32(OUT))),
            errno => Err(errno),
        }
    }

    /// Puts a vector of buffers that lie one after the other from `DATA` on.
    fn vector(&mut self, lengths: &[u32]) -> [i64; 2] {
        let mut at = DATA;
        for (index, length) in lengths.iter().enumerate() {
            let entry = VECTORS + index as u32 * 8;
            self.put(entry, &at.to_le_bytes());
            self.put(entry + 4, &length.to_le_bytes());
            at += length;
        }
        [i64::from(VECTORS), lengths.len() as i64]
    }

    async fn write(&mut self, fd: i64, data: &str) -> Result<u32, i32> {
        self.put(DATA, data.as_bytes());
        let half = data.len() as u32 / 2;
        let [vectors, count] = self.vector(&[half, data.len() as u32 - half]);
        self.counted("fd_write", &[fd, vectors, count, i64::from(OUT)])
            .await
    }

    async fn read(&mut self, fd: i64, length: u32) -> Result<String, i32> {
        let [vectors, count] = self.vector(&[length / 2, length - length / 2]);
        let count = self
            .counted("fd_read", &[fd, vectors, count, i64::from(OUT)])
            .await?;
        Ok(String::from_utf8(self.bytes(DATA, count as usize)).unwrap())
    }

    /// A function that leaves a count at `OUT`.
    async fn counted(&mut self, name: &str, arguments: &[i64]) -> Result<u32, i32> {
        match self.call(name, arguments).await {
            SUCCESS => Ok(self.u32(OUT)),
            errno => Err(errno),
        }
    }

    async fn seek(&mut self, fd: i64, offset: i64, whence: i64) -> Result<u64, i32> {
        match self
            .call("fd_seek", &[fd, offset, whence, i64::from(OUT)])
            .await
        {
            SUCCESS => Ok(self.u64(OUT)),
            errno => Err(errno),
        }
    }

    /// Subscriptions as (tag, descriptor or timeout); gives the indices of those that are ready.
    async fn poll(&mut self, subscriptions: &[(u8, u64)]) -> Result<Vec<u64>, i32> {
        let mut at = DATA;
        for (index, (tag, value)) in subscriptions.iter().enumerate() {
            let mut bytes = [0; 48];
            bytes[0] = index as u8;
            bytes[8] = *tag;
            if *tag == 0 {
                bytes[16] = 1;
                bytes[24..32].copy_from_slice(&value.to_le_bytes());
            } else {
                bytes[16..24].copy_from_slice(&value.to_le_bytes());
            }
            self.put(at, &bytes);
            at += 48;
        }
        let events = DATA + 4096;
        let count = subscriptions.len() as i64;
        let arguments = [i64::from(DATA), i64::from(events), count, i64::from(OUT)];
        let ready = self.counted("poll_oneoff", &arguments).await?;
        Ok((0..ready)
            .map(|index| self.u64(events + index * 32))
            .collect())
    }
}

#[tokio::test]
async fn arguments_environment_clocks_and_randomness() {
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.call("args_sizes_get", &[0, 4]).await, SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (2, 9));
    assert_eq!(guest.call("args_get", &[0, 100]).await, SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (100, 105));
    assert_eq!(guest.bytes(100, 9), b"prog\0one\0");
    assert_eq!(guest.call("environ_sizes_get", &[0, 4]).await, SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (1, 6));
    assert_eq!(guest.call("environ_get", &[0, 100]).await, SUCCESS);
    assert_eq!(guest.bytes(100, 6), b"A=b=c\0");

    assert_eq!(guest.call("clock_time_get", &[0, 1, 0]).await, SUCCESS);
    assert!(guest.u64(0) > 1_700_000_000_000_000_000);
    assert_eq!(guest.call("clock_time_get", &[1, 1, 0]).await, SUCCESS);
    let before = guest.u64(0);
    assert_eq!(guest.call("sched_yield", &[]).await, SUCCESS);
    assert_eq!(guest.call("clock_time_get", &[1, 1, 0]).await, SUCCESS);
    assert!(guest.u64(0) > before);
    assert_eq!(guest.call("clock_res_get", &[1, 0]).await, SUCCESS);
    assert_eq!(guest.call("clock_time_get", &[2, 1, 0]).await, BADF);
    assert_eq!(guest.call("clock_time_get", &[9, 1, 0]).await, INVAL);

    assert_eq!(guest.call("random_get", &[0, 200_000]).await, SUCCESS);
    let bytes = guest.bytes(0, 200_000);
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    assert!(
        (400..1200).contains(&zeros),
        "{zeros} of 200,000 bytes are zero"
    );
}

#[tokio::test]
async fn exit_codes_are_exact() {
    for code in [0, 1, 7, 255, -1] {
        let mut guest = Guest::with_root().await;
        let error = guest.try_call("proc_exit", &[code]).await.unwrap_err();
        assert_eq!(i64::from(error.downcast_ref::<I32Exit>().unwrap().0), code);
    }
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.call("proc_raise", &[6]).await, NOTSUP);
}

#[tokio::test]
async fn pointers_outside_the_memory_are_traps() {
    let outside = [i64::from(u32::MAX), 262_144, 262_140];
    for pointer in outside {
        let mut guest = Guest::with_root().await;
        let calls: [(&str, &[i64]); 6] = [
            ("clock_time_get", &[0, 0, pointer]),
            ("fd_read", &[0, pointer, 1, 0]),
            ("fd_filestat_get", &[3, pointer]),
            ("path_create_directory", &[3, pointer, 9]),
            ("random_get", &[pointer, 100]),
            ("poll_oneoff", &[pointer, 0, 1, 0]),
        ];
        for (name, arguments) in calls {
            let error = guest.try_call(name, arguments).await.unwrap_err();
            let chain = format!("{error:?}");
            assert!(chain.contains("outside the memory"), "{name}: {chain}");
        }
    }
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.call("fd_read", &[0, 0, 100_000, 0]).await, INVAL);
    assert_eq!(
        guest.call("path_create_directory", &[3, 0, 5000]).await,
        NAMETOOLONG
    );
    assert_eq!(
        guest
            .call("poll_oneoff", &[0, 0, i64::from(u32::MAX), 0])
            .await,
        INVAL
    );
}

#[tokio::test]
async fn preopens_are_told() {
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.call("fd_prestat_get", &[3, 0]).await, SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (0, 1));
    assert_eq!(
        guest.call("fd_prestat_dir_name", &[3, 0, 0]).await,
        NAMETOOLONG
    );
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, 0, 2]).await, SUCCESS);
    assert_eq!(guest.bytes(0, 1), b"/");
    assert_eq!(guest.call("fd_prestat_get", &[4, 0]).await, BADF);
    assert_eq!(guest.call("fd_prestat_get", &[0, 0]).await, BADF);

    let spec = wasmorch::runtime::fs::RootSpec {
        working_dir: Some("/work"),
        ..Default::default()
    };
    let mut guest = Guest::new(config(super::root_with(&[], &spec))).await;
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, 0, 1]).await, SUCCESS);
    assert_eq!(guest.bytes(0, 1), b".");
    assert_eq!(guest.open("f", CREAT, WRITE, 0).await, Ok(5));
    assert_eq!(guest.open_at(4, "work/f", 0, READ, 0).await, Ok(6));
}

#[tokio::test]
async fn files_are_written_read_and_sought() {
    let mut guest = Guest::with_root().await;
    let file = guest
        .open("a", CREAT | EXCL, READ | WRITE, 0)
        .await
        .unwrap();
    assert_eq!(file, 4);
    assert_eq!(guest.open("a", CREAT | EXCL, READ, 0).await, Err(EXIST));
    assert_eq!(guest.open("no", 0, READ, 0).await, Err(NOENT));
    assert_eq!(guest.write(file, "hello").await, Ok(5));
    assert_eq!(guest.read(file, 10).await.as_deref(), Ok(""));
    assert_eq!(guest.seek(file, 1, 0).await, Ok(1));
    assert_eq!(guest.read(file, 3).await.as_deref(), Ok("ell"));
    assert_eq!(guest.call("fd_tell", &[file, 0]).await, SUCCESS);
    assert_eq!(guest.u64(0), 4);
    assert_eq!(guest.seek(file, -2, 1).await, Ok(2));
    assert_eq!(guest.seek(file, -1, 2).await, Ok(4));
    assert_eq!(guest.seek(file, -9, 2).await, Err(INVAL));
    assert_eq!(guest.seek(file, 0, 7).await, Err(INVAL));
    assert_eq!(guest.seek(0, 0, 1).await, Err(SPIPE));
    assert_eq!(guest.seek(3, 0, 1).await, Err(BADF));
    let [vectors, count] = guest.vector(&[2, 2]);
    let pread = [file, vectors, count, 3, 0];
    assert_eq!(guest.counted("fd_pread", &pread).await, Ok(2));
    guest.put(DATA, b"XY");
    let [vectors, count] = guest.vector(&[2]);
    let pwrite = [file, vectors, count, 1, 0];
    assert_eq!(guest.counted("fd_pwrite", &pwrite).await, Ok(2));
    assert_eq!(guest.seek(file, 0, 0).await, Ok(0));
    assert_eq!(guest.read(file, 10).await.as_deref(), Ok("hXYlo"));
    assert_eq!(
        guest.call("fd_filestat_set_size", &[file, 2]).await,
        SUCCESS
    );
    assert_eq!(guest.call("fd_filestat_get", &[file, 0]).await, SUCCESS);
    assert_eq!(
        (guest.bytes(16, 1)[0], guest.u64(24), guest.u64(32)),
        (4, 1, 2)
    );
    for (name, expected) in [
        ("fd_sync", SUCCESS),
        ("fd_datasync", SUCCESS),
        ("fd_close", SUCCESS),
    ] {
        assert_eq!(guest.call(name, &[file]).await, expected, "{name}");
    }
    assert_eq!(guest.call("fd_close", &[file]).await, BADF);
}

#[tokio::test]
async fn access_follows_the_requested_rights() {
    let mut guest = Guest::with_root().await;
    let write = guest.open("a", CREAT, WRITE, 0).await.unwrap();
    assert_eq!(guest.read(write, 1).await, Err(BADF));
    assert_eq!(guest.write(write, "xy").await, Ok(2));
    let read = guest.open("a", 0, READ, 0).await.unwrap();
    assert_eq!(guest.write(read, "xy").await, Err(BADF));
    assert_eq!(guest.call("fd_filestat_set_size", &[read, 0]).await, INVAL);
    for (fd, expected) in [(read, (true, false)), (write, (false, true))] {
        assert_eq!(guest.call("fd_fdstat_get", &[fd, 0]).await, SUCCESS);
        let rights = guest.u64(8) as i64;
        assert_eq!((rights & READ != 0, rights & WRITE != 0), expected);
        assert_eq!(rights & (1 << 14), 0, "a file has no right to be listed");
    }
    assert_eq!(
        guest.call("fd_fdstat_set_rights", &[read, 0, 0]).await,
        NOTSUP
    );
    assert_eq!(guest.open("a", TRUNC, READ | WRITE, 0).await, Ok(6));
    assert_eq!(guest.read(read, 5).await.as_deref(), Ok(""));
    assert_eq!(guest.open("a", DIRECTORY, READ, 0).await, Err(NOTDIR));
    assert_eq!(guest.open("tmp", 0, WRITE, 0).await, Err(ISDIR));
    assert_eq!(guest.open("a", 0, READ, 16).await, Err(NOTSUP));
    assert_eq!(guest.open("a", 64, READ, 0).await, Err(INVAL));
    assert_eq!(guest.open("/a", 0, READ, 0).await, Err(PERM));
    assert_eq!(guest.open("../a", 0, READ, 0).await, Err(PERM));
    assert_eq!(guest.open_at(read, "a", 0, READ, 0).await, Err(NOTDIR));
    assert_eq!(guest.open_at(0, "a", 0, READ, 0).await, Err(BADF));
}

#[tokio::test]
async fn append_mode_goes_to_the_end_whatever_the_position() {
    let mut guest = Guest::with_root().await;
    let one = guest
        .open("log", CREAT, READ | WRITE, APPEND)
        .await
        .unwrap();
    let two = guest.open("log", 0, WRITE, APPEND).await.unwrap();
    assert_eq!(guest.write(one, "one").await, Ok(3));
    assert_eq!(guest.write(two, "two").await, Ok(3));
    assert_eq!(guest.seek(one, 0, 0).await, Ok(0));
    assert_eq!(guest.write(one, "1").await, Ok(1));
    assert_eq!(guest.seek(one, 0, 1).await, Ok(7));
    assert_eq!(guest.call("fd_fdstat_get", &[one, 0]).await, SUCCESS);
    assert_eq!(guest.bytes(0, 4), [4, 0, 1, 0]);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[one, 0]).await, SUCCESS);
    assert_eq!(guest.seek(one, 0, 0).await, Ok(0));
    assert_eq!(guest.write(one, "O").await, Ok(1));
    assert_eq!(guest.seek(one, 0, 0).await, Ok(0));
    assert_eq!(guest.read(one, 20).await.as_deref(), Ok("Onetwo1"));
    assert_eq!(guest.call("fd_fdstat_set_flags", &[one, 16]).await, INVAL);
}

#[tokio::test]
async fn directories_refuse_what_files_do() {
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.read(3, 1).await, Err(BADF));
    assert_eq!(guest.write(3, "x").await, Err(BADF));
    let calls: [(&str, &[i64]); 9] = [
        ("fd_pread", &[3, 64, 0, 0, 0]),
        ("fd_pwrite", &[3, 64, 0, 0, 0]),
        ("fd_tell", &[3, 0]),
        ("fd_advise", &[3, 0, 0, 4]),
        ("fd_allocate", &[3, 0, 1]),
        ("fd_datasync", &[3]),
        ("fd_sync", &[3]),
        ("fd_fdstat_set_flags", &[3, 4]),
        ("fd_filestat_set_size", &[3, 0]),
    ];
    for (name, arguments) in calls {
        assert_eq!(guest.call(name, arguments).await, BADF, "{name}");
    }
    let file = guest.open("a", CREAT, WRITE, 0).await.unwrap();
    assert_eq!(guest.call("fd_allocate", &[file, 0, 1]).await, NOTSUP);
    assert_eq!(guest.call("fd_advise", &[file, 0, 0, 0]).await, SUCCESS);
    assert_eq!(guest.call("fd_advise", &[file, 0, 0, 9]).await, INVAL);
}

#[tokio::test]
async fn paths_are_changed() {
    let mut guest = Guest::with_root().await;
    assert_eq!(
        guest.on_path("path_create_directory", 3, "d").await,
        SUCCESS
    );
    assert_eq!(guest.on_path("path_create_directory", 3, "d/").await, EXIST);
    let file = guest.open("d/f", CREAT, WRITE, 0).await.unwrap();
    assert_eq!(guest.write(file, "data").await, Ok(4));
    assert_eq!(guest.on_path("path_unlink_file", 3, "d").await, ISDIR);
    assert_eq!(guest.on_path("path_remove_directory", 3, "d").await, 55);
    assert_eq!(
        guest.on_path("path_remove_directory", 3, "d/f").await,
        NOTDIR
    );

    let [path, length] = guest.path(PATH, "d/f");
    let [new, new_length] = guest.path(OTHER_PATH, "g");
    let link = [3, 0, path, length, 3, new, new_length];
    assert_eq!(guest.call("path_link", &link).await, SUCCESS);
    assert_eq!(guest.call("path_link", &link).await, EXIST);
    let followed = [3, 1, path, length, 3, new, new_length];
    assert_eq!(guest.call("path_link", &followed).await, INVAL);
    let stat = [3, 0, new, new_length, 0];
    assert_eq!(guest.call("path_filestat_get", &stat).await, SUCCESS);
    assert_eq!((guest.u64(24), guest.u64(32)), (2, 4));
    let rename = [3, new, new_length, 3, path, length];
    assert_eq!(guest.call("path_rename", &rename).await, SUCCESS);

    let [target, target_length] = guest.path(PATH, "d/f");
    let [name, name_length] = guest.path(OTHER_PATH, "l");
    let symlink = [target, target_length, 3, name, name_length];
    assert_eq!(guest.call("path_symlink", &symlink).await, SUCCESS);
    let readlink = [3, name, name_length, i64::from(DATA), 2, 0];
    assert_eq!(guest.counted("path_readlink", &readlink).await, Ok(2));
    assert_eq!(guest.bytes(DATA, 2), b"d/");
    assert_eq!(guest.open("l", 0, READ, 0).await, Err(LOOP));
    let stat = [3, 0, name, name_length, 0];
    assert_eq!(guest.call("path_filestat_get", &stat).await, SUCCESS);
    assert_eq!(guest.bytes(16, 1), [7]);
    let stat = [3, 1, name, name_length, 0];
    assert_eq!(guest.call("path_filestat_get", &stat).await, SUCCESS);
    assert_eq!(guest.bytes(16, 1), [4]);
    assert_eq!(guest.on_path("path_unlink_file", 3, "l").await, SUCCESS);

    guest.put(PATH, &[0xff]);
    assert_eq!(
        guest
            .call("path_unlink_file", &[3, i64::from(PATH), 1])
            .await,
        ILSEQ
    );
    guest.put(PATH, b"a\0");
    assert_eq!(
        guest
            .call("path_unlink_file", &[3, i64::from(PATH), 2])
            .await,
        INVAL
    );
}

#[tokio::test]
async fn times_are_set() {
    let mut guest = Guest::with_root().await;
    let file = guest.open("a", CREAT, WRITE, 0).await.unwrap();
    let set = "fd_filestat_set_times";
    assert_eq!(guest.call(set, &[file, 5, 7, 1 | 4]).await, SUCCESS);
    assert_eq!(guest.call("fd_filestat_get", &[file, 0]).await, SUCCESS);
    assert_eq!((guest.u64(40), guest.u64(48)), (5, 7));
    assert_eq!(guest.call(set, &[file, 0, 0, 1 | 2]).await, INVAL);
    assert_eq!(guest.call(set, &[file, 0, 0, 16]).await, INVAL);
    assert_eq!(guest.call(set, &[file, 0, 0, 8]).await, SUCCESS);
    let [path, length] = guest.path(PATH, "a");
    let arguments = [3, 0, path, length, 9, 9, 1];
    assert_eq!(
        guest.call("path_filestat_set_times", &arguments).await,
        SUCCESS
    );
    assert_eq!(guest.call("fd_filestat_get", &[file, 0]).await, SUCCESS);
    assert_eq!(guest.u64(40), 9);
    assert!(guest.u64(48) > 1_700_000_000_000_000_000);
}

#[tokio::test]
async fn directories_are_listed_in_pieces() {
    let mut guest = Guest::with_root().await;
    for number in 0..200 {
        let file = guest.open(&format!("tmp/{number}"), CREAT, WRITE, 0).await;
        guest.call("fd_close", &[file.unwrap()]).await;
    }
    let directory = guest.open("tmp", DIRECTORY, READ, 0).await.unwrap();
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let arguments = [directory, i64::from(DATA), 300, cookie, 0];
        let used = guest.counted("fd_readdir", &arguments).await.unwrap();
        let mut at = DATA;
        while at + 24 <= DATA + used {
            let length = guest.u32(at + 16);
            if at + 24 + length > DATA + used {
                break;
            }
            cookie = guest.u64(at) as i64;
            names.push(String::from_utf8(guest.bytes(at + 24, length as usize)).unwrap());
            at += 24 + length;
        }
        if used < 300 {
            break;
        }
    }
    let expected: Vec<String> = [".", ".."]
        .map(str::to_owned)
        .into_iter()
        .chain((0..200).map(|number| number.to_string()))
        .collect();
    assert_eq!(names, expected);
    assert_eq!(
        guest.counted("fd_readdir", &[0, 0, 0, 0, 0]).await,
        Err(BADF)
    );
}

#[tokio::test]
async fn descriptors_are_the_lowest_free_and_bounded() {
    let mut guest = Guest::with_root().await;
    for expected in 4..32 {
        assert_eq!(guest.open("tmp", 0, READ, 0).await, Ok(expected));
    }
    assert_eq!(guest.open("tmp", 0, READ, 0).await, Err(MFILE));
    assert_eq!(guest.open("new", CREAT, WRITE, 0).await, Err(MFILE));
    assert_eq!(guest.call("fd_close", &[20]).await, SUCCESS);
    assert_eq!(guest.call("fd_close", &[10]).await, SUCCESS);
    assert_eq!(guest.open("new", 0, READ, 0).await, Err(NOENT));
    assert_eq!(guest.open("tmp", 0, READ, 0).await, Ok(10));
    assert_eq!(guest.call("fd_renumber", &[10, 20]).await, BADF);
    assert_eq!(guest.call("fd_renumber", &[10, 11]).await, SUCCESS);
    assert_eq!(guest.call("fd_renumber", &[11, 11]).await, SUCCESS);
    assert_eq!(guest.call("fd_fdstat_get", &[10, 0]).await, BADF);
    assert_eq!(guest.open("tmp", 0, READ, 0).await, Ok(10));
}

#[tokio::test]
async fn the_streams_are_read_and_written() {
    let mut guest = Guest::with_root().await;
    assert_eq!(
        guest.read(0, 3).await.as_deref(),
        Ok("t"),
        "one buffer at a time"
    );
    assert_eq!(guest.read(0, 100).await.as_deref(), Ok("yped"));
    assert_eq!(guest.read(0, 100).await.as_deref(), Ok(""));
    assert_eq!(guest.write(0, "x").await, Err(BADF));
    assert_eq!(guest.write(1, "line\n").await, Ok(5));
    assert_eq!(&guest.stdout.contents()[..], b"line\n");
    assert_eq!(guest.write(1, &"x".repeat(200)).await, Ok(95), "what fits");
    assert_eq!(guest.write(2, "").await, Ok(0));
    assert_eq!(guest.call("fd_fdstat_get", &[1, 0]).await, SUCCESS);
    assert_ne!(guest.bytes(0, 1), [2], "no terminal");
    assert_eq!(guest.call("fd_filestat_get", &[1, 0]).await, SUCCESS);
    assert_eq!(guest.call("fd_close", &[0]).await, SUCCESS);
    assert_eq!(guest.read(0, 1).await, Err(BADF));
}

#[tokio::test]
async fn poll_reports_what_is_ready() {
    const CLOCK: u8 = 0;
    const FD_READ: u8 = 1;
    const FD_WRITE: u8 = 2;
    let mut guest = Guest::with_root().await;
    let file = guest.open("a", CREAT, READ | WRITE, 0).await.unwrap() as u64;
    let hour = 3_600_000_000_000;
    assert_eq!(guest.poll(&[]).await, Err(INVAL));
    assert_eq!(guest.poll(&[(FD_READ, 99)]).await, Err(BADF));
    assert_eq!(guest.poll(&[(FD_READ, 3)]).await, Err(BADF));
    assert_eq!(guest.poll(&[(7, 0)]).await, Err(INVAL));
    let all = [
        (CLOCK, hour),
        (FD_READ, 0),
        (FD_WRITE, 1),
        (FD_READ, file),
        (FD_WRITE, file),
    ];
    assert_eq!(guest.poll(&all).await, Ok(vec![1, 2, 3, 4]));
    let started = Instant::now();
    let clocks = [(CLOCK, hour), (CLOCK, 5_000_000), (CLOCK, u64::MAX)];
    assert_eq!(guest.poll(&clocks).await, Ok(vec![1]));
    assert!(started.elapsed() >= Duration::from_millis(5));
}

/// A guest with one listener on port 8080, and the network it is in.
async fn server() -> (Guest, World) {
    let world = World::new();
    let ports = [PortSpec {
        port: 8080,
        protocol: Protocol::Tcp,
    }];
    let listeners: Vec<Arc<TcpListener>> =
        p1::listen(&world.net, world.container.owner(), &ports).unwrap();
    let config = Config {
        listeners,
        ..config(super::root())
    };
    (Guest::new(config).await, world)
}

#[tokio::test]
async fn a_program_serves_on_the_listener_it_was_given() {
    let (mut guest, world) = server().await;
    assert_eq!(guest.call("environ_get", &[0, 1000]).await, SUCCESS);
    let env = String::from_utf8(guest.bytes(1000, 60)).unwrap();
    assert!(
        env.contains("LISTEN_FDS=1\0WASMORCH_LISTEN_FD_8080=4\0"),
        "{env:?}"
    );
    assert_eq!(guest.call("fd_fdstat_get", &[4, 0]).await, SUCCESS);
    assert_eq!(guest.bytes(0, 1), [6]);
    assert_eq!(guest.call("fd_prestat_get", &[4, 0]).await, BADF);
    assert_eq!(
        guest.call("fd_fdstat_set_flags", &[4, NONBLOCK]).await,
        SUCCESS
    );
    assert_eq!(guest.call("sock_accept", &[4, 0, 0]).await, AGAIN);
    assert_eq!(guest.call("sock_accept", &[3, 0, 0]).await, NOTSOCK);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[4, 0]).await, SUCCESS);

    let mut client = world.net.dial(8080).unwrap();
    assert_eq!(guest.poll(&[(1, 4)]).await, Ok(vec![0]));
    assert_eq!(guest.call("sock_accept", &[4, NONBLOCK, 0]).await, SUCCESS);
    assert_eq!(guest.u32(0), 5);
    assert_eq!(guest.read(5, 10).await, Err(AGAIN));
    client.write_all(b"request").await.unwrap();
    assert_eq!(guest.poll(&[(1, 5), (2, 5)]).await, Ok(vec![0, 1]));
    assert_eq!(guest.read(5, 20).await.as_deref(), Ok("request"));
    assert_eq!(guest.write(5, "answer").await, Ok(6));
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");

    guest.put(DATA, b"more");
    let [vectors, count] = guest.vector(&[4]);
    let send = [5, vectors, count, 0, 0];
    assert_eq!(guest.counted("sock_send", &send).await, Ok(4));
    assert_eq!(guest.call("sock_shutdown", &[5, 2]).await, SUCCESS);
    assert_eq!(guest.call("sock_shutdown", &[5, 0]).await, INVAL);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"more");
    assert_eq!(guest.counted("sock_send", &send).await, Err(PIPE));
    client.write_all(b"x").await.unwrap();
    drop(client);
    let receive = [5, vectors, count, 0, 0, 8];
    assert_eq!(guest.counted("sock_recv", &receive).await, Ok(1));
    assert_eq!(guest.counted("sock_recv", &receive).await, Ok(0));
    let peek = [5, vectors, count, 1, 0, 8];
    assert_eq!(guest.counted("sock_recv", &peek).await, Err(NOTSUP));
    let stdin = [0, vectors, count, 0, 0, 8];
    assert_eq!(guest.counted("sock_recv", &stdin).await, Err(NOTSOCK));
    assert_eq!(guest.call("fd_close", &[5]).await, SUCCESS);
}

#[tokio::test]
async fn a_blocking_accept_waits_for_a_client() {
    let (mut guest, world) = server().await;
    let accept = guest.call("sock_accept", &[4, 0, 0]);
    let dial = async {
        tokio::task::yield_now().await;
        world.net.dial(8080).unwrap()
    };
    let (errno, client) = tokio::join!(accept, dial);
    assert_eq!(errno, SUCCESS);
    drop(client);
    assert_eq!(guest.read(5, 1).await.as_deref(), Ok(""));
}
