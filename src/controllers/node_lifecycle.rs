//! Node lifecycle: what a worker's silence means for its pods.
//!
//! ```text
//!            lease renewed                          silent for the grace period
//!  Ready ◄──────────────────► Ready ──────────────────────────────────────────► Unknown
//!    ▲                                                                             │ taint unreachable:
//!    │ worker reports itself ready again                                           │ NoSchedule, NoExecute
//!    └─────────────────────────────────────────────────────────────────────────────┤
//!                                                                                  ▼
//!                                 pods: Ready=False; evicted when their toleration has run out
//! ```
//!
//! - Silence is measured on the monotonic clock from when *this process* saw the last heartbeat:
//!   a restarted server (leases are volatile) and a jump of the clock give every node a full grace
//!   period, and so does a pause of the server itself (`heartbeats.rs`).
//! - If every node is silent, it is more likely that the server is deaf than that all are dead:
//!   nothing is evicted until one node speaks.
//! - A worker that returns writes its node's and its pods' conditions itself; this controller never
//!   says that something is ready.

mod eviction;
mod heartbeats;
mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use super::events::{Notice, Recorder};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path};
use crate::api::pod;
use crate::registry;
use crate::registry::{Api, DeleteOptions};

use eviction::Verdict;
use heartbeats::{Heartbeats, Signal};
use plan::Plan;

const COMPONENT: &str = "node-controller";
const LEASES: &str = "kube-node-lease";
/// How often the heart of this process itself is felt.
const PULSE: Duration = Duration::from_millis(500);

