//! A guest that lets every function of WASI 0.1 be called one by one, with its own memory.

use std::sync::{Arc, LazyLock};

use wasmorch::clock::Clock;
use wasmorch::runtime::budget::Budget;
use wasmorch::runtime::fs::Root;
use wasmorch::runtime::wasi::p1::{self, Config, MODULE, P1};
use wasmtime::{Engine, Instance, Linker, Memory, Module, Store, Val};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

/// Every function with its parameters: `i` is 32 bits, `l` is 64.
pub(super) const FUNCTIONS: [(&str, &str); 46] = [
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

pub(super) const SUCCESS: i32 = 0;
pub(super) const AGAIN: i32 = 6;
pub(super) const BADF: i32 = 8;
pub(super) const EXIST: i32 = 20;
pub(super) const ILSEQ: i32 = 25;
pub(super) const INVAL: i32 = 28;
pub(super) const ISDIR: i32 = 31;
pub(super) const LOOP: i32 = 32;
pub(super) const MFILE: i32 = 33;
pub(super) const NAMETOOLONG: i32 = 37;
pub(super) const NOENT: i32 = 44;
pub(super) const NOTDIR: i32 = 54;
pub(super) const NOTSOCK: i32 = 57;
pub(super) const NOTSUP: i32 = 58;
pub(super) const PERM: i32 = 63;
pub(super) const PIPE: i32 = 64;
pub(super) const SPIPE: i32 = 70;

pub(super) const CREAT: i64 = 1;
pub(super) const DIRECTORY: i64 = 2;
pub(super) const EXCL: i64 = 4;
pub(super) const TRUNC: i64 = 8;
pub(super) const READ: i64 = 1 << 1;
pub(super) const WRITE: i64 = 1 << 6;
pub(super) const APPEND: i64 = 1;
pub(super) const NONBLOCK: i64 = 4;

/// Where things lie in the guest's memory.
pub(super) const OUT: u32 = 0;
pub(super) const VECTORS: u32 = 64;
pub(super) const PATH: u32 = 1024;
pub(super) const OTHER_PATH: u32 = 8192;
pub(super) const DATA: u32 = 65536;

pub(super) struct Guest {
    pub(super) store: Store<P1>,
    pub(super) instance: Instance,
    pub(super) memory: Memory,
    pub(super) stdout: MemoryOutputPipe,
}

pub(super) fn config(root: Arc<Root>) -> Config {
    Config {
        args: vec!["prog".to_owned(), "one".to_owned()],
        env: vec![("A".to_owned(), "b=c".to_owned())],
        root,
        listeners: Vec::new(),
        stdin: Box::new(MemoryInputPipe::new("typed")),
        stdout: Box::new(MemoryOutputPipe::new(1 << 20)),
        stderr: Box::new(MemoryOutputPipe::new(1 << 20)),
        clock: Clock::system(),
        is_terminal: false,
        descriptors: Budget::new(32),
    }
}

/// Compiled once for all tests.
pub(super) fn compiled() -> &'static (Engine, Module) {
    static COMPILED: LazyLock<(Engine, Module)> = LazyLock::new(|| {
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(module()).unwrap()).unwrap();
        (engine, module)
    });
    &COMPILED
}

/// A module that exports every function again.
pub(super) fn module() -> String {
    let mut lines = vec!["(module".to_owned()];
    for (name, parameters) in FUNCTIONS {
        let result = if name == "proc_exit" {
            ""
        } else {
            "(result i32)"
        };
        let types = types(parameters);
        lines.push(format!(
            "(import \"{MODULE}\" \"{name}\" (func ${name} {types} {result}))"
        ));
    }
    lines.push("(memory (export \"memory\") 4)".to_owned());
    for (name, parameters) in FUNCTIONS {
        let types = types(parameters);
        let arguments: Vec<String> = (0..parameters.len())
            .map(|index| format!("local.get {index}"))
            .collect();
        let arguments = arguments.join(" ");
        let end = if name == "proc_exit" {
            "unreachable"
        } else {
            ""
        };
        lines.push(format!(
            "(func (export \"{name}\") {types} (result i32) {arguments} call ${name} {end})"
        ));
    }
    lines.push(")".to_owned());
    lines.join("\n")
}

