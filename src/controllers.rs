//! The controllers: one loop per duty, each of them `observe → plan → apply → status`.
//!
//! A reconcile gets a key and nothing else; it reads all state live from the registry, compares,
//! and acts. It never learns which event woke it, so a missed or a doubled event changes nothing.
//! `plan` functions are pure and carry the tests; the shells around them are dull on purpose.
//!
//! Watches exist once per kind and are shared by all controllers (`runtime/source.rs`): with ten
//! controllers looking at pods, a pod's change must not wake ten tasks. Queueing, backoff, panics
//! and counters are in `runtime.rs`, once.
//!
//! Deliberately absent: expectations and caches of children. Children are listed from the
//! registry's memory, which already holds what this process wrote a moment ago.

pub mod events;

mod autoscaler;
mod claim;
mod cluster_role_aggregation;
mod cron_job;
mod custom_resources;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoints;
mod event_ttl;
mod garbage_collector;
mod job;
mod kubernetes_service;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod persistent_volume;
mod pod_control;
mod pod_gc;
mod replica_set;
mod resource_quota;
mod revision;
pub mod runtime;
mod service_account;
mod stable_hash;
mod stateful_set;
mod system_namespaces;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;

use crate::clock::Clock;
use crate::registry;
use crate::registry::{Api, ApiKind, Caller, Registry};
use crate::tasks::TaskGroup;

use events::Recorder;
use runtime::{Counters, Sources};
pub use tokens::TokenMaker;

/// What an operator may turn; the defaults are Kubernetes'.
#[derive(Clone, Debug)]
pub struct Config {
    /// Reconciles that one controller runs at the same time.
    pub workers: usize,
    /// How often every object is looked at again without any event.
    pub resync: Duration,
    /// How long a node may be silent before it is `NotReady`.
    pub node_monitor_grace_period: Duration,
    /// How long a node must be gone before its pods are removed.
    pub pod_gc_quarantine: Duration,
    /// How often the pod garbage collector looks at the whole cluster.
    pub pod_gc_period: Duration,
    /// How many finished pods are kept before the oldest are removed.
    pub terminated_pod_threshold: usize,
    /// How long after its deletion deadline a pod on an unreachable node is removed by force.
    /// `None` never does: the node may still run it, and only its return or removal tells.
    pub force_delete_after: Option<Duration>,
    /// How often an autoscaler looks at its target.
    pub autoscaler_period: Duration,
    /// How long events are kept.
    pub event_ttl: Duration,
    /// How many events are kept at most; the oldest go first.
    pub max_events: usize,
    /// The cluster's pod network, cut into one block per node.
    pub pod_cidr: String,
    /// Prefix length of one node's block.
    pub node_cidr_mask: u8,
    /// Where the API server's clients find it, published as the endpoint of Service `kubernetes`.
    pub api_server: Option<SocketAddr>,
    /// The cluster's CA certificate (PEM), published as `kube-root-ca.crt` in every namespace.
    pub root_ca: Option<String>,
    /// Makes the tokens that Secrets hold; without it such Secrets stay as they are.
    pub token_maker: Option<TokenMaker>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 4,
            resync: Duration::from_mins(10),
            node_monitor_grace_period: Duration::from_secs(40),
            pod_gc_quarantine: Duration::from_secs(40),
            pod_gc_period: Duration::from_secs(20),
            terminated_pod_threshold: 12_500,
            force_delete_after: None,
            autoscaler_period: Duration::from_secs(15),
            event_ttl: Duration::from_hours(1),
            max_events: 20_000,
            pod_cidr: "10.64.0.0/10".to_owned(),
            node_cidr_mask: 19,
            api_server: None,
            root_ca: None,
            token_maker: None,
        }
    }
}

impl Config {
    /// For `wasmorch dev`, where all workers are processes of one machine: silence of two seconds
    /// is death. That pods are then replaced at once is the registry's
    /// `default_toleration_seconds: 0`, which admission writes into every pod.
    pub fn dev() -> Self {
        Self {
            node_monitor_grace_period: Duration::from_secs(2),
            pod_gc_quarantine: Duration::from_secs(2),
            pod_gc_period: Duration::from_secs(2),
            force_delete_after: Some(Duration::from_secs(10)),
            autoscaler_period: Duration::from_secs(3),
            ..Self::default()
        }
    }
}

