//! A worker's runtime for one test: its pods, its programs, their output.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use wasmorch::api::image::Digest;
use wasmorch::runtime::net::{ClusterNetwork, Duplex, Route};
use wasmorch::runtime::spec::{
    ContainerSpec, Exit, LogSink, LogStream, PodLimits, PodSandboxSpec, Protocol,
};
use wasmorch::runtime::{Artifact, Config, ContainerHandle, PodSandbox, Runtime, Tuning};
use wasmorch::tasks::TaskGroup;

/// How long anything in these tests may take; reached only when something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::tuned(|_| {})
    }

    pub(crate) fn tuned(tune: impl FnOnce(&mut Tuning)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), tune)
    }

    /// Another worker process on the same directory, as far as the directory can tell.
    pub(crate) fn restarted(self) -> Self {
        let Self { runtime, dir } = self;
        drop(runtime);
        Self::on(dir, |_| {})
    }

    fn on(dir: tempfile::TempDir, tune: impl FnOnce(&mut Tuning)) -> Self {
        let mut tuning = Tuning {
            handler_concurrency: 16,
            guest_threads: 2,
            ..Tuning::default()
        };
        tune(&mut tuning);
        let config = Config {
            cache_dir: dir.path().join("cache"),
            max_instances: 100,
            tasks: TaskGroup::new(),
        };
        let runtime = Runtime::with_tuning(config, tuning, Arc::new(Cluster)).unwrap();
        Self { runtime, dir }
    }

    /// The artifact of a program in text form.
    pub(crate) async fn wat(&self, text: &str) -> Arc<Artifact> {
        self.load(&wat::parse_str(text).unwrap()).await.unwrap()
    }

    pub(crate) async fn load(
        &self,
        wasm: &[u8],
    ) -> Result<Arc<Artifact>, wasmorch::runtime::Error> {
        let digest = Digest::of(wasm);
        let path = self.dir.path().join(digest.hex());
        std::fs::write(&path, wasm).unwrap();
        self.runtime.load(&digest, &path).await
    }

    pub(crate) fn pod(&self, ip: &str) -> Arc<PodSandbox> {
        self.runtime.create_sandbox(pod_spec(ip)).unwrap()
    }

    /// The file that the module was compiled to.
    pub(crate) fn compiled(&self) -> Vec<std::path::PathBuf> {
        files(&self.dir.path().join("cache"), "cwasm")
    }
}

pub(crate) fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

pub(crate) fn pod_spec(ip: &str) -> PodSandboxSpec {
    PodSandboxSpec {
        uid: ip.to_owned(),
        namespace: "default".to_owned(),
        name: format!("pod-{ip}"),
        hostname: "pod".to_owned(),
        ip: ip.parse().unwrap(),
        volumes: Vec::new(),
        limits: PodLimits {
            memory_bytes: 256 << 20,
            storage_bytes: 64 << 20,
            inodes: 10_000,
            sockets: 1000,
        },
        egress: false,
        keyvalue_volume: None,
        request_timeout: None,
    }
}

pub(crate) fn container(name: &str, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        args: std::iter::once(&name)
            .chain(args)
            .map(ToString::to_string)
            .collect(),
        env: Vec::new(),
        working_dir: None,
        mounts: Vec::new(),
        ports: Vec::new(),
        memory_bytes: None,
        cpu_limit_millis: None,
        stdin: false,
        tty: false,
        shows_proc: false,
        termination_message_path: None,
        cpu_shares: 100,
        instance_reuse: 1,
        read_only_root: false,
    }
}

/// Runs a program to its end.
pub(crate) async fn run(
    pod: &PodSandbox,
    spec: ContainerSpec,
    artifact: &Arc<Artifact>,
) -> (Exit, Arc<Log>) {
    let log = Arc::new(Log::default());
    let container = pod
        .start(spec, Arc::clone(artifact), Arc::clone(&log) as _)
        .unwrap();
    (ended(&container).await, log)
}

pub(crate) async fn ended(container: &ContainerHandle) -> Exit {
    within(container.wait()).await
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("takes too long")
}

/// Waits for a state that nothing announces.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, wait).await.is_ok(),
        "never: {what}"
    );
}

/// A container's output.
#[derive(Default)]
pub(crate) struct Log {
    text: Mutex<String>,
    closed: Mutex<bool>,
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.lock().unwrap()
    }
}

impl LogSink for Log {
    fn write(&self, _stream: LogStream, chunk: &[u8]) {
        let chunk = String::from_utf8_lossy(chunk);
        self.text.lock().unwrap().push_str(&chunk);
    }

    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }
}

/// A cluster whose pods are all on this worker, and which has one service.
struct Cluster;

impl ClusterNetwork for Cluster {
    fn resolve(&self, _namespace: &str, name: &str) -> Option<Vec<IpAddr>> {
        match name {
            "web" | "web.default.svc.cluster.local" => Some(vec!["10.43.0.80".parse().unwrap()]),
            _ => None,
        }
    }

    fn route(&self, _from: IpAddr, to: SocketAddr, _protocol: Protocol) -> Route {
        match to.to_string().as_str() {
            "10.43.0.80:80" => Route::Pod("10.64.0.80:8080".parse().unwrap()),
            _ if to.ip().to_string().starts_with("10.64.") => Route::Pod(to),
            _ => Route::External(to),
        }
    }

    fn dial_pod(
        &self,
        _from: SocketAddr,
        _to: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) })
    }
}
