//! Removes pods that nobody else will: on nodes that are gone, finished ones beyond a number,
//! and terminating ones whose node cannot confirm their end.
//!
//! The last are dangerous: a node that is merely unreachable may still run them. They are removed
//! by force only where a second holder of their identity is impossible or was allowed for: the
//! Node object is gone, it carries Kubernetes' `out-of-service` taint, or the operator's
//! configuration says how long to wait (`wasmorch dev` does, whose workers die with their pods).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Config, Context, Error, doing};
use crate::api::annotations::TAINT_UNREACHABLE;
use crate::api::condition::{self, Status};
use crate::api::pod::{self, Phase};
use crate::registry;
use crate::registry::{Api, DeleteOptions};

const COMPONENT: &str = "pod-garbage-collector";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const BATCH: usize = 500;

struct PodGc {
    ctx: Context,
    pods: Api<Pod>,
    nodes: Api<Node>,
    /// Since when a node that pods are bound to has been missing. Monotonic: a jump of the wall
    /// clock must not make a node look long gone.
    missing: Mutex<HashMap<String, Instant>>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(PodGc {
        ctx: ctx.clone(),
        pods: ctx.api(COMPONENT),
        nodes: ctx.api(COMPONENT),
        missing: Mutex::default(),
    });
    let controller = Controller::new("podgc", ctx).single();
    let queue = Arc::clone(&controller.queue);
    sources.nodes.subscribe(move |_, after: Option<&Node>| {
        if after.is_none() {
            queue.add(Key::new("", "pods"));
        }
    });
    controller.every(ctx.config.pod_gc_period, || Ok(vec![Key::new("", "pods")]));
    controller.start(move |_| {
        let this = Arc::clone(&this);
        async move { this.reconcile().await }
    })
}

impl PodGc {
    async fn reconcile(&self) -> Result<Outcome, Error> {
        let pods = self.pods.list(None).map_err(doing("list", "pods"))?;
        let nodes = self.nodes.list(None).map_err(doing("list", "nodes"))?;
        let lost = self.long_missing(&pods, &nodes);
        let plan = plan(&pods, &nodes, &lost, &self.ctx.config, self.ctx.clock.now());
        let removals = plan
            .iter()
            .take(BATCH)
            .map(|(pod, why)| self.remove(pod, *why));
        for result in join_all(removals).await {
            result?;
        }
        let waiting = !self
            .missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        let soon = if plan.len() > BATCH {
            Some(Duration::ZERO)
        } else {
            waiting.then_some(self.ctx.config.pod_gc_quarantine)
        };
        Ok(Outcome::after(soon))
    }

    /// Nodes that are named by pods and have been missing for the whole quarantine.
    fn long_missing(&self, pods: &[Arc<Pod>], nodes: &[Arc<Node>]) -> BTreeSet<String> {
        let known: BTreeSet<&str> = nodes
            .iter()
            .filter_map(|node| node.metadata.name.as_deref())
            .collect();
        let named: BTreeSet<&str> = pods.iter().filter_map(|pod| pod::node_name(pod)).collect();
        let now = self.ctx.clock.monotonic();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.retain(|node, _| named.contains(node.as_str()) && !known.contains(node.as_str()));
        for node in named.difference(&known) {
            missing.entry((*node).to_owned()).or_insert(now);
        }
        let quarantine = self.ctx.config.pod_gc_quarantine;
        let is_long = |since: &Instant| now.saturating_duration_since(*since) >= quarantine;
        let long = missing.iter().filter(|(_, since)| is_long(since));
        long.map(|(node, _)| node.clone()).collect()
    }

    async fn remove(&self, pod: &Pod, why: Why) -> Result<(), Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let what = || format!("{namespace}/{name}");
        if let Some(failed) = marked_failed(pod, why, self.ctx.clock.now()) {
            let written = self.pods.update_status(namespace, &failed).await;
            unless_gone(written).map_err(doing("mark as failed", what()))?;
        }
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        unless_gone(self.pods.delete(namespace, name, &options).await)
            .map_err(doing("remove", what()))
    }
}