pub(super) fn types(parameters: &str) -> String {
    let names = parameters.chars().map(|kind| match kind {
        'i' => " i32",
        _ => " i64",
    });
    format!("(param{})", names.collect::<String>())
}

impl Guest {
    pub(super) async fn new(mut config: Config) -> Self {
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

    pub(super) async fn with_root() -> Self {
        Self::new(config(super::root())).await
    }

    pub(super) async fn try_call(
        &mut self,
        name: &str,
        arguments: &[i64],
    ) -> wasmtime::Result<i32> {
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

    pub(super) async fn call(&mut self, name: &str, arguments: &[i64]) -> i32 {
        self.try_call(name, arguments).await.unwrap()
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) {
        self.memory
            .write(&mut self.store, at as usize, bytes)
            .unwrap();
    }

    pub(super) fn bytes(&self, at: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory
            .read(&self.store, at as usize, &mut bytes)
            .unwrap();
        bytes
    }

    pub(super) fn u32(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    pub(super) fn u64(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    /// Puts a path at `at`; gives its pointer and length as arguments.
    pub(super) fn path(&mut self, at: u32, path: &str) -> [i64; 2] {
        self.put(at, path.as_bytes());
        [i64::from(at), path.len() as i64]
    }

    pub(super) async fn on_path(&mut self, name: &str, fd: i64, path: &str) -> i32 {
        let [pointer, length] = self.path(PATH, path);
        self.call(name, &[fd, pointer, length]).await
    }

    /// `path_open` without following links.
    pub(super) async fn open(
        &mut self,
        path: &str,
        flags: i64,
        rights: i64,
        fd_flags: i64,
    ) -> Result<i64, i32> {
        self.open_at(3, path, flags, rights, fd_flags).await
    }

    pub(super) async fn open_at(
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
    pub(super) fn vector(&mut self, lengths: &[u32]) -> [i64; 2] {
        let mut at = DATA;
        for (index, length) in lengths.iter().enumerate() {
            let entry = VECTORS + index as u32 * 8;
            self.put(entry, &at.to_le_bytes());
            self.put(entry + 4, &length.to_le_bytes());
            at += length;
        }
        [i64::from(VECTORS), lengths.len() as i64]
    }

    pub(super) async fn write(&mut self, fd: i64, data: &str) -> Result<u32, i32> {
        self.put(DATA, data.as_bytes());
        let half = data.len() as u32 / 2;
        let [vectors, count] = self.vector(&[half, data.len() as u32 - half]);
        self.counted("fd_write", &[fd, vectors, count, i64::from(OUT)])
            .await
    }

    pub(super) async fn read(&mut self, fd: i64, length: u32) -> Result<String, i32> {
        let [vectors, count] = self.vector(&[length / 2, length - length / 2]);
        let count = self
            .counted("fd_read", &[fd, vectors, count, i64::from(OUT)])
            .await?;
        Ok(String::from_utf8(self.bytes(DATA, count as usize)).unwrap())
    }

    /// A function that leaves a count at `OUT`.
    pub(super) async fn counted(&mut self, name: &str, arguments: &[i64]) -> Result<u32, i32> {
        match self.call(name, arguments).await {
            SUCCESS => Ok(self.u32(OUT)),
            errno => Err(errno),
        }
    }

    pub(super) async fn seek(&mut self, fd: i64, offset: i64, whence: i64) -> Result<u64, i32> {
        match self
            .call("fd_seek", &[fd, offset, whence, i64::from(OUT)])
            .await
        {
            SUCCESS => Ok(self.u64(OUT)),
            errno => Err(errno),
        }
    }

    /// Subscriptions as (tag, descriptor or timeout); gives the indices of those that are ready.
    pub(super) async fn poll(&mut self, subscriptions: &[(u8, u64)]) -> Result<Vec<u64>, i32> {
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
