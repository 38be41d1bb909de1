//! What a store holds: everything that host functions may reach for one instance.
//!
//! One type for all programs, whatever WASI they speak, so that there is one set of linkers. A
//! [`Launch`] is what the instances of one container have in common; [`Launch::store`] makes a fresh
//! store from it, for a command once per start, for a handler once per request. That path is hot:
//! it shares by reference what it can, so environment and arguments are an interface of our own
//! instead of strings copied into every `WasiCtx`.
//!
//! A store is never entered again after a trap; it is dropped, and with it go its memory, its
//! handles and its sockets.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::budget::Budget;
use super::cpu::Cpu;
use super::disk::Lane;
use super::fs::Root;
use super::http::Holdings;
use super::http::outgoing::{Client, Hooks};
use super::keyvalue;
use super::limits::{
    Handles, Limits, MAX_FIELDS_BYTES, MAX_HOST_CALL_BYTES, MAX_RANDOM_BYTES, Memory,
};
use super::net::{Owner, PodNet, TcpListener};
use super::spec::{LogSink, LogStream};
use super::stdio::{Input, Output, Stdin};
use super::wasi::p1::{self, P1};
use super::wasi::p2::filesystem::FsView;
use super::wasi::p2::sockets::NetView;
use crate::clock::Clock;

/// The state of one instance.
pub(super) struct Host {
    pub(super) table: ResourceTable,
    pub(super) wasi: WasiCtx,
    pub(super) limits: Limits,
    launch: Arc<Launch>,
    http: WasiHttpCtx,
    hooks: Hooks,
    holdings: Holdings,
    p1: Option<Box<P1>>,
}

/// What all instances of one container have in common.
pub(super) struct Launch {
    pub(super) environment: Environment,
    pub(super) root: Arc<Root>,
    pub(super) net: Arc<PodNet>,
    pub(super) owner: Owner,
    /// Sockets for a program that can only accept; taken by its one instance.
    pub(super) listeners: Mutex<Vec<Arc<TcpListener>>>,
    pub(super) memory: Arc<Memory>,
    /// Open descriptors of a WASI 0.1 program.
    pub(super) descriptors: Arc<Budget>,
    pub(super) cpu: Arc<Cpu>,
    pub(super) log: Arc<dyn LogSink>,
    pub(super) stopped: CancellationToken,
    pub(super) stdin: Option<Stdin>,
    pub(super) is_terminal: bool,
    pub(super) client: Arc<Client>,
    pub(super) keyvalue: keyvalue::Store,
    /// Where its instances are polled if they may wait for a disk.
    pub(super) disk: Option<Arc<Lane>>,
    pub(super) clock: Clock,
}

/// What a program is started with.
pub(super) struct Environment {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: Option<String>,
}

/// How an instance lives, which decides how its output is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// One instance, as long as the container.
    Process,
    /// One of many at once, as long as a request.
    Request,
}

impl Life {
    /// What an instance that lives so may hold.
    pub(super) fn handles(self) -> Handles {
        match self {
            Self::Process => Handles::PROCESS,
            Self::Request => Handles::REQUEST,
        }
    }
}

impl Launch {
    /// A store for one instance, with all limits set.
    pub(super) fn store(self: &Arc<Self>, engine: &Engine, life: Life) -> Store<Host> {
        let (stdout, stderr) = self.output(life);
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(stdout)
            .stderr(stderr)
            .max_random_size(MAX_RANDOM_BYTES);
        if life == Life::Process {
            wasi.stdin(self.input());
        }
        let mut table = ResourceTable::new();
        let Handles { objects } = life.handles();
        table.set_max_capacity(objects);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELDS_BYTES);
        let host = Host {
            table,
            wasi: wasi.build(),
            limits: Limits::new(Arc::clone(&self.memory)),
            launch: Arc::clone(self),
            http,
            hooks: Hooks::new(Arc::clone(&self.client)),
            holdings: Holdings::default(),
            p1: None,
        };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.limits);
        store.set_hostcall_fuel(MAX_HOST_CALL_BYTES);
        store.set_max_component_handles(objects);
        if let Some(tasks) = store.concurrent_resource_table() {
            tasks.set_max_capacity(objects);
        }
        self.cpu
            .govern(&mut store, |host| Some(host.limits.verdict()?.into()));
        store
    }

    /// A store for a core module, with the descriptors of WASI 0.1.
    pub(super) fn core_store(self: &Arc<Self>, engine: &Engine) -> Store<Host> {
        let mut store = self.store(engine, Life::Process);
        let (stdout, stderr) = self.output(Life::Process);
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        store.data_mut().p1 = Some(Box::new(P1::new(p1::Config {
            args: self.environment.args.clone(),
            env: self.environment.env.clone(),
            root: Arc::clone(&self.root),
            clock: self.clock.clone(),
            stdin: self.input().stream(),
            stdout: stdout.stream(),
            stderr: stderr.stream(),
            is_terminal: self.is_terminal,
            descriptors: Arc::clone(&self.descriptors),
            listeners: std::mem::take(&mut listeners),
        })));
        drop(listeners);
        store
    }

    fn input(&self) -> Input {
        Input::new(self.stopped.clone(), self.stdin.as_ref(), self.is_terminal)
    }

    fn output(&self, life: Life) -> (Output, Output) {
        let make = match life {
            Life::Process => Output::direct,
            Life::Request => Output::by_line,
        };
        let make = |stream| make(Arc::clone(&self.log), stream).terminal(self.is_terminal);
        (make(LogStream::Stdout), make(LogStream::Stderr))
    }
}

impl Host {
    pub(super) fn fs(&mut self) -> FsView<'_> {
        FsView {
            root: &self.launch.root,
            table: &mut self.table,
        }
    }

    pub(super) fn net(&mut self) -> NetView<'_> {
        NetView {
            net: &self.launch.net,
            owner: &self.launch.owner,
            table: &mut self.table,
        }
    }

    pub(super) fn p1(&mut self) -> &mut P1 {
        self.p1
            .as_mut()
            .expect("only core_store makes stores for the linker of core modules")
    }

    pub(super) fn environment(&mut self) -> &Environment {
        &self.launch.environment
    }

    /// Where `wasi:keyvalue` opens its buckets.
    pub(super) fn keyvalue(&self) -> &keyvalue::Store {
        &self.launch.keyvalue
    }

    /// Cancelled when the container is to stop.
    pub(super) fn stopped(&self) -> CancellationToken {
        self.launch.stopped.clone()
    }

    /// Where `wasi:logging` writes its lines.
    pub(super) fn diagnostics(&self) -> Output {
        Output::direct(Arc::clone(&self.launch.log), LogStream::Stderr)
    }

    /// How many handlers the request at hand has passed, this one included.
    pub(super) fn set_hops(&mut self, hops: u32) {
        self.hooks.set_hops(hops);
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        if !self.holdings.at_call(&mut self.table, &mut self.limits) {
            self.http.set_field_size_limit(0);
        }
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
}

/// Marks interfaces that need nothing but the table.
pub(super) struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Marks `wasi:cli/environment`.
pub(super) struct HasEnvironment;

impl HasData for HasEnvironment {
    type Data<'a> = &'a Environment;
}
