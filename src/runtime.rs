//! The runtime: pods as sandboxes of WASI programs that share one filesystem and one network.
//!
//! Knows WASI and nothing of Kubernetes: it takes plain specs ([`spec`]) and reports exits. Read in
//! this order: `spec`, `sandbox`, `container`; then how a program comes to run (`component`,
//! `compile`, `cache`, `artifact`, `host`), what holds it in check (`engine`, `ticker`, `turn`, `cpu`, `background`, `disk`,
//! `limits`, `budget`, `heap`, `exit`), what it talks to (`stdio`, `http`, `keyvalue`, `fs`, `net`), and the faces that
//! WASI gives all that (`wasi`).
//!
//! A [`Runtime`] owns what the pods of one worker share: engines, compiled code, guest threads, the
//! table of pods by address. It reads no clock for decisions, knows no client, stores nothing but
//! the cache of compiled code.

pub mod artifact;
mod background;
pub mod budget;
mod cache;
pub mod compile;
mod component;
mod container;
mod cpu;
mod disk;
mod engine;
mod exit;
pub mod fs;
mod guests;
mod heap;
mod host;
pub mod http;
mod image_files;
pub mod keyvalue;
mod limits;
mod load;
pub mod net;
mod pods;
mod refusals;
mod sandbox;
pub mod spec;
mod stdio;
mod ticker;
mod turn;
pub mod wasi;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls_pki_types::CertificateDer;

pub use self::artifact::{Artifact, Role};
pub use self::compile::{CompileLimits, Compiler};
pub use self::container::{ContainerHandle, ContainerStats, Refused};
pub use self::sandbox::{PodSandbox, SandboxStats, term_file_variable};
pub use self::stdio::Stdin;

use self::engine::Engines;
use self::fs::HostVolumes;
use self::fs::errno::Errno;
use self::guests::Guests;
use self::http::outgoing::tls::Tls;
use self::load::Loader;
use self::net::{ClusterNetwork, Fabric, FabricConfig};
use self::pods::Pods;
use self::spec::{HostDirectory, PodSandboxSpec};
use crate::api::image::Digest;
use crate::clock::Clock;
use crate::tasks::TaskGroup;

/// What a worker must say.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where compiled code is kept; made if it is missing.
    pub cache_dir: PathBuf,
    /// Long-running programs at a time. Each takes 6–7 memory mappings of the 65,530 that Linux
    /// gives a process, so 8,000 is about the most.
    pub max_instances: usize,
    /// Owns the tasks of all guests.
    pub tasks: TaskGroup,
}

/// What a worker may say.
#[derive(Clone, Debug)]
pub struct Tuning {
    pub compiler: Compiler,
    pub compile_limits: CompileLimits,
    /// Modules compiled at a time.
    pub compile_concurrency: usize,
    /// After that time a compilation makes room for others.
    pub compile_patience: Duration,
    /// Requests in all handlers of one WASI version at a time: the slots of a pool.
    pub handler_concurrency: u32,
    /// Requests in one container at a time: no one takes all slots of the pool.
    pub requests_per_container: u32,
    /// Requests of one pod on their way to others at a time.
    pub calls_per_pod: u32,
    /// A handler's time to its response, and then to each next piece of the body.
    pub request_deadline: Duration,
    pub guest_threads: usize,
    /// How often guests are preempted.
    pub epoch_tick: Duration,
    /// Authorities that certificates are checked against when guests call by `https`, besides the
    /// machine's own.
    pub extra_authorities: Vec<CertificateDer<'static>>,
    /// For tests without an outside: addresses out there, and where each is found instead. No worker
    /// sets it.
    pub stand_ins: Vec<(SocketAddr, SocketAddr)>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            compiler: Compiler::detect(),
            compile_limits: CompileLimits::default(),
            compile_concurrency: 2,
            compile_patience: Duration::from_secs(20),
            handler_concurrency: 512,
            requests_per_container: 256,
            calls_per_pod: 4096,
            request_deadline: Duration::from_secs(30),
            guest_threads: std::thread::available_parallelism().map_or(2, usize::from),
            epoch_tick: Duration::from_millis(5),
            extra_authorities: Vec::new(),
            stand_ins: Vec::new(),
        }
    }
}