struct NodeLifecycle {
    ctx: Context,
    nodes: Api<Node>,
    leases: Api<Lease>,
    pods: Api<Pod>,
    recorder: Recorder,
    heartbeats: Mutex<Heartbeats>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(NodeLifecycle {
        ctx: ctx.clone(),
        nodes: ctx.api(COMPONENT),
        leases: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
        heartbeats: Mutex::new(Heartbeats::new(PULSE)),
    });
    let controller = Controller::new("nodelifecycle", ctx);
    controller.root(&mut sources.nodes, this.nodes.clone());
    let queue = Arc::clone(&controller.queue);
    sources.leases.subscribe(move |_, after: Option<&Lease>| {
        if let Some(lease) =
            after.filter(|lease| lease.metadata.namespace.as_deref() == Some(LEASES))
        {
            queue.add(Key::new(
                "",
                lease.metadata.name.as_deref().unwrap_or_default(),
            ));
        }
    });
    // A pod that comes to a tainted node must be looked at; most pods come to healthy ones.
    let queue = Arc::clone(&controller.queue);
    sources.pods.subscribe(move |before: Option<&Pod>, after| {
        if let Some(node) = after.and_then(pod::node_name)
            && before.and_then(pod::node_name) != Some(node)
        {
            queue.add(Key::new("", node));
        }
    });
    let pulse = Arc::clone(&this);
    controller.every(PULSE, move || {
        pulse.beats(|beats| beats.pulse(pulse.ctx.clock.monotonic()));
        Ok(Vec::new())
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl NodeLifecycle {
    fn beats<T>(&self, act: impl FnOnce(&mut Heartbeats) -> T) -> T {
        act(&mut self
            .heartbeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.nodes.try_get("", &key.name);
        let Some(node) = found.map_err(doing("get node", key.to_string()))? else {
            // Its pods are the pod garbage collector's.
            self.beats(|beats| beats.forget(&key.name));
            return Ok(Outcome::Done);
        };
        let lease = self.leases.try_get(LEASES, &key.name);
        let lease = lease.map_err(doing("get the lease of", key.to_string()))?;
        let signal = Signal::of(&node, lease.as_deref());
        let (instant, grace) = (
            self.ctx.clock.monotonic(),
            self.ctx.config.node_monitor_grace_period,
        );
        let (silence, anyone_speaks) = self.beats(|beats| {
            let silence = beats.observe(&key.name, signal, instant);
            (silence, beats.anyone_speaks(grace, instant))
        });
        let now = self.ctx.clock.now();
        let plan = plan::plan(&node, silence, anyone_speaks, grace, now);
        let node = self.write(node, &plan).await?;
        for notice in plan.notices {
            self.recorder.event(node.as_ref(), notice);
        }
        let taints = plan
            .taints
            .iter()
            .filter(|taint| taint.effect == "NoExecute");
        let taints: Vec<&Taint> = taints.collect();
        let next_eviction = if taints.is_empty() && plan.is_ready {
            None
        } else {
            self.care_for_pods(&key.name, &taints, plan.is_ready)
                .await?
        };
        let waits = [plan.look_again, next_eviction];
        Ok(Outcome::after(waits.into_iter().flatten().min()))
    }

    /// Writes what the plan says of the node itself.
    async fn write(&self, node: Arc<Node>, plan: &Plan) -> Result<Arc<Node>, Error> {
        let mut node = node;
        let status = node.status.as_ref();
        if status.and_then(|status| status.conditions.as_ref()) != Some(&plan.conditions)
            && !plan.conditions.is_empty()
        {
            let mut updated = node.as_ref().clone();
            updated.status.get_or_insert_default().conditions = Some(plan.conditions.clone());
            let written = self.nodes.update_status("", &updated).await;
            node = written.map_err(doing("write the status of", path(&node.metadata)))?;
        }
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
        if taints.unwrap_or_default() != plan.taints.as_slice() {
            let mut updated = node.as_ref().clone();
            let taints = Some(plan.taints.clone()).filter(|taints| !taints.is_empty());
            updated.spec.get_or_insert_default().taints = taints;
            let written = self.nodes.update("", &updated).await;
            node = written.map_err(doing("taint", path(&node.metadata)))?;
        }
        Ok(node)
    }

    /// Marks the node's pods not ready and evicts those that do not tolerate it any longer;
    /// returns when the next one must go.
    async fn care_for_pods(
        &self,
        node: &str,
        taints: &[&Taint],
        is_ready: bool,
    ) -> Result<Option<Duration>, Error> {
        let pods = self
            .pods
            .list(None)
            .map_err(doing("list the pods of", node))?;
        let now = self.ctx.clock.now();
        let mut next: Option<Duration> = None;
        let mut work = Vec::new();
        for pod in pods.iter().filter(|pod| pod::node_name(pod) == Some(node)) {
            let verdict = eviction::verdict(pod, taints, now);
            let evict = match verdict {
                Verdict::Stay => false,
                Verdict::Evict => !pod::is_terminating(pod),
                Verdict::EvictIn(wait) => {
                    next = Some(next.map_or(wait, |other| other.min(wait)));
                    false
                }
            };
            if let Some(marked) = eviction::marked(pod, is_ready, evict, now) {
                work.push(self.disturb(Arc::clone(pod), Some(marked), evict));
            } else if evict {
                work.push(self.disturb(Arc::clone(pod), None, evict));
            }
        }
        // All at once, so that the store commits them together.
        for result in join_all(work).await {
            result?;
        }
        Ok(next)
    }

    async fn disturb(&self, pod: Arc<Pod>, marked: Option<Pod>, evict: bool) -> Result<(), Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if let Some(marked) = marked {
            let written = self.pods.update_status(namespace, &marked).await;
            unless_gone(written).map_err(doing("mark as not ready", path(&pod.metadata)))?;
            if !evict {
                let notice = Notice::warning("NodeNotReady", "Node is not ready");
                self.recorder.event(pod.as_ref(), notice);
            }
        }
        if evict {
            let message = format!("Marking for deletion Pod {}", path(&pod.metadata));
            self.recorder.event(
                pod.as_ref(),
                Notice::normal("TaintManagerEviction", message),
            );
            let options = DeleteOptions {
                uid: pod.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            let deleted = self.pods.delete(namespace, name, &options).await;
            unless_gone(deleted).map_err(doing("evict", path(&pod.metadata)))?;
        }
        Ok(())
    }
}

fn unless_gone<T>(result: Result<T, registry::Error>) -> Result<(), registry::Error> {
    match result {
        Ok(_) | Err(registry::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The conditions that a worker reports, and the taint that each brings: reported `True` → taint.
pub(super) fn pressure_taints() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
        ("DiskPressure", "node.kubernetes.io/disk-pressure"),
        ("PIDPressure", "node.kubernetes.io/pid-pressure"),
        (
            "NetworkUnavailable",
            "node.kubernetes.io/network-unavailable",
        ),
    ])
}
