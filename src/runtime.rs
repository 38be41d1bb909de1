//! The runtime: pods as sandboxes of WASI programs that share one filesystem and one network.
//!
//! (CONTRACT — `spec` and the signatures below are what worker and router compile against.)
//!
//! Knows WASI and nothing of Kubernetes: it takes plain specs and reports exits.

pub mod budget;
pub mod fs;
pub mod http;
pub mod net;
pub mod spec;
pub mod wasi;

/* Signatures of the room's engine half; the bodies follow.

pub struct Config { pub cache_dir: PathBuf, pub max_instances: usize, pub tasks: TaskGroup }
pub struct Tuning { pub compiler: Compiler, pub handler_concurrency: u32, pub request_deadline: Duration,
                    pub compile_limits: …, pub guest_threads: usize, pub epoch_tick: Duration }   // Default
#[derive(Clone)] pub struct Runtime;
impl Runtime {
    pub fn new(config: Config, network: Arc<dyn net::ClusterNetwork>) -> Result<Self, Error>;      // Tuning::default()
    pub fn with_tuning(config: Config, tuning: Tuning, network: Arc<dyn net::ClusterNetwork>) -> Result<Self, Error>;
    pub async fn load(&self, digest: &Digest, wasm: &Path) -> Result<Arc<Artifact>, Error>;
    pub fn cached(&self, digest: &Digest) -> bool;
    pub fn create_sandbox(&self, spec: PodSandboxSpec) -> Result<Arc<PodSandbox>, Error>;
    pub fn sandbox_at(&self, ip: IpAddr) -> Option<Arc<PodSandbox>>;
    pub fn instances(&self) -> usize;
}
impl Artifact { pub fn digest(&self) -> &Digest; pub fn role(&self) -> Role; }                    // Role::{Command, Handler}
impl PodSandbox {
    pub fn spec(&self) -> &PodSandboxSpec;
    pub fn start(&self, spec: ContainerSpec, artifact: Arc<Artifact>, log: Arc<dyn LogSink>) -> Result<ContainerHandle, Error>;
    pub fn update_volume(&self, name: &str, files: Vec<ProjectedFile>) -> Result<(), Error>;
    pub fn dial(&self, port: u16) -> io::Result<net::Conn>;
    pub fn http_handler(&self, port: u16) -> Option<Arc<http::Handler>>;
    pub fn listening(&self) -> Vec<(SocketAddr, Protocol)>;
    pub fn stats(&self) -> SandboxStats;   // { memory_bytes, memory_peak_bytes, storage_bytes, inodes, sockets, containers: Vec<(String, ContainerStats)> }
    pub async fn close(&self);
}
impl http::Handler { pub async fn call(&self, request: ::http::Request<http::Body>) -> Result<::http::Response<http::Body>, http::Error>; }
    // http::Error::{status(), public(), response(), is_retriable()}; http::Body::{empty, full, incoming(hyper), stream}
#[derive(Clone)] pub struct ContainerHandle;
impl ContainerHandle {
    pub async fn wait(&self) -> Exit;
    pub fn stop(&self);
    pub fn kill(&self);
    pub fn stats(&self) -> ContainerStats; // { cpu: Duration, memory_bytes, memory_peak_bytes, requests, requests_failed, in_flight, throttled: Duration }
}
pub fn compile::child_main(args: impl Iterator<Item = OsString>) -> ExitCode;   // `wasmorch compile …`, hidden
spec::LogSink::close(&self)   // new, default empty: called once when the container has ended; flush an unterminated line
*/
