//! The worker: kubelet, container runtime and kube-proxy of one node, in one process.
//!
//! Read it from the middle. `lifecycle` is the pure machine of one pod, with `plan` (what the pod
//! wants), `probes` and `restart` (when to ask and when to try again) and `status` (what to say)
//! around it. `pod_worker` drives one machine, `pod_workers` all of them. Beside them stand the
//! components that they use: `images`, `objects`, `volumes`, `env`, `logs`, `addresses`,
//! `checkpoint`, `claim`, `events`, `status_sender`. `network`, `policies` and `wire` are the data plane,
//! `node`, `fence` and `server` the worker's face to the control plane.
//!
//! The worker is an ordinary API client. While the control plane is away pods go on, probes go on,
//! names resolve from the last snapshot, and statuses wait to be sent. Guests die with the process;
//! what must outlive it is in the checkpoints. Absent on purpose: image collection, eviction under
//! pressure, in-place changes of a running pod's containers.

pub mod address_pool;
pub mod addresses;
pub mod checkpoint;
pub mod claim;
pub mod claims;
pub mod context;
pub mod env;
mod error;
pub mod events;
pub mod exec;
pub mod expand;
mod feeds;
pub mod fence;
pub mod fields;
pub mod images;
pub mod lifecycle;
pub mod logs;
pub mod network;
pub mod node;
pub mod object_changes;
pub mod objects;
pub mod plan;
pub mod pod_worker;
pub mod pod_workers;
pub mod policies;
pub mod port_forward;
pub mod probe_run;
pub mod probes;
pub mod qos;
pub mod restart;
pub mod server;
pub mod spdy;
pub mod specs;
pub mod stats;
pub mod status;
pub mod status_sender;
pub mod tokens;
mod volume_ends;
pub mod volumes;
pub mod wire;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use rustls_pki_types::CertificateDer;

pub use self::error::Error;

use self::address_pool::AddressPool;
use self::checkpoint::Checkpoint;
use self::claim::Claim;
use self::claims::Places;
use self::context::{Context, Directory};
use self::feeds::{either, follow_cidr, refresh_ticks, wire_secret};
use self::fence::Fence;
use self::lifecycle::Timing;
use self::logs::Logs;
use self::network::Network;
use self::node::{Facts, LeaseTiming, Machine, NodeAgent, Thresholds};
use self::pod_workers::PodWorkers;
use self::server::Server;
use self::wire::{Listeners, Wire};
use crate::clock::Clock;
use crate::runtime::{self, Runtime};
use crate::tasks::TaskGroup;

/// Everything that the operator chooses.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: String,
    pub labels: BTreeMap<String, String>,
    pub data_dir: PathBuf,
    /// Where compiled code is kept.
    pub compiled_dir: PathBuf,
    /// Address of the wire and of the worker's API.
    pub address: IpAddr,
    pub wire_port: u16,
    pub api_port: u16,
    pub wire_threads: usize,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub max_pods: u64,
    pub max_instances: usize,
    pub lease: LeaseTiming,
    pub drain_delay: Duration,
    pub volume_refresh: Duration,
    pub log_limits: logs::Limits,
    /// What must be left of memory and disk.
    pub thresholds: Thresholds,
    /// When unused modules are removed.
    pub image_gc: images::Policy,
    pub allowed_host_paths: Vec<PathBuf>,
    /// Trusted for guests' `https`, besides the machine's own.
    pub extra_authorities: Vec<CertificateDer<'static>>,
    /// Where service `kubernetes` leads: the API server's TLS socket.
    pub api_server: Option<SocketAddr>,
}

/// A worker with bound sockets and a loaded past, not yet running.
pub struct Worker {
    config: Config,
    client: Client,
    clock: Clock,
    /// The process: its end is a wish, after which the organs still drain.
    tasks: TaskGroup,
    /// Everything that runs; a root of its own, so that guests are not cut off by the signal.
    organs: TaskGroup,
    runtime: Runtime,
    network: Arc<Network>,
    checkpoints: HashMap<String, Checkpoint>,
    listeners: Listeners,
    server: Server,
    server_address: SocketAddr,
    claim: Arc<Claim>,
}

