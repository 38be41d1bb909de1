//! What nodes and pods use at the moment: the last two readings of each worker, and the rates
//! between them.
//!
//! The one thing in this room that is no object: it is kept in memory alone, nobody can write it
//! over the API, and a restart begins anew. It stands here because both the API (`metrics.k8s.io`)
//! and the controllers (autoscaling) read it, and the registry is what they share. Bounded by the
//! nodes and pods that there are: a node's readings go with the node, a pod's with its next absence.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// What one container, or a node, uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Billionths of a core.
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
}

impl Amounts {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_nanos: self.cpu_nanos.saturating_add(other.cpu_nanos),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }
}

/// A node's use, over `window` until `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUsage {
    pub node: String,
    pub at: Timestamp,
    pub window: Duration,
    pub amounts: Amounts,
}

/// A pod's use, container by container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUsage {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub at: Timestamp,
    pub window: Duration,
    pub containers: BTreeMap<String, Amounts>,
}

impl PodUsage {
    /// All containers together.
    pub fn total(&self) -> Amounts {
        let containers = self.containers.values();
        containers.fold(Amounts::default(), |sum, one| sum.plus(*one))
    }
}

/// CPU time and memory of a container at one moment.
#[derive(Clone, Copy, Debug)]
struct Counter {
    cpu_nanos: u64,
    memory_bytes: u64,
}

/// One answer of a worker.
struct Reading {
    /// By the worker's clock.
    at: Timestamp,
    /// By ours.
    arrived: Timestamp,
    /// By pod uid; namespace, name, containers.
    pods: HashMap<String, (String, String, BTreeMap<String, Counter>)>,
}

/// The board; the lock is held for map operations only.
#[derive(Default)]
pub struct Usage(Mutex<HashMap<String, (Option<Reading>, Reading)>>);

impl Usage {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Option<Reading>, Reading)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a worker said (`/stats/summary`) of its own pods; `is_its` knows namespace, name and
    /// uid of those.
    pub fn record(
        &self,
        node: &str,
        summary: &Value,
        now: Timestamp,
        is_its: impl Fn(&str, &str, &str) -> bool,
    ) {
        let mut reading = read(summary, now);
        reading
            .pods
            .retain(|uid, (namespace, name, _)| is_its(namespace, name, uid));
        let mut nodes = self.lock();
        let before = nodes.remove(node).map(|(_, last)| last);
        nodes.insert(node.to_owned(), (before, reading));
    }

    /// Forgets the nodes that are not among these, and those that have been silent since `oldest`.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool, oldest: Timestamp) {
        self.lock()
            .retain(|node, (_, last)| is_there(node) && last.arrived >= oldest);
    }

    /// The use of every node that has been read twice.
    pub fn nodes(&self) -> Vec<NodeUsage> {
        let nodes = self.lock();
        let usage = nodes.iter().filter_map(|(node, (before, last))| {
            let before = before.as_ref()?;
            let pods = pods_between(before, last);
            let total = pods.iter().map(PodUsage::total);
            Some(NodeUsage {
                node: node.clone(),
                at: last.at,
                window: window(before, last),
                amounts: total.fold(Amounts::default(), Amounts::plus),
            })
        });
        let mut usage: Vec<NodeUsage> = usage.collect();
        usage.sort_by(|one, other| one.node.cmp(&other.node));
        usage
    }

    /// The use of the pods of a namespace, or of all.
    pub fn pods(&self, namespace: Option<&str>) -> Vec<PodUsage> {
        let nodes = self.lock();
        let read_twice = nodes.values();
        let read_twice = read_twice.filter_map(|(before, last)| Some((before.as_ref()?, last)));
        let mut usage: Vec<PodUsage> = read_twice
            .flat_map(|(before, last)| pods_between(before, last))
            .filter(|pod| namespace.is_none_or(|namespace| pod.namespace == namespace))
            .collect();
        usage.sort_by(|one, other| {
            (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
        });
        usage
    }
}

