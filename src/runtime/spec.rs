//! What the runtime is asked to run: plain data, no Kubernetes, no wasmtime.
//!
//! (CONTRACT)

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

/// A pod's shared half: identity, address, volumes, limits.
#[derive(Clone, Debug)]
pub struct PodSandboxSpec {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub hostname: String,
    pub ip: IpAddr,
    pub volumes: Vec<VolumeSpec>,
    pub limits: PodLimits,
    /// Whether guests may open connections to addresses outside the cluster.
    pub egress: bool,
    /// The volume in which `wasi:keyvalue` keeps its buckets; `None` is the worker's memory.
    pub keyvalue_volume: Option<String>,
    /// A handler's time to its response, and then to each next piece of the body; `None` is the
    /// worker's default.
    pub request_timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct PodLimits {
    /// Linear memories, tables, files and socket buffers of all containers together.
    pub memory_bytes: u64,
    /// Bytes and inodes of the in-memory filesystem.
    pub storage_bytes: u64,
    pub inodes: u64,
    /// Open virtual sockets of all containers together.
    pub sockets: u32,
}

#[derive(Clone, Debug)]
pub struct VolumeSpec {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug)]
pub enum VolumeSource {
    /// Empty, writable, shared by the pod's containers.
    Empty {
        size_limit: Option<u64>,
        /// Asked for as memory: counts against that alone, not against the pod's storage.
        is_memory: bool,
    },
    /// Read-only files (ConfigMap, Secret, downward API); replaced atomically by `PodSandbox::update_volume`.
    Files(Vec<ProjectedFile>),
    /// A directory or file of the host that the operator allows.
    HostDir {
        directory: HostDirectory,
        read_only: bool,
    },
}

/// Where on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDirectory {
    /// What the operator allows; links in it are the operator's and followed.
    pub root: PathBuf,
    /// Below it, relative; nothing in it may lead out of the root.
    pub path: PathBuf,
    pub expected: HostDirectoryType,
    /// Bytes that may be stored in it; `None` is what the disk has.
    pub capacity: Option<u64>,
}

/// What must be there, or is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostDirectoryType {
    /// Anything; a directory is made where nothing is.
    Any,
    Directory,
    DirectoryOrCreate,
    File,
    FileOrCreate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectedFile {
    /// Relative, `/`-separated, checked.
    pub path: String,
    pub contents: Bytes,
    pub mode: u32,
}

#[derive(Clone, Debug)]
pub struct MountSpec {
    pub volume: String,
    pub path: String,
    pub sub_path: Option<String>,
    pub read_only: bool,
}

#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub name: String,
    /// The whole argv, program name first.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub mounts: Vec<MountSpec>,
    pub ports: Vec<PortSpec>,
    /// Bytes; `None` is the pod's limit.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core that it may use; `None` is no ceiling.
    pub cpu_limit_millis: Option<u64>,
    /// Weight against other containers when the worker is busy (from requests; at least 2).
    pub cpu_shares: u64,
    /// Requests one handler instance may serve before it is dropped (1 = a fresh instance per request).
    pub instance_reuse: u32,
    pub read_only_root: bool,
    /// Whether standard input is kept open for who attaches.
    pub stdin: bool,
    /// Whether the program shall take its streams for a terminal.
    pub tty: bool,
    /// Whether it looks into the pod and so sees `/proc`.
    pub shows_proc: bool,
    /// The file that the container alone sees there, and whose contents are told with its exit.
    pub termination_message_path: Option<String>,
}

/// A further program in a running container's surroundings: its files, its network, its limits.
#[derive(Clone, Debug)]
pub struct ExecSpec {
    /// The container that it is run beside, and that it ends with.
    pub container: String,
    /// The whole argv, program name first.
    pub args: Vec<String>,
    /// Added to the container's own.
    pub env: Vec<(String, String)>,
    pub stdin: bool,
    pub tty: bool,
    /// Whether it counts among those that users may have at once.
    pub is_counted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec {
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0–255; a trap is 128 + the signal that a kernel would send, a kill 137.
    pub code: i32,
    pub reason: ExitReason,
    /// The termination message that the program wrote; a trap's message and backtrace; a limit with
    /// its numbers; empty otherwise.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    Completed,
    Error,
    OomKilled,
    DeadlineExceeded,
    Killed,
}

/// Where a container's output goes. Called with chunks as the guest writes them; must not block.
pub trait LogSink: Send + Sync + 'static {
    fn write(&self, stream: LogStream, chunk: &[u8]);
    /// Bytes the sink takes now; 0 makes the guest wait until `ready`.
    fn capacity(&self) -> usize {
        64 << 10
    }

    /// Bytes that were not kept so far, because they came too fast.
    fn dropped(&self) -> u64 {
        0
    }

    /// The container has ended: nothing follows, an unterminated line is complete.
    fn close(&self) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    Stdout,
    Stderr,
}
