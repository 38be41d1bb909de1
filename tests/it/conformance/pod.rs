//! The worker that the tests run on: its runtime, and one pod for each test.
//!
//! A pod is made from a Kubernetes object by the worker's own code. Its files come as they would in
//! a cluster: an init container writes them, a program that is made for the purpose from the test's
//! directory.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use wasmorch::api::image::Digest;
use wasmorch::runtime::net::{ClusterNetwork, Duplex, Route};
use wasmorch::runtime::spec::{LogSink, LogStream, PodSandboxSpec, Protocol};
use wasmorch::runtime::spec::{VolumeSource, VolumeSpec};
use wasmorch::runtime::{Artifact, Config, ContainerHandle, Error, PodSandbox, Runtime};
use wasmorch::tasks::TaskGroup;
use wasmorch::worker::env::Variables;
use wasmorch::worker::expand::Budget;
use wasmorch::worker::specs;

use super::manifest::Manifest;

pub(super) struct Machine {
    runtime: Runtime,
    directory: tempfile::TempDir,
    pods: AtomicU32,
    pub(super) tasks: TaskGroup,
}

impl Machine {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let config = Config {
            cache_dir: directory.path().join("cache"),
            max_instances: 100,
            tasks: tasks.child(),
        };
        Self {
            runtime: Runtime::new(config, Arc::new(Pods)).unwrap(),
            directory,
            pods: AtomicU32::new(0),
            tasks,
        }
    }

    pub(super) async fn load(&self, wasm: &[u8]) -> Result<Arc<Artifact>, Error> {
        let digest = Digest::of(wasm);
        let path = self.directory.path().join(digest.hex());
        std::fs::write(&path, wasm).unwrap();
        self.runtime.load(&digest, &path).await
    }

    /// A pod with an address of its own and writable volumes.
    pub(super) fn pod(&self, object: &Pod, volumes: &[String]) -> Arc<PodSandbox> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        let address = IpAddr::from((0x0a40_0000 + number).to_be_bytes());
        let volumes = volumes.iter().map(|name| VolumeSpec {
            name: volume(name),
            source: VolumeSource::Empty {
                size_limit: None,
                is_memory: false,
            },
        });
        let spec: PodSandboxSpec = specs::sandbox(object, address, volumes.collect());
        self.runtime.create_sandbox(spec).unwrap()
    }
}

/// The pod of a test, as an API server would store it.
pub(super) fn object(args: &[String], manifest: &Manifest) -> Pod {
    let (working_dir, dirs) = (manifest.working_dir.as_deref(), &manifest.dirs);
    let mounts: Vec<Value> = dirs
        .iter()
        .map(|name| json!({"name": volume(name), "mountPath": format!("/{name}")}))
        .collect();
    let container = |name: &str, is_test: bool| {
        json!({"name": name, "image": name, "args": args, "workingDir": working_dir,
               "volumeMounts": mounts, "ports": [{"containerPort": 8080}],
               "stdin": is_test && manifest.has_stdin(), "tty": is_test && manifest.tty,
               "securityContext": {"readOnlyRootFilesystem": is_test && manifest.read_only_root}})
    };
    let empty: Vec<Value> = dirs
        .iter()
        .map(|name| json!({"name": volume(name), "emptyDir": {}}))
        .collect();
    let pod = json!({"metadata": {"name": "test", "namespace": "default", "uid": "test",
                                  "annotations": manifest.annotations},
        "spec": {"initContainers": [container("files", false)], "containers": [container("test", true)],
                 "volumes": empty}});
    serde_json::from_value(pod).unwrap()
}

fn volume(directory: &str) -> String {
    directory.replace(['.', '/', '_'], "-")
}

/// A program that makes the given files, for an init container.
#[derive(Default)]
pub(super) struct Files {
    data: Vec<u8>,
    code: String,
}

/// Where the program's data begins in its memory.
const DATA: usize = 64;

impl Files {
    pub(super) fn is_empty(&self) -> bool {
        self.code.is_empty()
    }

    pub(super) fn directory(&mut self, path: &str) {
        let (at, length) = self.put(path.trim_matches('/').as_bytes());
        writeln!(
            self.code,
            "(call $directory (i32.const {at}) (i32.const {length}))"
        )
        .unwrap();
    }

    /// For a test that lists its root and knows of no `/tmp`.
    pub(super) fn remove_directory(&mut self, path: &str) {
        let (at, length) = self.put(path.trim_matches('/').as_bytes());
        writeln!(
            self.code,
            "(drop (call $rmdir (i32.const 3) (i32.const {at}) (i32.const {length})))"
        )
        .unwrap();
    }

