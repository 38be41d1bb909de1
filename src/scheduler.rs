//! The scheduler: gives every pod a node.
//!
//! ```text
//!  watches ──► cache (nodes, what is used on them) ──┐
//!         └──► queue (pods without a node) ──► decide ──► bind: one commit
//!                ▲  backoff, unschedulable       │
//!                └────── refused: condition, event
//! ```
//!
//! One task owns all state. It takes whatever changes have arrived, then all pods that wait,
//! decides one after the other against the cache (a decision counts at once, as *assumed*), and
//! binds them in one commit. While the commit is on its way to the disk, the next changes gather;
//! batches grow with the load by themselves.
//!
//! Deciding is pure and deterministic (`decide.rs`): no clock, no randomness, no I/O.
//! A pod without room may make some (`preempt.rs`).
//! Pods that ask for each other (affinity, spreading) are decided about in `sociable.rs`, with the
//! counts of `neighbours.rs`.

mod cache;
mod claims;
mod classes;
mod decide;
mod feed;
mod filter;
mod neighbours;
mod node_info;
mod order;
mod pod_info;
mod preempt;
mod queue;
mod score;
mod sociable;
mod social;
mod spread;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use tokio::sync::mpsc;

use crate::api::condition::{self, Status};
use crate::clock::Clock;
use crate::controllers::events::{Notice, Recorder};
use crate::errors;
use crate::registry;
use crate::registry::{Api, Caller, Registry};
use crate::tasks::TaskGroup;

use claims::{Claims, Reach, has_claims};
use decide::{Decider, Decision};
use feed::Change;
use pod_info::PodInfo;
use queue::{Queue, Waiting};

const COMPONENT: &str = "default-scheduler";
/// Changes that may wait for the scheduler; the watches hold the rest.
const CHANGES: usize = 4096;
/// Unschedulable pods are tried again after this long even if nothing seems to have changed.
const FLUSH: Duration = Duration::from_mins(1);

/// What an operator may turn.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods decided before one commit.
    pub batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch: 1000 }
    }
}

/// Starts the scheduler and returns at once; cancelling `tasks` stops it.
pub fn run(registry: Registry, config: Config, tasks: &TaskGroup) {
    let (sender, changes) = mpsc::channel(CHANGES);
    feed::start(&registry, &sender, tasks);
    let scheduler = Scheduler {
        clock: registry.clock().clone(),
        pods: registry.api(Caller::system(COMPONENT)),
        recorder: Recorder::start(&registry, COMPONENT, tasks),
        claims: Claims::new(&registry),
        registry,
        config,
        decider: Decider::default(),
        queue: Queue::default(),
    };
    let cancelled = tasks.cancelled();
    tasks.spawn("scheduler", async move {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = scheduler.run(changes) => {}
        }
    });
}

struct Scheduler {
    registry: Registry,
    clock: Clock,
    pods: Api<Pod>,
    recorder: Recorder,
    config: Config,
    decider: Decider,
    claims: Claims,
    queue: Queue,
}

/// A pod that goes to `node` as soon as its claims have volumes there.
struct Selected {
    waiting: Waiting,
    node: String,
    unbound: Vec<PersistentVolumeClaim>,
}

/// A pod for which no node was found.
struct Refused {
    pod: Arc<Pod>,
    reason: &'static str,
    message: String,
}