fn read(summary: &Value, arrived: Timestamp) -> Reading {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut pods = HashMap::new();
    for pod in summary["pods"].as_array().into_iter().flatten() {
        let mut containers = BTreeMap::new();
        for container in pod["containers"].as_array().into_iter().flatten() {
            let number = |pointer: &str| container.pointer(pointer).and_then(Value::as_u64);
            let counter = Counter {
                cpu_nanos: number("/cpu/usageCoreNanoSeconds").unwrap_or(0),
                memory_bytes: number("/memory/workingSetBytes").unwrap_or(0),
            };
            containers.insert(text(&container["name"]), counter);
        }
        let reference = &pod["podRef"];
        let of = (
            text(&reference["namespace"]),
            text(&reference["name"]),
            containers,
        );
        pods.insert(text(&reference["uid"]), of);
    }
    // The worker's own clock stamps the counters; ours may have waited for the answer.
    let said = summary.pointer("/node/cpu/time").and_then(Value::as_str);
    let at = said.and_then(|said| said.parse().ok()).unwrap_or(arrived);
    Reading { at, arrived, pods }
}

fn window(before: &Reading, last: &Reading) -> Duration {
    Duration::try_from(last.at.duration_since(before.at)).unwrap_or(Duration::ZERO)
}

/// What the pods that are in both readings used in between. A counter that went back belongs to a
/// container that was started anew: its use is what it has counted since.
fn pods_between(before: &Reading, last: &Reading) -> Vec<PodUsage> {
    let window = window(before, last);
    let nanos = window.as_nanos();
    if nanos == 0 {
        return Vec::new();
    }
    let usage = last
        .pods
        .iter()
        .filter_map(|(uid, (namespace, name, containers))| {
            let (_, _, earlier) = before.pods.get(uid)?;
            let rate = |name: &String, counter: &Counter| {
                let start = earlier.get(name).map_or(0, |earlier| earlier.cpu_nanos);
                let used = counter.cpu_nanos.checked_sub(start);
                let used = u128::from(used.unwrap_or(counter.cpu_nanos));
                Amounts {
                    cpu_nanos: (used * 1_000_000_000 / nanos) as u64,
                    memory_bytes: counter.memory_bytes,
                }
            };
            let containers = containers.iter();
            Some(PodUsage {
                namespace: namespace.clone(),
                name: name.clone(),
                uid: uid.clone(),
                at: last.at,
                window,
                containers: containers
                    .map(|(name, counter)| (name.clone(), rate(name, counter)))
                    .collect(),
            })
        });
    usage.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn summary(second: i64, cpu_millis: u64) -> Value {
        json!({"node": {"cpu": {"time": at(second)}}, "pods": [{
            "podRef": {"name": "web", "namespace": "default", "uid": "u"},
            "containers": [{"name": "main", "cpu": {"usageCoreNanoSeconds": cpu_millis * 1_000_000},
                "memory": {"workingSetBytes": 4096}}]}]})
    }

    #[test]
    fn rates_are_what_came_between_two_readings() {
        let board = Usage::default();
        let all = |_: &str, _: &str, _: &str| true;
        board.record("a", &summary(100, 1000), at(100), all);
        assert!(board.pods(None).is_empty() && board.nodes().is_empty());
        board.record("a", &summary(110, 3000), at(111), all);
        let pods = board.pods(Some("default"));
        assert_eq!(
            pods[0].total(),
            Amounts {
                cpu_nanos: 200_000_000,
                memory_bytes: 4096
            }
        );
        assert_eq!(pods[0].window.as_secs(), 10);
        assert_eq!(board.nodes()[0].amounts.cpu_nanos, 200_000_000);
        assert!(board.pods(Some("other")).is_empty());
        // Started anew: what it has used since.
        board.record("a", &summary(120, 500), at(120), all);
        assert_eq!(board.pods(None)[0].total().cpu_nanos, 50_000_000);
        board.retain(|_| true, at(121));
        assert!(board.nodes().is_empty());
    }

    #[test]
    fn a_worker_speaks_of_its_own_pods_and_its_clock_ages_nothing() {
        let board = Usage::default();
        let none = |_: &str, _: &str, _: &str| false;
        board.record("a", &summary(100, 1000), at(100), none);
        board.record("a", &summary(110, 3000), at(110), none);
        assert!(board.pods(None).is_empty());
        // A clock an hour behind.
        let its = |namespace: &str, name: &str, uid: &str| {
            (namespace, name, uid) == ("default", "web", "u")
        };
        board.record("b", &summary(100, 1000), at(3700), its);
        board.record("b", &summary(110, 3000), at(3710), its);
        board.retain(|_| true, at(3700));
        assert_eq!(board.pods(None).len(), 1);
    }
}
