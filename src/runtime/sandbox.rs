//! A pod's sandbox: one filesystem, one network and one memory budget, and the containers in it.
//!
//! The sandbox outlives its containers: a restarted container finds the pod's files, address and
//! volumes as its predecessor left them, and nothing else of it. [`PodSandbox::close`] ends all and
//! gives the address back.

mod exec;
mod procfs;
mod reach;
mod term_file;
mod usage;
mod waiting;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::term_file::term_file_variable;
pub use self::usage::SandboxStats;
use super::artifact::{Artifact, Role};
use super::budget::Budget;
use super::container::{
    Beside, Container, ContainerHandle, Ends, Held, Scene, run_command, run_handler,
};
use super::cpu::Cpu;
use super::disk::Lane;
use super::fs::{PodFs, Root, RootSpec};
use super::host::{Environment, Launch};
use super::http::outgoing::{self, Calls, Client};
use super::http::{Handler, HandlerConfig, Port};
use super::keyvalue;
use super::limits::{MAX_DESCRIPTORS, Memory};
use super::net::{Incarnation, PodNet, PodNetConfig};
use super::spec::{ContainerSpec, LogSink, PodSandboxSpec, ProjectedFile, Protocol};
use super::stdio::Stdin;
use super::{Error, Shared, refusals};

/// The port of a handler that declares none.
const DEFAULT_HANDLER_PORT: u16 = 8080;

/// See the module.
pub struct PodSandbox {
    spec: PodSandboxSpec,
    shared: Arc<Shared>,
    budget: Arc<Budget>,
    fs: Arc<PodFs>,
    /// The shared root as the worker itself writes to it.
    root: Arc<Root>,
    net: Arc<PodNet>,
    keyvalue: keyvalue::Store,
    /// Where what may wait for a disk is done.
    lane: Arc<Lane>,
    /// The last run of each container.
    containers: Mutex<BTreeMap<String, ContainerHandle>>,
    handlers: Arc<RwLock<BTreeMap<u16, Arc<Handler>>>>,
    /// Told when a limit refuses something or makes it wait.
    limited: Arc<Notify>,
    /// Requests on their way to others.
    calls: Calls,
    /// Further programs that users run in it now.
    execs: Arc<AtomicUsize>,
    closed: CancellationToken,
}

impl PodSandbox {
    pub(super) fn new(shared: &Arc<Shared>, spec: PodSandboxSpec) -> Result<Arc<Self>, Error> {
        let budget = Budget::new(spec.limits.memory_bytes);
        let mut volumes = spec.volumes.clone();
        volumes.push(procfs::volume());
        let fs = PodFs::new(
            &spec.limits,
            &budget,
            &volumes,
            &shared.host_volumes,
            shared.clock.clone(),
        )?;
        let root = fs.root(&RootSpec::default())?;
        let net = shared.fabric.create_pod(PodNetConfig {
            namespace: spec.namespace.clone(),
            hostname: spec.hostname.clone(),
            ip: spec.ip,
            egress: spec.egress,
            max_sockets: spec.limits.sockets,
            budget: Arc::clone(&budget),
        })?;
        let limited = Arc::new(Notify::new());
        net.socket_budget().tell(&limited);
        let keyvalue = match &spec.keyvalue_volume {
            None => shared.keyvalue.of_namespace(&spec.namespace),
            Some(volume) => keyvalue::Store::of_volume(&fs, volume)?,
        };
        let ip = spec.ip;
        let sandbox = Arc::new(Self {
            spec,
            shared: Arc::clone(shared),
            budget,
            fs,
            root,
            net,
            keyvalue,
            lane: shared.guests.lane(),
            containers: Mutex::default(),
            handlers: Arc::default(),
            calls: Calls::new(Budget::watched(
                shared.tuning.calls_per_pod.into(),
                None,
                &limited,
            )),
            limited,
            execs: Arc::default(),
            closed: CancellationToken::new(),
        });
        shared.pods.insert(ip, &sandbox);
        Ok(sandbox)
    }

    /// What it was made from.
    pub fn spec(&self) -> &PodSandboxSpec {
        &self.spec
    }

