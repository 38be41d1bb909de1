//! The pod's virtual filesystem.
//!
//! (CONTRACT: signatures that the sandbox, the linker and the faces compile against.)

/*
// fs.rs
pub struct PodFs;                                    // one per pod, in an Arc
impl PodFs {
    pub fn new(limits: &PodLimits, budget: &Arc<Budget>, volumes: &[VolumeSpec], clock: Clock) -> Result<Arc<Self>, fs::Error>;
    pub fn update_volume(&self, name: &str, files: &[ProjectedFile]) -> Result<(), fs::Error>;   // atomic
    pub fn root(self: &Arc<Self>, spec: &RootSpec<'_>) -> Result<Arc<Root>, fs::Error>;         // one container's view
    pub fn usage(&self) -> Usage;                    // { bytes: u64, inodes: u64 }
}
pub struct RootSpec<'a> { pub mounts: &'a [MountSpec], pub read_only: bool, pub working_dir: Option<&'a str>, pub layers: &'a [Arc<Layer>] }
impl Root { pub fn preopens(self: &Arc<Self>) -> Vec<(String, Descriptor)>;                    // "." first if the working directory is not "/", then "/"
            pub fn open(self: &Arc<Self>) -> Descriptor; }                                     // the root directory, for host-side reads and writes
impl Descriptor { open_at, stat, stat_at, read_at, write_at, append, … }                       // used by all three faces and by the host
// wasi/p2/filesystem.rs   (the engine's host state implements the accessor)
pub struct FsView<'a> { pub root: &'a Arc<Root>, pub table: &'a mut ResourceTable }
pub struct HasFs;                                    // HasData, Data<'a> = FsView<'a>
pub fn add_to_linker<T: Send + 'static>(linker: &mut component::Linker<T>, get: fn(&mut T) -> FsView<'_>) -> wasmtime::Result<()>;
// wasi/p3/filesystem.rs   same FsView and HasFs
pub fn add_to_linker<T: Send + 'static>(linker: &mut component::Linker<T>, get: fn(&mut T) -> FsView<'_>) -> wasmtime::Result<()>;
// wasi/p1.rs
pub struct Config { pub args: Vec<String>, pub env: Vec<(String, String)>, pub root: Arc<Root>, pub clock: Clock,
                    pub stdin: DynInputStream, pub stdout: DynOutputStream, pub stderr: DynOutputStream, pub max_descriptors: usize,
                    pub listeners: Vec<net listener> }          // DynInputStream = Box<dyn wasmtime_wasi::p2::InputStream>
pub struct P1; impl P1 { pub fn new(config: Config) -> Self; }
pub fn add_to_linker<T: Send + 'static>(linker: &mut wasmtime::Linker<T>, get: fn(&mut T) -> &mut P1) -> wasmtime::Result<()>;
// proc_exit(n) ends the call with wasmtime_wasi::I32Exit(n).
*/