impl Scheduler {
    async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let mut arrived = Vec::with_capacity(CHANGES);
        loop {
            let now = self.clock.monotonic();
            let wait = self.queue.due(now).map_or(FLUSH, |wait| wait.min(FLUSH));
            tokio::select! {
                count = changes.recv_many(&mut arrived, CHANGES) => if count == 0 { return },
                () = tokio::time::sleep(wait) => {}
            }
            arrived.drain(..).for_each(|change| self.take(change));
            self.queue.flush(self.clock.monotonic(), FLUSH);
            while self.round().await {
                while let Ok(change) = changes.try_recv() {
                    self.take(change);
                }
            }
        }
    }

    /// Brings cache and queue up to date.
    fn take(&mut self, change: Change) {
        let cache = &mut self.decider.cache;
        let may_help = match change {
            Change::Node(node) => cache.set_node(&node),
            Change::NodeGone(name) => {
                cache.remove_node(&name);
                false
            }
            Change::Nodes(nodes) => {
                cache.retain_nodes(&nodes);
                let mut helps = false;
                for node in &nodes {
                    helps |= cache.set_node(node);
                }
                helps
            }
            Change::Pod(pod) => self.take_pod(pod),
            Change::Storage => true,
            Change::PodGone(uid) => {
                self.queue.remove(&uid);
                self.decider.cache.remove_pod(&uid)
            }
            Change::Pods(pods) => {
                let freed = self.decider.cache.retain_pods(&pods);
                self.queue.retain(&pods);
                pods.into_iter()
                    .fold(freed, |helps, pod| self.take_pod(pod) || helps)
            }
        };
        if may_help {
            self.queue.wake(self.clock.monotonic());
        }
    }

    /// Tells whether room was made.
    fn take_pod(&mut self, pod: Arc<Pod>) -> bool {
        let info = PodInfo::new(pod);
        if info.is_finished {
            self.queue.remove(&info.uid);
            return self.decider.cache.remove_pod(&info.uid);
        }
        match &info.node {
            Some(node) => {
                self.queue.remove(&info.uid);
                self.decider.cache.place(&info, node, false);
                false
            }
            // A version from before the binding that is on its way changes nothing.
            None if self.decider.cache.is_assumed(&info.uid) => false,
            None => {
                if info.is_ours && !info.is_terminating {
                    self.queue.put(info);
                } else {
                    self.queue.remove(&info.uid);
                }
                false
            }
        }
    }

    /// Decides and binds one batch; tells whether there was any.
    async fn round(&mut self) -> bool {
        let batch = self.queue.pop(self.config.batch, self.clock.monotonic());
        if batch.is_empty() {
            return false;
        }
        let (mut placed, mut selected, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut homeless = Vec::new();
        for waiting in batch {
            let (decision, unbound) = self.decide(&waiting.info);
            match decision {
                Decision::Bind(node) if unbound.is_empty() => placed.push((waiting, node)),
                Decision::Bind(node) => {
                    self.claims.choose(&unbound, &node);
                    selected.push(Selected {
                        waiting,
                        node,
                        unbound,
                    });
                }
                Decision::Unschedulable(message) => {
                    homeless.push(Arc::clone(&waiting.info.pod));
                    refused.push(refusal(&waiting, "Unschedulable", message));
                    self.queue.unschedulable(waiting, self.clock.monotonic());
                }
                Decision::Gated => {
                    let message = "Scheduling is blocked due to non-empty scheduling gates";
                    refused.push(refusal(&waiting, "SchedulingGated", message.to_owned()));
                }
            }
        }
        self.select(selected).await;
        self.bind(placed).await;
        self.make_room(&homeless).await;
        join_all(refused.into_iter().map(|refused| self.refuse(refused))).await;
        true
    }

    /// The decision, and the claims that have to follow it before the pod can.
    fn decide(&mut self, info: &PodInfo) -> (Decision, Vec<PersistentVolumeClaim>) {
        if !has_claims(&info.pod) {
            return (self.decider.decide(info), Vec::new());
        }
        match self.claims.reach(info) {
            Ok(Reach::Nodes { groups, unbound }) => {
                let shape = info.within(groups);
                (self.decider.decide_within(info, &shape), unbound)
            }
            Ok(Reach::Wait(message)) => (Decision::Unschedulable(message), Vec::new()),
            Err(error) => {
                tracing::warn!(pod = info.name, namespace = info.namespace, error = %errors::chain(&error), "read the pod's claims");
                let message = "the pod's claims cannot be read".to_owned();
                (Decision::Unschedulable(message), Vec::new())
            }
        }
    }

    /// Says on the claims where their pods will be. The pods wait in the queue until that has given
    /// them volumes, and are then held to these nodes.
    async fn select(&mut self, selected: Vec<Selected>) {
        let writes = selected
            .iter()
            .map(|it| self.claims.select(&it.unbound, &it.node));
        let written = join_all(writes).await;
        for (Selected { waiting, .. }, result) in selected.into_iter().zip(written) {
            let now = self.clock.monotonic();
            self.decider.cache.remove_pod(&waiting.info.uid);
            match result {
                Ok(()) => self.queue.unschedulable(waiting, now),
                Err(error) => {
                    let info = &waiting.info;
                    tracing::debug!(pod = info.name, namespace = info.namespace, error = %errors::chain(&error), "select a node for claims");
                    self.queue.failed(waiting, now);
                }
            }
        }
        self.claims.forget();
    }

    async fn bind(&mut self, placed: Vec<(Waiting, String)>) {
        if placed.is_empty() {
            return;
        }
        // All are under way together, so the store commits them as one. The uid keeps a pod that
        // took the name of another meanwhile from getting that one's node.
        let bindings = placed.iter().map(|(waiting, node)| {
            let info = &waiting.info;
            let (ns, pod, uid) = (&info.namespace, &info.name, &info.uid);
            self.registry.bind(ns, pod, Some(uid), node)
        });
        let results = join_all(bindings).await;
        for ((waiting, node), result) in placed.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    let path = format!("{}/{}", waiting.info.namespace, waiting.info.name);
                    let message = format!("Successfully assigned {path} to {node}");
                    self.recorder.event(
                        waiting.info.pod.as_ref(),
                        Notice::normal("Scheduled", message),
                    );
                }
                // Gone, or bound by somebody else: the watch has told or will tell.
                Err(registry::Error::NotFound { .. }) => {
                    self.decider.cache.remove_pod(&waiting.info.uid);
                }
                Err(error) => {
                    let info = &waiting.info;
                    tracing::warn!(pod = info.name, namespace = info.namespace, error = %errors::chain(&error), "bind");
                    self.decider.cache.remove_pod(&info.uid);
                    self.queue.failed(waiting, self.clock.monotonic());
                }
            }
        }
    }

    /// Says on the pod why it has no node; written only when the words change.
    async fn refuse(&self, refused: Refused) {
        let meta = &refused.pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let live = self
            .pods
            .try_get(namespace, meta.name.as_deref().unwrap_or_default());
        let Ok(Some(live)) = live else { return };
        if live.metadata.uid != meta.uid {
            return;
        }
        if refused.reason == "Unschedulable" {
            let notice = Notice::warning("FailedScheduling", refused.message.clone());
            self.recorder.event(live.as_ref(), notice);
        }
        let mut updated = live.as_ref().clone();
        let conditions = updated
            .status
            .get_or_insert_default()
            .conditions
            .get_or_insert_default();
        let current = condition::find(conditions, "PodScheduled");
        if current.is_some_and(|current| {
            current.reason.as_deref() == Some(refused.reason)
                && current.message.as_deref() == Some(&refused.message)
        }) {
            return;
        }
        let why = (refused.reason, refused.message.as_str());
        condition::set(
            conditions,
            "PodScheduled",
            Status::False,
            why,
            self.clock.now(),
        );
        if let Err(error) = self.pods.update_status(namespace, &updated).await {
            // The next attempt says it again.
            tracing::debug!(pod = ?meta.name, error = %errors::chain(&error), "condition not written");
        }
    }
}

fn refusal(waiting: &Waiting, reason: &'static str, message: String) -> Refused {
    Refused {
        pod: Arc::clone(&waiting.info.pod),
        reason,
        message,
    }
}