/// What the runtime could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engines could not be made.
    #[error("start the engines: {0}")]
    Engine(String),
    /// The guest threads could not be started.
    #[error("start the guest threads")]
    Threads(#[source] std::io::Error),
    /// The cache directory could not be used.
    #[error("open the cache of compiled code in {}", path.display())]
    Cache {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A module did not become an artifact; shared by all who waited for it.
    #[error(transparent)]
    Artifact(Arc<artifact::Error>),
    /// The pod's filesystem could not be made as asked.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// The pod's address or a handler's port is not to be had.
    #[error("set the pod's network up")]
    Net(#[from] net::Error),
    /// The worker runs as many programs as it may.
    #[error("this worker runs {0} programs already, as many as it may")]
    Full(usize),
    /// The same container of the pod has not ended yet.
    #[error("container `{0}` still runs")]
    AlreadyRuns(String),
    /// A program can only be run beside one that runs.
    #[error("container `{0}` is not running")]
    NotRunning(String),
    /// Handlers wait for requests; there is nothing to run.
    #[error("`{0}` answers requests; it is not a command that can be run")]
    NotACommand(String),
    /// As many as may be run beside a pod's containers.
    #[error("{0} commands run in this pod already, as many as may")]
    TooManyExecs(usize),
    /// The sandbox was closed.
    #[error("the pod's sandbox is closed")]
    Closed,
}

impl Error {
    /// Whether a module does not start because the compiler needs longer for it than it may take.
    pub fn is_compile_timeout(&self) -> bool {
        let Self::Artifact(error) = self else {
            return false;
        };
        matches!(
            **error,
            artifact::Error::Compile(compile::Error::TooSlow(..))
        )
    }
}

/// See the module; clones are the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

/// A directory of the host that is in use.
#[derive(Clone, Debug)]
pub struct OpenDirectory(
    #[expect(dead_code, reason = "holding it is what it is for")] Arc<fs::inode::Inode>,
);

/// What all pods of a worker share.
struct Shared {
    tuning: Tuning,
    max_instances: usize,
    instances: Arc<AtomicUsize>,
    loader: Loader,
    guests: Guests,
    fabric: Arc<Fabric>,
    network: Arc<dyn ClusterNetwork>,
    pods: Arc<Pods>,
    host_volumes: HostVolumes,
    keyvalue: keyvalue::Stores,
    tls: Arc<Tls>,
    clock: Clock,
}

/// One long-running program's place in the worker.
struct Slot(Arc<AtomicUsize>);

impl Runtime {
    /// A runtime with the usual tuning.
    pub fn new(config: Config, network: Arc<dyn ClusterNetwork>) -> Result<Self, Error> {
        Self::with_tuning(config, Tuning::default(), network)
    }

    /// A runtime.
    pub fn with_tuning(
        config: Config,
        tuning: Tuning,
        network: Arc<dyn ClusterNetwork>,
    ) -> Result<Self, Error> {
        let Config {
            cache_dir,
            max_instances,
            tasks,
        } = config;
        let engine_error = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let engines = Engines::new(tuning.handler_concurrency, tuning.epoch_tick)
            .map(Arc::new)
            .map_err(engine_error)?;
        let loader = Loader::new(&cache_dir, Arc::clone(&engines), &tuning)?;
        let guests = Guests::start(tuning.guest_threads, engines.presence(), tasks.child())
            .map_err(Error::Threads)?;
        heap::keep_trim(&tasks);
        let mut around = FabricConfig::new(Arc::clone(&network), tasks.child());
        around.stand_ins.clone_from(&tuning.stand_ins);
        let fabric = Fabric::new(around);
        Ok(Self(Arc::new(Shared {
            tls: Arc::new(Tls::new(tuning.extra_authorities.clone())),
            tuning,
            max_instances,
            instances: Arc::default(),
            loader,
            guests,
            fabric,
            network,
            pods: Arc::default(),
            host_volumes: HostVolumes::default(),
            keyvalue: keyvalue::Stores::default(),
            clock: Clock::system(),
        })))
    }

    /// The artifact of a module whose bytes are in `wasm`: compiled, or loaded from the cache. All
    /// who ask for the same digest at once share one compilation.
    pub async fn load(&self, digest: &Digest, wasm: &Path) -> Result<Arc<Artifact>, Error> {
        let loaded = self.0.loader.load(digest, wasm).await;
        loaded.map_err(Error::Artifact)
    }

    /// Whether [`Runtime::load`] of that digest needs no file any more.
    pub fn is_loaded(&self, digest: &Digest) -> bool {
        self.0.loader.is_loaded(digest)
    }

    /// Whether a program of that digest runs, is being loaded, or is held ready by somebody.
    pub fn is_in_use(&self, digest: &Digest) -> bool {
        self.0.loader.is_in_use(digest)
    }

    /// Makes a pod's sandbox; its address must be free.
    pub fn create_sandbox(&self, spec: PodSandboxSpec) -> Result<Arc<PodSandbox>, Error> {
        PodSandbox::new(&self.0, spec)
    }

    /// Opens a directory of the host and keeps what that found out (what counts against its capacity)
    /// as long as the answer lives. It reads the disk: not for a thread that others wait for.
    pub fn open_directory(&self, directory: &HostDirectory) -> Result<OpenDirectory, Errno> {
        let opened = self.0.host_volumes.open(directory, &self.0.clock)?;
        Ok(OpenDirectory(opened))
    }

    /// The pod with that address, if it runs here.
    pub fn sandbox_at(&self, ip: IpAddr) -> Option<Arc<PodSandbox>> {
        self.0.pods.find(ip)
    }

    /// Long-running programs that run now.
    pub fn instances(&self) -> usize {
        self.0.instances.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn slot(&self) -> Result<Slot, Error> {
        let taken = self.instances.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(Arc::clone(&self.instances));
        if taken >= self.max_instances {
            return Err(Error::Full(self.max_instances));
        }
        Ok(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
