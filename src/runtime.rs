//! The runtime: pods as sandboxes of WASI programs that share one filesystem and one network.
//!
//! (CONTRACT — `spec` and the signatures below are what worker and router compile against.)
//!
//! Knows WASI and nothing of Kubernetes: it takes plain specs and reports exits.

pub mod budget;
pub mod fs;
pub mod net;
pub mod spec;
pub mod wasi;

/* Signatures to be provided by this room (R3 builds them; worker and router write against them):

pub struct Config { pub cache_dir: PathBuf, pub max_instances: usize, pub tasks: TaskGroup }
#[derive(Clone)] pub struct Runtime;
impl Runtime {
    pub fn new(config: Config, network: Arc<dyn net::ClusterNetwork>) -> Result<Self, Error>;
    /// Compiles (in a limited child process: `wasmorch compile`, hidden subcommand) or loads from the cache.
    pub async fn load(&self, digest: &Digest, wasm: &Path) -> Result<Arc<Artifact>, Error>;
    pub fn cached(&self, digest: &Digest) -> bool;
    pub fn create_sandbox(&self, spec: PodSandboxSpec) -> Result<Arc<PodSandbox>, Error>;
    pub fn sandbox_at(&self, ip: IpAddr) -> Option<Arc<PodSandbox>>;
    pub fn instances(&self) -> usize;
}
impl Artifact { pub fn role(&self) -> Role /* Command | Handler */; }
impl PodSandbox {
    pub fn start(&self, spec: ContainerSpec, artifact: Arc<Artifact>, log: Arc<dyn LogSink>) -> Result<ContainerHandle, Error>;
    pub fn update_volume(&self, name: &str, files: Vec<ProjectedFile>) -> Result<(), Error>;
    /// A byte stream to whoever listens on the pod's address and port (virtual socket or HTTP handler).
    pub fn dial(&self, port: u16) -> io::Result<net::Conn>;           // Conn: AsyncRead + AsyncWrite + Unpin + Send
    /// The HTTP handler bound on that port, to be called directly without bytes on a wire.
    pub fn http_handler(&self, port: u16) -> Option<Arc<http::Handler>>;
    /// Listening (address, port, protocol) of the pod, for status and error texts.
    pub fn listening(&self) -> Vec<(SocketAddr, Protocol)>;
    pub fn stats(&self) -> SandboxStats; // memory, storage, sockets, cpu ns per container
    pub async fn close(&self);  // everything stopped and freed
}
impl http::Handler { pub async fn call(&self, req: http::Request<http::Body>) -> Result<http::Response<http::Body>, http::Error>; }
impl ContainerHandle {
    pub async fn wait(&self) -> Exit;            // may be awaited by many
    pub fn stop(&self);                          // graceful request (stdin EOF, term file); guest may end by itself
    pub fn kill(&self);                          // epoch trap now
    pub fn stats(&self) -> ContainerStats { cpu: Duration, memory_bytes: u64 }
}
runtime::net::ClusterNetwork (trait, implemented by the worker over router::table):
pub trait ClusterNetwork: Send + Sync + 'static {
    /// Addresses of a name asked for by a pod of `namespace`: services, headless sets, pods; `None` = no such name.
    fn resolve(&self, namespace: &str, name: &str) -> Option<Vec<IpAddr>>;
    /// Where a connection to `to` goes: a cluster IP becomes the address of one ready endpoint; a pod's
    /// address stays; an address outside the cluster is `Route::External`; no endpoint = `Route::Refused`.
    fn route(&self, to: SocketAddr, protocol: Protocol) -> Route;   // Route::{Pod(SocketAddr), External(SocketAddr), Refused}
    /// Opens a byte stream to a pod on another worker (wire plane) .
    fn dial_pod(&self, from: SocketAddr, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>>;
}
*/
