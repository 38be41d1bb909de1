//! The worker's Node object: registration, status, lease, and the heartbeat behind the fence.
//!
//! Four small loops. The *beat* is local and never waits for the network. The *lease* tells the
//! control plane that the worker lives; it is a volatile object and costs nothing durable. The
//! *status* is sent when something changed, when somebody else (the node lifecycle controller)
//! wrote our condition, and every five minutes. The *look* finds out whether memory or disk run out, on
//! a thread that may wait for that disk. A Node that was deleted is registered again.

mod object;
mod pressure;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use object::Machine;
pub use pressure::{DEFAULTS as EVICTION_HARD, Left, Places, Pressures, Thresholds, bytes_left};

use super::fence::{Beat, Fence};
use super::network::{Network, OwnNode};
use super::pod_workers::PodWorkers;
use crate::api::quantity;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::errors::chain;
use crate::ids;

/// What the worker says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub address: IpAddr,
    pub wire: SocketAddr,
    pub api_port: u16,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub max_pods: u64,
    pub machine: Machine,
}

impl Facts {
    /// Capacity, which is also what can be allocated: the worker's own share is taken off before.
    pub fn capacity(&self) -> BTreeMap<String, Quantity> {
        [
            ("cpu", quantity::from_millis(self.cpu_millis)),
            ("memory", quantity::from_bytes(self.memory_bytes)),
            ("ephemeral-storage", quantity::from_bytes(self.memory_bytes)),
            ("pods", Quantity(self.max_pods.to_string())),
        ]
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), amount))
        .collect()
    }
}

/// Lease settings.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTiming {
    pub renew: Duration,
    pub duration: Duration,
}

/// The agent.
pub struct NodeAgent {
    pub client: Client,
    pub clock: Clock,
    pub facts: Facts,
    pub lease: LeaseTiming,
    pub fence: Arc<Fence>,
    pub network: Arc<Network>,
    pub pods: Arc<PodWorkers>,
    pub thresholds: Thresholds,
    pub places: Places,
    pub pressures: watch::Sender<Pressures>,
}

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
const STATUS_PERIOD: Duration = Duration::from_mins(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the machine is looked at, as the kubelet does.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Why a request about the node failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer within 10 s")]
    Timeout,
}

impl NodeAgent {
    /// Registers, until it succeeds.
    pub async fn register(&self) {
        let mut failures = 0;
        while let Err(error) = self.try_register().await {
            failures += 1;
            if failures == 1 {
                tracing::warn!(node = self.facts.name, error = %chain(&error), "register; trying again");
            }
            tokio::time::sleep(RETRY.delay_with_jitter(failures, ids::jitter())).await;
        }
        tracing::info!(node = self.facts.name, "registered");
    }

    /// Runs the loops until cancelled. Nothing is said at the end: pods that stop say so themselves,
    /// and a worker that comes back within its lease has not been away.
    pub async fn run(&self, cancelled: CancellationToken) {
        tokio::select! {
            () = self.beat() => {}
            () = self.renew() => {}
            () = self.report() => {}
            () = self.look() => {}
            () = cancelled.cancelled() => {}
        }
    }

