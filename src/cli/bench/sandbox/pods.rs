//! Our side: a runtime as a worker has it, and pods in it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;

use crate::api::image::Digest;
use crate::app::dev::demo;
use crate::runtime::net::NoCluster;
use crate::runtime::spec::{ContainerSpec, LogSink, LogStream, PodLimits, PodSandboxSpec};
use crate::runtime::{Artifact, Config, PodSandbox, Runtime};
use crate::tasks::TaskGroup;

/// A guest that is part of this binary.
pub(super) fn guest(name: &str) -> anyhow::Result<Bytes> {
    demo::guest(name).with_context(|| format!("this build holds no guest `{name}`"))
}

/// A runtime and the number of its pods.
pub(super) struct Pods {
    runtime: Runtime,
    tasks: TaskGroup,
    made: AtomicU32,
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// As many as [`Ipv4Addr`]s are there for them.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const MAX_INSTANCES: usize = 8_000;

impl Pods {
    /// A runtime that keeps its compiled code in `cache`.
    pub(super) fn new(cache: &Path) -> anyhow::Result<Self> {
        let tasks = TaskGroup::new();
        let config = Config {
            cache_dir: cache.to_owned(),
            max_instances: MAX_INSTANCES,
            tasks: tasks.clone(),
        };
        Ok(Self {
            runtime: Runtime::new(config, Arc::new(NoCluster))?,
            tasks,
            made: AtomicU32::new(0),
        })
    }

    pub(super) async fn load(&self, wasm: &Wasm) -> anyhow::Result<Arc<Artifact>> {
        Ok(self.runtime.load(&wasm.digest, &wasm.path).await?)
    }

    pub(super) fn pod(&self) -> anyhow::Result<Arc<PodSandbox>> {
        let index = self.made.fetch_add(1, Ordering::Relaxed);
        let ip = Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + index);
        let name = format!("pod-{index}");
        Ok(self.runtime.create_sandbox(PodSandboxSpec {
            uid: name.clone(),
            namespace: "default".to_owned(),
            hostname: name.clone(),
            name,
            ip: ip.into(),
            volumes: Vec::new(),
            limits: PodLimits {
                memory_bytes: 1 << 30,
                storage_bytes: 1 << 30,
                inodes: 64 << 10,
                sockets: 4096,
            },
            egress: false,
            keyvalue_volume: None,
            request_timeout: None,
        })?)
    }

    /// Runs a program to its end in a pod and gives what it printed.
    pub(super) async fn run(
        pod: &PodSandbox,
        artifact: &Arc<Artifact>,
        name: &str,
        args: &[String],
    ) -> anyhow::Result<String> {
        let words = Arc::new(Words::default());
        let sink = Arc::clone(&words) as Arc<dyn LogSink>;
        let running = pod.start(container(name, args), Arc::clone(artifact), sink)?;
        let exit = running.wait().await;
        anyhow::ensure!(
            exit.code == 0,
            "{args:?} ended with {exit:?}: {}",
            words.text()
        );
        Ok(words.text())
    }
}

/// A module as a worker gets it: a file and its digest.
pub(super) struct Wasm {
    pub(super) bytes: Bytes,
    digest: Digest,
    path: PathBuf,
}

impl Wasm {
    /// Writes a guest of this binary into a directory.
    pub(super) fn of(name: &str, directory: &Path) -> anyhow::Result<Self> {
        let bytes = guest(name)?;
        let path = directory.join(format!("{name}.wasm"));
        std::fs::write(&path, &bytes).context("write the guest")?;
        let digest = Digest::of(&bytes);
        Ok(Self {
            bytes,
            digest,
            path,
        })
    }
}

/// A container with nothing but arguments.
pub(super) fn container(name: &str, args: &[String]) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        args: std::iter::once(name.to_owned())
            .chain(args.iter().cloned())
            .collect(),
        env: Vec::new(),
        working_dir: None,
        mounts: Vec::new(),
        ports: Vec::new(),
        memory_bytes: None,
        cpu_limit_millis: None,
        cpu_shares: 100,
        instance_reuse: 1,
        read_only_root: false,
        stdin: false,
        tty: false,
        shows_proc: false,
        termination_message_path: None,
    }
}

/// A container's output, kept.
#[derive(Default)]
pub(super) struct Words(Mutex<Vec<u8>>);

impl Words {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl LogSink for Words {
    fn write(&self, _stream: LogStream, chunk: &[u8]) {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend_from_slice(chunk);
    }
}