/// Why a reconcile failed; the runtime retries it with backoff.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {object}")]
    Api {
        operation: &'static str,
        object: String,
        #[source]
        source: Box<registry::Error>,
    },
    #[error("read the selector of {object}")]
    Selector {
        object: String,
        #[source]
        source: crate::api::selector::Error,
    },
    #[error("encode {object}")]
    Encode {
        object: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{object} has no spec")]
    NoSpec { object: String },
    #[error("`{cidr}` is not an IPv4 network that blocks of /{mask} can be cut from")]
    PodCidr { cidr: String, mask: u8 },
    #[error("{0}")]
    Incomplete(String),
}

impl Error {
    /// Whether somebody else wrote in between; the next look will see it, and nobody need be told.
    pub(crate) fn is_race(&self) -> bool {
        let Self::Api { source, .. } = self else {
            return false;
        };
        matches!(
            **source,
            registry::Error::Conflict { .. } | registry::Error::NotFound { .. }
        )
    }
}

/// Puts what was being done to what around a registry error.
pub(crate) fn doing(
    operation: &'static str,
    object: impl Into<String>,
) -> impl FnOnce(registry::Error) -> Error {
    let object = object.into();
    move |source| Error::Api {
        operation,
        object,
        source: Box::new(source),
    }
}

/// What every controller holds; cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) config: Arc<Config>,
    pub(crate) tasks: TaskGroup,
}

impl Context {
    pub(crate) fn new(registry: Registry, config: Config, tasks: &TaskGroup) -> Self {
        Self {
            clock: registry.clock().clone(),
            registry,
            config: Arc::new(config),
            tasks: tasks.clone(),
        }
    }

    /// A typed client that acts in the name of one controller.
    pub(crate) fn api<K: ApiKind>(&self, component: &str) -> Api<K> {
        self.registry.api(Caller::system(component))
    }

    /// A recorder that speaks in the name of one controller.
    pub(crate) fn recorder(&self, component: &'static str) -> Recorder {
        Recorder::start(&self.registry, component, &self.tasks)
    }
}

/// What is left in the hands of the one who started the controllers.
#[derive(Clone)]
pub struct Handle {
    counters: Arc<Vec<(&'static str, Arc<Counters>)>>,
}

impl Handle {
    /// Reconciles, errors, panics and retries by controller.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, &Counters)> {
        self.counters
            .iter()
            .map(|(name, counters)| (*name, counters.as_ref()))
    }
}

/// Starts every controller and returns at once; cancelling `tasks` stops them.
pub fn run(registry: Registry, config: Config, tasks: &TaskGroup) -> Result<Handle, Error> {
    let ctx = Context::new(registry, config, tasks);
    let mut sources = Sources::default();
    let mut counters = vec![
        deployment::start(&ctx, &mut sources),
        replica_set::start::<ReplicaSet>(&ctx, &mut sources),
        replica_set::start::<ReplicationController>(&ctx, &mut sources),
        stateful_set::start(&ctx, &mut sources),
        daemon_set::start(&ctx, &mut sources),
        disruption::start(&ctx, &mut sources),
        autoscaler::start(&ctx, &mut sources),
        job::start(&ctx, &mut sources),
        cron_job::start(&ctx, &mut sources),
        endpoint_slice::start(&ctx, &mut sources),
        endpoints::start(&ctx, &mut sources),
        namespace::start(&ctx, &mut sources),
        system_namespaces::start(&ctx, &mut sources),
        service_account::start(&ctx, &mut sources),
        tokens::start(&ctx, &mut sources),
        node_lifecycle::start(&ctx, &mut sources),
        node_ipam::start(&ctx, &mut sources)?,
        pod_gc::start(&ctx, &mut sources),
        persistent_volume::start(&ctx, &mut sources),
        custom_resources::start(&ctx),
        cluster_role_aggregation::start(&ctx, &mut sources),
        resource_quota::start(&ctx, &mut sources),
        event_ttl::start(&ctx),
        garbage_collector::start(&ctx),
    ];
    if let Some(address) = ctx.config.api_server {
        counters.push(kubernetes_service::start(&ctx, &mut sources, address));
    }
    sources.start(&ctx);
    Ok(Handle {
        counters: Arc::new(counters),
    })
}

/// `namespace/name`, for errors and logs.
pub(crate) fn path(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    match meta.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}"),
        Some(_) | None => name.to_owned(),
    }
}