const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long the control plane may take to hear the last statuses; it may be gone, too.
const LAST_WORD: Duration = Duration::from_secs(1);

impl Worker {
    /// Binds, loads, prepares; nothing runs yet.
    pub async fn new(
        config: Config,
        client: Client,
        clock: Clock,
        tasks: TaskGroup,
    ) -> Result<Self, Error> {
        if !config.address.is_loopback() {
            return Err(Error::NotLoopback(config.address));
        }
        let claim = Arc::new(Claim::take(&config.data_dir).await?);
        let wire = SocketAddr::new(config.address, config.wire_port);
        let listen = |address| move |source| Error::Listen { address, source };
        let listeners = Listeners::bind(wire, config.wire_threads).map_err(listen(wire))?;
        let api = SocketAddr::new(config.address, config.api_port);
        let (listener, server_address) = server::bind(api).await.map_err(listen(api))?;
        let server = Server::new(listener, server_address)?;
        let network = Network::new(config.node.clone(), config.api_server);
        let organs = TaskGroup::new();
        let tuning = runtime::Tuning {
            extra_authorities: config.extra_authorities.clone(),
            ..runtime::Tuning::default()
        };
        let runtime = Runtime::with_tuning(
            runtime::Config {
                cache_dir: config.compiled_dir.clone(),
                max_instances: config.max_instances,
                tasks: organs.child(),
            },
            tuning,
            Arc::clone(&network) as Arc<dyn runtime::net::ClusterNetwork>,
        );
        Ok(Self {
            checkpoints: checkpoint::load(&config.data_dir.join("pods"))?,
            runtime: runtime.map_err(Error::Runtime)?,
            config,
            client,
            clock,
            tasks,
            organs,
            network,
            listeners,
            server,
            server_address,
            claim,
        })
    }

    /// Where routers and other workers reach this worker's pods.
    pub fn wire_address(&self) -> SocketAddr {
        self.listeners.address()
    }

    /// Where the API server reaches this worker.
    pub fn api_address(&self) -> SocketAddr {
        self.server_address
    }

    /// Runs until the group is cancelled or an organ panics, then drains.
    pub async fn run(self) -> Result<(), Error> {
        let (tasks, organs) = (self.tasks.clone(), self.organs.clone());
        // Given up last: until then there may be something to write.
        let _claim = Arc::clone(&self.claim);
        let result = self.serve().await;
        tasks.cancel();
        if !organs.shutdown(SHUTDOWN).await {
            tracing::warn!("some of the worker's tasks did not end in time");
        }
        result
    }

    async fn serve(self) -> Result<(), Error> {
        let cancelled = either(self.tasks.cancelled(), self.organs.cancelled());
        tokio::pin!(cancelled);
        let secret = tokio::select! {
            secret = wire_secret(&self.client) => secret,
            () = &mut cancelled => return Err(Error::Stopped),
        };
        let fence = Arc::new(Fence::new(self.config.lease.duration, self.clock.clone()));
        let facts = self.facts();
        let context = self.context(&facts)?;
        let pods = Arc::new(PodWorkers::new(
            Arc::clone(&context),
            self.config.node.clone(),
            self.checkpoints,
            self.organs.child(),
        ));
        let agent = Arc::new(NodeAgent {
            client: self.client.clone(),
            clock: self.clock.clone(),
            facts,
            lease: self.config.lease,
            fence: Arc::clone(&fence),
            network: Arc::clone(&self.network),
            pods: Arc::clone(&pods),
            thresholds: self.config.thresholds.clone(),
            places: node::Places {
                node: self.config.data_dir.clone(),
                images: self.config.compiled_dir.clone(),
            },
            pressures: Default::default(),
        });
        let wire = Arc::new(Wire {
            runtime: self.runtime.clone(),
            secret: secret.clone(),
            fence,
        });
        self.listeners
            .serve(&wire, &self.organs)
            .map_err(Error::Wire)?;
        let node = self.config.node.clone();
        let serving = self.server.run(
            Arc::clone(&context),
            node,
            secret.clone(),
            self.organs.child(),
        );
        self.organs.spawn("worker API", serving);
        tokio::select! {
            () = agent.register() => {}
            () = &mut cancelled => return Err(Error::Stopped),
        }
        self.network
            .start(self.client.clone(), secret, &self.organs);
        context.policies.start(self.client.clone(), &self.organs);
        follow_cidr(&self.network, &context, &self.organs);
        volume_ends::start(self.client.clone(), context.places.clone(), &self.organs);
        let running = {
            let (agent, cancelled) = (Arc::clone(&agent), self.organs.cancelled());
            async move { Box::pin(agent.run(cancelled)).await }
        };
        self.organs.spawn("node", running);
        tokio::select! {
            () = pods.run(self.client.clone()) => {}
            () = &mut cancelled => {}
        }
        shut_down(&pods, &context).await;
        Ok(())
    }