    async fn try_register(&self) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = object::registration(&self.facts);
        let creating = async { nodes.create(&PostParams::default(), &node).await };
        match within(creating).await {
            Ok(_) => {}
            Err(Error::Api(kube::Error::Api(status))) if status.code == 409 => {
                let patch = Patch::Merge(serde_json::json!({
                    "metadata": {"labels": node.metadata.labels, "annotations": node.metadata.annotations},
                }));
                let params = PatchParams::default();
                within(nodes.patch(&self.facts.name, &params, &patch)).await?;
            }
            Err(error) => return Err(error),
        }
        self.renew_once().await?;
        let pressures = *self.pressures.borrow();
        let status = object::status(&self.facts, pressures, &[], self.clock.now());
        self.send_status(status).await
    }

    /// The local heartbeat.
    async fn beat(&self) {
        let period = (self.lease.duration / 8).min(Duration::from_secs(1));
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.fence.beat() == Beat::Late {
                tracing::warn!(
                    "stood still for longer than the lease; asking which pods are still ours"
                );
                self.register().await;
                self.pods.catch_up().await;
                self.fence.reopen();
                tracing::info!("caught up; serving again");
            }
        }
    }

    async fn renew(&self) {
        let mut ticks = tokio::time::interval(self.lease.renew);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            // The next tick tries again; an outage is told when it begins and when it ends.
            let renewing = tokio::time::timeout(self.lease.duration / 2, self.renew_once());
            let renewed = renewing.await;
            match &renewed {
                Ok(Ok(())) if is_failing => tracing::info!("the lease is renewed again"),
                Ok(Ok(())) => {}
                Ok(Err(error)) if is_failing => {
                    tracing::debug!(error = %chain(error), "renew lease");
                }
                Ok(Err(error)) => tracing::warn!(error = %chain(error), "renew lease"),
                Err(_) if is_failing => tracing::debug!("renewing the lease takes too long"),
                Err(_) => tracing::warn!("renewing the lease takes too long"),
            }
            is_failing = !matches!(renewed, Ok(Ok(())));
        }
    }

    async fn renew_once(&self) -> Result<(), Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let lease = object::lease(&self.facts.name, self.lease.duration, self.clock.now());
        let patch = Patch::Merge(serde_json::json!({"spec": lease.spec}));
        let params = PatchParams::default();
        match within(leases.patch(&self.facts.name, &params, &patch)).await {
            Ok(_) => Ok(()),
            Err(Error::Api(kube::Error::Api(status))) if status.code == 404 => {
                let creating = async { leases.create(&PostParams::default(), &lease).await };
                within(creating).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Finds out what the machine runs out of.
    async fn look(&self) {
        let mut told = pressure::Told::default();
        let mut ticks = tokio::time::interval(LOOK_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let places = self.places.clone();
            let looking = tokio::task::spawn_blocking(move || pressure::look(&places));
            let Ok(seen) = looking.await else { return };
            let pressures = told.step(&self.thresholds, &seen, self.clock.monotonic());
            let changed = |known: &mut Pressures| std::mem::replace(known, pressures) != pressures;
            if self.pressures.send_if_modified(changed) {
                tracing::info!(?pressures, ?seen, "what the machine runs out of changed");
            }
        }
    }

    /// Keeps the status in the API right.
    async fn report(&self) {
        let mut pressures = self.pressures.subscribe();
        let mut own = self.network.own_node();
        let mut period = tokio::time::interval(STATUS_PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        period.tick().await;
        loop {
            let is_due = tokio::select! {
                changed = own.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    false
                }
                _ = period.tick() => true,
                // The agent itself has the sender.
                _ = pressures.changed() => true,
            };
            let node = own.borrow_and_update().clone();
            match node {
                OwnNode::Unknown => {}
                OwnNode::Absent => self.register().await,
                OwnNode::Present(node) => {
                    let status = node.status.as_ref();
                    let conditions = status.and_then(|it| it.conditions.as_deref());
                    let conditions = conditions.unwrap_or_default();
                    let told = *pressures.borrow();
                    if is_due || !object::is_said(conditions, told) {
                        let now = self.clock.now();
                        let status = object::status(&self.facts, told, conditions, now);
                        if let Err(error) = self.send_status(status).await {
                            tracing::debug!(error = %chain(&error), "send node status");
                            period.reset_after(RETRY.delay_with_jitter(4, ids::jitter()));
                        }
                    }
                }
            }
        }
    }

    async fn send_status(
        &self,
        status: k8s_openapi::api::core::v1::NodeStatus,
    ) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        let params = PatchParams::default();
        let sending = nodes.patch_status(&self.facts.name, &params, &patch);
        within(sending).await.map(drop)
    }
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(result) => result.map_err(Error::Api),
        Err(_) => Err(Error::Timeout),
    }
}
