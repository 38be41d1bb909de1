//! WASI 0.1 by native host functions.
//!
//! Core modules call the 46 functions of `wasi_snapshot_preview1` directly; there is no adapter
//! component in between, because the stock one corrupts the memory of Go programs, loses exit codes
//! and has no sockets. The functions work on the pod's filesystem and network through one [`P1`]
//! per container, which holds the descriptor table.
//!
//! Rules: a pointer outside the guest's memory is a trap, as the specification says; every length a
//! guest names is bounded before anything is allocated or copied ([`MAX_TRANSFER`] per call, short
//! counts are allowed by POSIX); functions that cannot wait are synchronous, the others await
//! readiness and never a lock. Error numbers are those that wasmtime's own 0.1 gives, which
//! programs have been tested against.
//!
//! A program gets descriptors 0–2 for its streams, then its preopened directories, then one
//! listening socket per declared container port. `LISTEN_FDS` tells how many sockets there are and
//! `WASMORCH_LISTEN_FD_<port>` which descriptor serves a port.
//!
//! Deliberately absent, answered with ENOTSUP: `fd_fdstat_set_rights`, `proc_raise`, and `sock_recv`
//! that shall peek and wait for all at once.

mod call;
mod data;
mod descriptors;
mod errno;
mod guest;
mod paths;
mod poll;
mod process;
mod rights;
mod sockets;
mod table;
mod unstable;

use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Linker, Memory};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use self::table::{Directory, Object, Table};
use crate::clock::Clock;
use crate::runtime::budget::Budget;
use crate::runtime::fs::Root;
use crate::runtime::net::TcpListener;

pub use self::sockets::listen;
pub use self::unstable::UNSTABLE;

/// The module that programs import from.
pub const MODULE: &str = "wasi_snapshot_preview1";
/// The most that one call copies, so that a host call ends in milliseconds whatever it is asked.
pub const MAX_TRANSFER: usize = 32 << 20;

/// What a program starts with.
pub struct Config {
    /// The whole argv, program name first.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub root: Arc<Root>,
    /// One listening socket per declared port, see [`listen`].
    pub listeners: Vec<Arc<TcpListener>>,
    pub stdin: DynInputStream,
    pub stdout: DynOutputStream,
    pub stderr: DynOutputStream,
    /// Whether the three streams are told to be a terminal.
    pub is_terminal: bool,
    pub clock: Clock,
    /// Open descriptors, the initial ones included.
    pub descriptors: Arc<Budget>,
}

/// The state of one program.
pub struct P1 {
    args: Vec<String>,
    env: Vec<String>,
    table: Table,
    is_terminal: bool,
    clock: Clock,
    started: Instant,
    /// The module's exported memory, once it was looked up.
    memory: Option<Memory>,
}

impl P1 {
    pub fn new(config: Config) -> Self {
        let mut table = Table::new(config.descriptors);
        table.push_initial(Object::Input(config.stdin));
        table.push_initial(Object::Output(config.stdout));
        table.push_initial(Object::Output(config.stderr));
        for (path, descriptor) in config.root.preopens() {
            table.push_initial(Object::Directory(Directory {
                descriptor,
                preopen: Some(path),
            }));
        }
        let mut env = config.env;
        if !config.listeners.is_empty() {
            set_default(&mut env, "LISTEN_FDS", config.listeners.len().to_string());
        }
        for listener in config.listeners {
            let port = listener.local_addr().port();
            let fd = table.push_initial(Object::Listener(listener));
            let name = format!("WASMORCH_LISTEN_FD_{port}");
            set_default(&mut env, &name, fd.to_string());
        }
        let started = config.clock.monotonic();
        Self {
            args: config.args,
            env: env
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            table,
            is_terminal: config.is_terminal,
            clock: config.clock,
            started,
            memory: None,
        }
    }
}

fn set_default(env: &mut Vec<(String, String)>, name: &str, value: String) {
    if env.iter().all(|(existing, _)| existing != name) {
        env.push((name.to_owned(), value));
    }
}

/// Adds all 46 functions, also under their names before 0.1. `get` finds the program's state in the store's data.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> &mut P1,
) -> wasmtime::Result<()> {
    process::add(linker, get)?;
    descriptors::add(linker, get)?;
    data::add(linker, get)?;
    paths::add(linker, get)?;
    sockets::add(linker, get)?;
    poll::add(linker, get)?;
    unstable::add(linker, get)
}