    /// Starts a container; an earlier run of the same name must have ended.
    pub fn start(
        &self,
        spec: ContainerSpec,
        artifact: Arc<Artifact>,
        log: Arc<dyn LogSink>,
    ) -> Result<ContainerHandle, Error> {
        if spec.shows_proc {
            self.refresh_proc()?;
        }
        // Before the lock: it may wait for a disk.
        let root = self.view(&spec, &artifact)?;
        let mut containers = self.containers();
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if let Some(running) = containers.get(&spec.name)
            && running.exit().is_none()
        {
            return Err(Error::AlreadyRuns(spec.name));
        }
        let name = spec.name.clone();
        let handle = self.launch(spec, artifact, log, root)?;
        containers.insert(name, handle.clone());
        Ok(handle)
    }

    /// The pod's files as the container shall see them.
    fn view(&self, spec: &ContainerSpec, artifact: &Artifact) -> Result<Arc<Root>, Error> {
        let mut mounts = spec.mounts.clone();
        mounts.extend(spec.shows_proc.then(procfs::mount));
        Ok(self.fs.root(&RootSpec {
            mounts: &mounts,
            read_only: spec.read_only_root,
            working_dir: spec.working_dir.as_deref(),
            image: artifact.files(),
            preopens: None,
            private_file: spec.termination_message_path.as_deref(),
        })?)
    }