    fn facts(&self) -> Facts {
        Facts {
            name: self.config.node.clone(),
            labels: self.config.labels.clone(),
            address: self.config.address,
            wire: self.wire_address(),
            api_port: self.server_address.port(),
            cpu_millis: self.config.cpu_millis,
            memory_bytes: self.config.memory_bytes,
            max_pods: self.config.max_pods,
            machine: Machine::read(),
        }
    }

    fn places(&self) -> Places {
        Places {
            node: self.config.node.clone(),
            volumes: self.config.data_dir.join("volumes"),
            allowed: self.config.allowed_host_paths.clone(),
        }
    }

    fn context(&self, facts: &Facts) -> Result<Arc<Context>, Error> {
        let (client, clock, config) = (&self.client, &self.clock, &self.config);
        let remembered = self.checkpoints.iter();
        let remembered = remembered.filter(|(_, it)| !it.saved.is_finished);
        let remembered = remembered.filter_map(|(uid, it)| Some((uid.clone(), it.ip?)));
        let objects = objects::ObjectCache::new(client.clone(), clock.clone());
        let logs = config.data_dir.join("logs");
        let logs = Logs::new(logs, config.log_limits, clock.clone());
        let images = config.data_dir.join("images");
        let (runtime, tasks) = (self.runtime.clone(), self.organs.child());
        let images = images::Images::new(client.clone(), runtime, images, tasks);
        let images = images.map_err(Error::Images)?;
        images.collect(config.image_gc, config.compiled_dir.clone());
        Ok(Arc::new(Context {
            clock: clock.clone(),
            client: client.clone(),
            runtime: self.runtime.clone(),
            images,
            object_changes: object_changes::ObjectChanges::new(
                client.clone(),
                objects.clone(),
                self.organs.child(),
            ),
            objects,
            tokens: tokens::TokenCache::new(client.clone(), clock.clone()),
            network: Arc::clone(&self.network),
            policies: Arc::default(),
            addresses: AddressPool::new(remembered.collect()),
            logs: logs.map_err(Error::Logs)?,
            events: events::Recorder::start(
                client.clone(),
                config.node.clone(),
                clock.clone(),
                &self.organs,
            ),
            statuses: status_sender::StatusSender::start(
                client.clone(),
                clock.clone(),
                &self.organs,
            ),
            checkpoints: checkpoint::Writer::start(config.data_dir.join("pods"), &self.organs),
            directory: Directory::default(),
            taps: exec::Taps::default(),
            host_ip: config.address,
            allocatable: facts.capacity(),
            places: self.places(),
            timing: Timing {
                drain_delay: config.drain_delay,
            },
            refresh: refresh_ticks(config.volume_refresh, &self.organs),
        }))
    }
}

/// Stops the pods and sends what they said last. Nothing is deleted: the pods stay bound here, and
/// the next start, or their controllers, see to them.
async fn shut_down(pods: &PodWorkers, context: &Context) {
    if tokio::time::timeout(SHUTDOWN, pods.stop()).await.is_err() {
        tracing::warn!("some pods did not stop in time");
    }
    let told = context.statuses.drained();
    if tokio::time::timeout(LAST_WORD, told).await.is_err() {
        tracing::debug!("the control plane did not hear the last statuses");
    }
    if tokio::time::timeout(LAST_WORD, context.logs.flush())
        .await
        .is_err()
    {
        tracing::warn!("the last lines of some logs were not written in time");
    }
    context.checkpoints.flush();
}