fn unless_gone<T>(result: Result<T, registry::Error>) -> Result<(), registry::Error> {
    match result {
        Ok(_) | Err(registry::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why a pod is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NodeGone,
    NodeDead,
    Unscheduled,
    Surplus,
}

fn plan(
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    lost: &BTreeSet<String>,
    config: &Config,
    now: Timestamp,
) -> Vec<(Arc<Pod>, Why)> {
    let by_name: HashMap<&str, &Node> = nodes
        .iter()
        .filter_map(|node| Some((node.metadata.name.as_deref()?, node.as_ref())))
        .collect();
    let mut plan: Vec<(Arc<Pod>, Why)> = Vec::new();
    let mut finished: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods {
        let why = match pod::node_name(pod) {
            None => pod::is_terminating(pod).then_some(Why::Unscheduled),
            Some(node) if lost.contains(node) => Some(Why::NodeGone),
            Some(node) => by_name
                .get(node)
                .filter(|node| is_overdue(pod, node, config, now))
                .map(|_| Why::NodeDead),
        };
        match why {
            Some(why) => plan.push((Arc::clone(pod), why)),
            None if pod::phase(pod).is_terminal() && !pod::is_terminating(pod) => {
                finished.push(pod);
            }
            None => {}
        }
    }
    finished.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let surplus = finished
        .len()
        .saturating_sub(config.terminated_pod_threshold);
    let oldest = finished.into_iter().take(surplus);
    plan.extend(oldest.map(|pod| (Arc::clone(pod), Why::Surplus)));
    plan
}

/// A pod that should have ended, on a node that cannot say whether it has.
fn is_overdue(pod: &Pod, node: &Node, config: &Config, now: Timestamp) -> bool {
    let Some(deadline) = pod.metadata.deletion_timestamp.as_ref() else {
        return false;
    };
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let has = |key: &str| taints.iter().any(|taint| taint.key == key);
    let status = node.status.as_ref();
    let conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    if condition::is_true(conditions, "Ready") {
        return false;
    }
    let over = Duration::try_from(now.duration_since(deadline.0)).unwrap_or(Duration::ZERO);
    has(OUT_OF_SERVICE)
        || has(TAINT_UNREACHABLE)
            && config
                .force_delete_after
                .is_some_and(|patience| over >= patience)
}

/// A pod that never ended by itself has failed, and says so before it goes.
fn marked_failed(pod: &Pod, why: Why, now: Timestamp) -> Option<Pod> {
    let message = match why {
        Why::NodeGone => "PodGC: node no longer exists",
        Why::NodeDead => "PodGC: node is out of service",
        Why::Unscheduled | Why::Surplus => return None,
    };
    if pod::phase(pod).is_terminal() {
        return None;
    }
    let mut failed = pod.clone();
    let status = failed.status.get_or_insert_default();
    status.phase = Some(Phase::Failed.as_str().to_owned());
    let conditions = status.conditions.get_or_insert_default();
    let reason = ("DeletionByPodGC", message);
    condition::set(conditions, "DisruptionTarget", Status::True, reason, now);
    condition::set(conditions, "Ready", Status::False, ("PodFailed", ""), now);
    Some(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, node: Option<&str>, phase: &str, deleted_at: Option<i64>) -> Arc<Pod> {
        let deleted = deleted_at.map(|second| Timestamp::from_second(second).unwrap().to_string());
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "deletionTimestamp": deleted, "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", name.len())},
                "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}}))
            .unwrap(),
        )
    }

    fn node(name: &str, ready: &str, taint: Option<&str>) -> Arc<Node> {
        let taints: Vec<Value> = taint
            .iter()
            .map(|key| json!({"key": key, "effect": "NoExecute"}))
            .collect();
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name}, "spec": {"taints": taints},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
            .unwrap(),
        )
    }

    #[test]
    fn who_is_removed_and_why() {
        let nodes = [
            node("well", "True", None),
            node("silent", "Unknown", Some(TAINT_UNREACHABLE)),
            node("out", "False", Some(OUT_OF_SERVICE)),
            node("back", "True", Some(OUT_OF_SERVICE)),
        ];
        let lost = BTreeSet::from(["lost".to_owned()]);
        let patient = Config {
            terminated_pod_threshold: 1,
            ..Config::default()
        };
        let dev = Config {
            terminated_pod_threshold: 1,
            ..Config::dev()
        };
        let cases = [
            (pod("p", Some("well"), "Running", None), None, None),
            (pod("p", Some("well"), "Running", Some(0)), None, None),
            (
                pod("p", Some("lost"), "Running", None),
                Some(Why::NodeGone),
                Some(Why::NodeGone),
            ),
            (
                pod("p", Some("lost"), "Failed", Some(0)),
                Some(Why::NodeGone),
                Some(Why::NodeGone),
            ),
            (pod("p", Some("new"), "Running", None), None, None),
            (pod("p", Some("silent"), "Running", None), None, None),
            (pod("p", Some("silent"), "Running", Some(95)), None, None),
            (
                pod("p", Some("silent"), "Running", Some(80)),
                None,
                Some(Why::NodeDead),
            ),
            (
                pod("p", Some("out"), "Running", Some(99)),
                Some(Why::NodeDead),
                Some(Why::NodeDead),
            ),
            (pod("p", Some("back"), "Running", Some(0)), None, None),
            (
                pod("p", None, "Pending", Some(0)),
                Some(Why::Unscheduled),
                Some(Why::Unscheduled),
            ),
            (pod("p", None, "Pending", None), None, None),
        ];
        let now = Timestamp::from_second(100).unwrap();
        for (pod, usual, in_dev) in cases {
            for (config, expected) in [(&patient, usual), (&dev, in_dev)] {
                let plan = plan(std::slice::from_ref(&pod), &nodes, &lost, config, now);
                let why = plan.first().map(|(_, why)| *why);
                assert_eq!(why, expected, "{:?} {:?}", pod.spec, pod.metadata);
            }
        }
    }

    #[test]
    fn the_oldest_finished_pods_are_surplus() {
        let config = Config {
            terminated_pod_threshold: 1,
            ..Config::default()
        };
        let pods = [
            pod("aaa", Some("n"), "Succeeded", None),
            pod("a", Some("n"), "Failed", None),
            pod("aa", Some("n"), "Succeeded", None),
            pod("aaaa", Some("n"), "Running", None),
        ];
        let plan = plan(&pods, &[], &BTreeSet::new(), &config, Timestamp::UNIX_EPOCH);
        let names: Vec<_> = plan
            .iter()
            .map(|(pod, _)| pod.metadata.name.as_deref().unwrap())
            .collect();
        assert_eq!(names, ["a", "aa"]);
    }

    #[test]
    fn a_pod_that_ran_is_marked_failed_first() {
        let marked = marked_failed(
            &pod("p", Some("n"), "Running", None),
            Why::NodeGone,
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
        assert_eq!(pod::phase(&marked), Phase::Failed);
        assert!(condition::is_true(
            pod::conditions(&marked),
            "DisruptionTarget"
        ));
        assert!(
            marked_failed(
                &pod("p", Some("n"), "Succeeded", None),
                Why::NodeGone,
                Timestamp::UNIX_EPOCH
            )
            .is_none()
        );
        assert!(
            marked_failed(
                &pod("p", Some("n"), "Failed", None),
                Why::Surplus,
                Timestamp::UNIX_EPOCH
            )
            .is_none()
        );
    }
}