    pub(super) fn file(&mut self, path: &str, contents: &[u8]) {
        let (at, length) = self.put(path.trim_matches('/').as_bytes());
        let (data, size) = self.put(contents);
        writeln!(
            self.code,
            "(call $file (i32.const {at}) (i32.const {length}) (i32.const {data}) (i32.const {size}))"
        )
        .unwrap();
    }

    /// Everything below a directory of this machine, except what earlier runs have left.
    pub(super) fn tree(&mut self, from: &Path, to: &str) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == ".keep" || name.ends_with(".cleanup") {
                continue;
            }
            let path = format!("{to}/{name}");
            if entry.file_type().unwrap().is_dir() {
                self.directory(&path);
                self.tree(&entry.path(), &path);
            } else {
                self.file(&path, &std::fs::read(entry.path()).unwrap());
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> (usize, usize) {
        let at = DATA + self.data.len();
        self.data.extend_from_slice(bytes);
        (at, bytes.len())
    }

    pub(super) fn program(&self) -> String {
        let mut data = String::new();
        for byte in &self.data {
            write!(data, "\\{byte:02x}").unwrap();
        }
        let pages = (DATA + self.data.len()) / 65536 + 1;
        format!(
            r#"(module
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory"
    (func $rmdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") {pages})
  (data (i32.const {DATA}) "{data}")
  (func $check (param $errno i32) (if (local.get $errno) (then unreachable)))
  (func $directory (param $path i32) (param $length i32)
    (drop (call $mkdir (i32.const 3) (local.get $path) (local.get $length))))
  (func $file (param $path i32) (param $length i32) (param $data i32) (param $size i32)
    (call $check (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $length)
      (i32.const 9) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0)))
    (i32.store (i32.const 4) (local.get $data))
    (i32.store (i32.const 8) (local.get $size))
    (call $check (call $write (i32.load (i32.const 0)) (i32.const 4) (i32.const 1) (i32.const 12)))
    (call $check (i32.ne (i32.load (i32.const 12)) (local.get $size)))
    (call $check (call $close (i32.load (i32.const 0)))))
  (func (export "_start")
    {code}))"#,
            code = self.code
        )
    }
}

/// What a program has written, by stream.
#[derive(Default)]
pub(super) struct Log(Mutex<[Vec<u8>; 2]>);

impl Log {
    pub(super) fn text(&self, stream: LogStream) -> String {
        let bytes = &self.0.lock().unwrap()[usize::from(stream == LogStream::Stderr)];
        String::from_utf8_lossy(bytes).into_owned()
    }
}

impl LogSink for Log {
    fn write(&self, stream: LogStream, chunk: &[u8]) {
        self.0.lock().unwrap()[usize::from(stream == LogStream::Stderr)].extend_from_slice(chunk);
    }
}

/// Starts one of the pod's containers with exactly this environment.
pub(super) fn start(
    pod: &PodSandbox,
    object: &Pod,
    (is_init, argv0): (bool, &str),
    env: Vec<(String, String)>,
    artifact: &Arc<Artifact>,
    log: &Arc<Log>,
) -> Result<ContainerHandle, Error> {
    let spec = object.spec.as_ref().unwrap();
    let container = if is_init {
        &spec.init_containers.as_ref().unwrap()[0]
    } else {
        &spec.containers[0]
    };
    let mut variables = Variables::default();
    for (name, value) in env {
        variables.put(name, value);
    }
    let spec = specs::container(object, container, argv0, variables, Budget::default());
    let mut spec = spec.unwrap();
    // For tests that list their root and know of no `/dev`.
    spec.termination_message_path = None;
    pod.start(spec, Arc::clone(artifact), Arc::clone(log) as _)
}

/// A cluster of nothing but pods on this worker.
struct Pods;

impl ClusterNetwork for Pods {
    fn resolve(&self, _namespace: &str, _name: &str) -> Option<Vec<IpAddr>> {
        None
    }

    fn route(&self, _from: IpAddr, to: SocketAddr, _protocol: Protocol) -> Route {
        match to.ip() {
            IpAddr::V4(ip) if ip.octets()[..2] == [10, 64] => Route::Pod(to),
            ip if is_silent(ip) => Route::Pod(to),
            _ => Route::External(to),
        }
    }

    fn dial_pod(
        &self,
        _from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        if is_silent(to.ip()) {
            return Box::pin(std::future::pending());
        }
        Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) })
    }
}

/// Addresses for documentation: nobody answers there, whatever network this machine is in.
fn is_silent(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_documentation())
}