    fn launch(
        &self,
        spec: ContainerSpec,
        artifact: Arc<Artifact>,
        log: Arc<dyn LogSink>,
        root: Arc<Root>,
    ) -> Result<ContainerHandle, Error> {
        let incarnation = Incarnation::new();
        let container = Arc::new(self.container(&spec));
        let log = refusals::Counted::around(log, &container.log_dropped, &self.limited);
        term_file::remove(&self.root, &term_file::path(&spec.name));
        *container
            .scene
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Scene {
            spec: spec.clone(),
            root: Arc::clone(&root),
            artifact: Arc::clone(&artifact),
        });
        let listeners = if artifact.accepts() {
            super::wasi::p1::listen(&self.net, incarnation.owner(), &spec.ports)?
        } else {
            Vec::new()
        };
        let launch = Arc::new(Launch {
            environment: Environment {
                args: spec.args,
                env: spec.env,
                working_dir: spec.working_dir,
            },
            root,
            net: Arc::clone(&self.net),
            owner: incarnation.owner().clone(),
            listeners: Mutex::new(listeners),
            memory: Arc::clone(&container.memory),
            descriptors: Arc::clone(&container.descriptors),
            cpu: Arc::clone(&container.cpu),
            log,
            stopped: container.stopped.clone(),
            stdin: container.stdin.clone(),
            is_terminal: spec.tty,
            client: self.client(&incarnation),
            keyvalue: self.keyvalue.clone(),
            disk: self.disk(&spec.mounts),
            clock: self.shared.clock.clone(),
        });
        match artifact.role() {
            Role::Command => {
                let held = Held {
                    incarnation,
                    slot: Some(self.shared.slot()?),
                };
                let guests = self.shared.guests.clone();
                let running = run_command(Arc::clone(&container), launch, artifact, held, guests);
                self.shared.guests.spawn("container", running);
            }
            Role::Handler => {
                let port = handler_port(&spec.ports);
                let handler = Handler::new(HandlerConfig {
                    artifact,
                    launch: Arc::clone(&launch),
                    guests: self.shared.guests.clone(),
                    reuse: spec.instance_reuse.max(1),
                    deadline: self.request_timeout(),
                    places: Arc::clone(&container.requests),
                    ends: Arc::clone(&container.ends),
                    killed: container.killed.clone(),
                });
                self.serve(&container, launch, handler, port, incarnation)?;
            }
        }
        Ok(ContainerHandle(container))
    }

    fn client(&self, incarnation: &Incarnation) -> Arc<Client> {
        Client::new(
            Arc::clone(&self.net),
            incarnation.owner().clone(),
            self.calls.clone(),
            outgoing::Shared {
                cluster: Arc::clone(&self.shared.network),
                pods: Arc::clone(&self.shared.pods),
                tasks: self.shared.guests.tasks().clone(),
                tls: Arc::clone(&self.shared.tls),
            },
        )
    }

    fn request_timeout(&self) -> Duration {
        let default = self.shared.tuning.request_deadline;
        self.spec.request_timeout.unwrap_or(default)
    }

    fn container(&self, spec: &ContainerSpec) -> Container {
        let limit = spec.memory_bytes.unwrap_or(self.spec.limits.memory_bytes);
        let (root, path) = (Arc::clone(&self.root), term_file::path(&spec.name));
        Container {
            name: spec.name.clone(),
            cpu: Cpu::new(
                spec.cpu_limit_millis,
                spec.cpu_shares,
                Instant::now(),
                &self.limited,
            ),
            memory: Memory::new(Budget::watched(limit, Some(&self.budget), &self.limited)),
            descriptors: Budget::watched(MAX_DESCRIPTORS, None, &self.limited),
            requests: Budget::watched(
                self.shared.tuning.requests_per_container.into(),
                None,
                &self.limited,
            ),
            log_dropped: Arc::default(),
            ends: Ends::new(&self.limited),
            beside: Beside::default(),
            stopped: CancellationToken::new(),
            // The end of the worker is the end of its containers.
            killed: self.shared.guests.tasks().cancelled().child_token(),
            ended: CancellationToken::new(),
            handler: OnceLock::new(),
            scene: Mutex::default(),
            stdin: spec.stdin.then(Stdin::default),
            term_file: Box::new(move || term_file::write(&root, &path)),
            exit: watch::Sender::new(None),
        }
    }

    /// Lets a handler answer, at its port inside the pod and by direct calls.
    fn serve(
        &self,
        container: &Arc<Container>,
        launch: Arc<Launch>,
        handler: Arc<Handler>,
        port: u16,
        incarnation: Incarnation,
    ) -> Result<(), Error> {
        let service = Port {
            handler: Arc::clone(&handler),
            guests: self.shared.guests.clone(),
            stopped: container.stopped.clone(),
        };
        let binding = self
            .net
            .bind_service(port, incarnation.owner(), Arc::new(service))?;
        // The cell was made for this container alone and is still empty.
        let _ = container.handler.set(Arc::clone(&handler));
        self.handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(port, Arc::clone(&handler));
        let held = Held {
            incarnation,
            slot: None,
        };
        let handlers = Arc::clone(&self.handlers);
        let unbind = {
            let handler = Arc::clone(&handler);
            move || {
                drop(binding);
                let mut handlers = handlers.write().unwrap_or_else(PoisonError::into_inner);
                if handlers
                    .get(&port)
                    .is_some_and(|bound| Arc::ptr_eq(bound, &handler))
                {
                    handlers.remove(&port);
                }
            }
        };
        let running = run_handler(Arc::clone(container), launch, handler, held, unbind);
        self.shared.guests.spawn("container", running);
        Ok(())
    }

    /// Replaces the files of a projected volume at once.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers make the list for this call"
    )]
    pub fn update_volume(&self, name: &str, files: Vec<ProjectedFile>) -> Result<(), Error> {
        Ok(self.fs.update_volume(name, &files)?)
    }

    /// Reads a file of the pod's shared root, for termination messages.
    pub fn read_file(&self, path: &str, limit: usize) -> Result<Vec<u8>, super::fs::errno::Errno> {
        self.root.read_file(path, limit)
    }

    /// Kills what still runs, waits for it, and gives the pod's address back.
    pub async fn close(&self) {
        let containers: Vec<ContainerHandle> = {
            let containers = self.containers();
            self.closed.cancel();
            containers.values().cloned().collect()
        };
        for container in &containers {
            container.kill();
        }
        for container in &containers {
            container.wait().await;
        }
        // In this order: as long as the pod is found, it says that it is leaving.
        self.net.close();
        self.shared.pods.remove(self.spec.ip, self);
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<String, ContainerHandle>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PodSandbox {
    fn drop(&mut self) {
        for container in self.containers().values() {
            container.kill();
        }
        self.shared.pods.remove(self.spec.ip, self);
    }
}

fn handler_port(ports: &[super::spec::PortSpec]) -> u16 {
    ports
        .iter()
        .find(|port| port.protocol == Protocol::Tcp)
        .map_or(DEFAULT_HANDLER_PORT, |port| port.port)
}
