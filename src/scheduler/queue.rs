//! The pods that wait for a node.
//!
//! ```text
//!  put ──► active ── pop ──► (decided) ──► bound, forgotten
//!            ▲                  ├─ failed ─────────► backoff ──┐
//!            │                  └─ unschedulable ──► unschedulable
//!            ├──────────── time ────────────────── backoff     │ wake: something changed
//!            └──────────────────────────────────────────────────┘   (its own backoff first)
//! ```
//!
//! Higher priority first, then the older pod. Pure: takes `now`, holds no timer.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::pod_info::PodInfo;
use crate::backoff::Backoff;

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// A pod and how often it has been tried in vain.
pub(super) struct Waiting {
    pub(super) info: PodInfo,
    attempts: u32,
}

type Turn = (Reverse<i32>, Option<Timestamp>, u64, String);

enum State {
    Active(Turn),
    Backoff(Instant),
    /// May be tried again from then on, if something changes; and when it was put here.
    Unschedulable {
        ready: Instant,
        since: Instant,
    },
}

struct Entry {
    waiting: Waiting,
    state: State,
}

#[derive(Default)]
pub(super) struct Queue {
    entries: HashMap<String, Entry>,
    active: BTreeSet<Turn>,
    backoff: BTreeSet<(Instant, String)>,
    unschedulable: HashSet<String>,
    arrivals: u64,
}

impl Queue {
    /// Takes a pod in, or its new version. A changed shape may fit where the old one did not.
    pub(super) fn put(&mut self, info: PodInfo) {
        match self.entries.get_mut(&info.uid) {
            Some(entry) if is_same(&entry.waiting.info, &info) => entry.waiting.info = info,
            Some(_) | None => {
                self.remove(&info.uid);
                self.activate(Waiting { info, attempts: 0 });
            }
        }
    }

    pub(super) fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.unlist(uid, &entry.state);
        }
    }

    /// Forgets every pod that is not among `pods`.
    pub(super) fn retain(&mut self, pods: &[Arc<Pod>]) {
        let known: HashSet<&str> = pods
            .iter()
            .filter_map(|pod| pod.metadata.uid.as_deref())
            .collect();
        let gone = self
            .entries
            .keys()
            .filter(|uid| !known.contains(uid.as_str()));
        let gone: Vec<String> = gone.cloned().collect();
        for uid in &gone {
            self.remove(uid);
        }
    }

    /// The next pods to decide about; they are no longer in the queue.
    pub(super) fn pop(&mut self, most: usize, now: Instant) -> Vec<Waiting> {
        while let Some((at, _)) = self.backoff.first()
            && *at <= now
            && let Some((_, uid)) = self.backoff.pop_first()
        {
            self.reactivate(&uid);
        }
        let mut popped = Vec::new();
        while popped.len() < most
            && let Some((.., uid)) = self.active.pop_first()
        {
            popped.extend(self.entries.remove(&uid).map(|entry| entry.waiting));
        }
        popped
    }

    /// There is no node for the pod as things are.
    pub(super) fn unschedulable(&mut self, mut waiting: Waiting, now: Instant) {
        waiting.attempts = waiting.attempts.saturating_add(1);
        let state = State::Unschedulable {
            ready: now + RETRY.delay(waiting.attempts),
            since: now,
        };
        let uid = waiting.info.uid.clone();
        self.unschedulable.insert(uid.clone());
        self.entries.insert(uid, Entry { waiting, state });
    }

    /// The pod has a node but the binding failed; it is tried again without any change.
    pub(super) fn failed(&mut self, mut waiting: Waiting, now: Instant) {
        waiting.attempts = waiting.attempts.saturating_add(1);
        let at = now + RETRY.delay(waiting.attempts);
        let uid = waiting.info.uid.clone();
        self.backoff.insert((at, uid.clone()));
        let state = State::Backoff(at);
        self.entries.insert(uid, Entry { waiting, state });
    }

    /// Something changed that may help: a node came or grew, a pod went.
    pub(super) fn wake(&mut self, now: Instant) {
        self.wake_those(now, |_| true);
    }

    /// A pod has found its place, which helps at most those that ask for neighbours.
    pub(super) fn wake_sociable(&mut self, now: Instant) {
        self.wake_those(now, |info| !info.social.wants.is_empty());
    }

    fn wake_those(&mut self, now: Instant, is_meant: fn(&PodInfo) -> bool) {
        for uid in std::mem::take(&mut self.unschedulable) {
            let Some(entry) = self.entries.get_mut(&uid) else {
                continue;
            };
            if !is_meant(&entry.waiting.info) {
                self.unschedulable.insert(uid);
                continue;
            }
            if let State::Unschedulable { ready, .. } = entry.state {
                if ready > now {
                    entry.state = State::Backoff(ready);
                    self.backoff.insert((ready, uid));
                } else {
                    self.reactivate(&uid);
                }
            }
        }
    }

    /// Tries again what has been unschedulable for long, in case a change was not understood.
    pub(super) fn flush(&mut self, now: Instant, long: Duration) {
        let is_old = |uid: &&String| match self.entries.get(*uid).map(|entry| &entry.state) {
            Some(State::Unschedulable { since, .. }) => {
                now.saturating_duration_since(*since) >= long
            }
            Some(State::Active(_) | State::Backoff(_)) | None => false,
        };
        let old: Vec<String> = self.unschedulable.iter().filter(is_old).cloned().collect();
        for uid in old {
            self.unschedulable.remove(&uid);
            self.reactivate(&uid);
        }
    }

    /// How long until a pod's backoff ends.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        self.backoff
            .first()
            .map(|(at, _)| at.saturating_duration_since(now))
    }

    fn reactivate(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.activate(entry.waiting);
        }
    }

    fn activate(&mut self, waiting: Waiting) {
        self.arrivals += 1;
        let info = &waiting.info;
        let turn: Turn = (
            Reverse(info.priority),
            info.created,
            self.arrivals,
            info.uid.clone(),
        );
        self.active.insert(turn.clone());
        let state = State::Active(turn);
        self.entries
            .insert(info.uid.clone(), Entry { waiting, state });
    }

    fn unlist(&mut self, uid: &str, state: &State) {
        match state {
            State::Active(turn) => {
                self.active.remove(turn);
            }
            State::Backoff(at) => {
                self.backoff.remove(&(*at, uid.to_owned()));
            }
            State::Unschedulable { .. } => {
                self.unschedulable.remove(uid);
            }
        }
    }
}

fn is_same(old: &PodInfo, new: &PodInfo) -> bool {
    old.shape == new.shape && old.social == new.social
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn info(name: &str, priority: i32, created: u32) -> PodInfo {
        let pod = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")},
            "spec": {"priority": priority, "containers": []}});
        PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    fn names(waiting: &[Waiting]) -> Vec<&str> {
        waiting
            .iter()
            .map(|waiting| waiting.info.name.as_str())
            .collect()
    }

    #[test]
    fn important_pods_first_then_old_ones() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority, created) in [("young", 0, 9), ("old", 0, 1), ("vip", 7, 5)] {
            queue.put(info(name, priority, created));
        }
        queue.put(info("old", 0, 1));
        assert_eq!(names(&queue.pop(2, now)), ["vip", "old"]);
        queue.remove("young");
        assert!(queue.pop(2, now).is_empty());
    }

    #[test]
    fn an_unschedulable_pod_waits_for_a_change_and_for_its_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        queue.put(info("p", 0, 0));
        let waiting = queue.pop(1, now).remove(0);
        queue.unschedulable(waiting, now);
        assert!(
            queue.pop(1, at(5000)).is_empty(),
            "time alone does not help"
        );
        queue.wake(at(50));
        assert_eq!(queue.due(at(50)), Some(Duration::from_millis(50)));
        assert!(queue.pop(1, at(50)).is_empty());
        let waiting = queue.pop(1, at(100)).remove(0);
        queue.unschedulable(waiting, at(100));
        queue.wake(at(400));
        let waiting = queue.pop(1, at(400)).remove(0);
        queue.unschedulable(waiting, at(400));
        queue.flush(at(60_000), Duration::from_mins(1));
        assert!(queue.pop(1, at(60_000)).is_empty());
        queue.flush(at(60_400), Duration::from_mins(1));
        assert_eq!(names(&queue.pop(1, at(60_400))), ["p"]);
    }

    #[test]
    fn a_failed_binding_is_tried_again_by_itself() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(info("p", 0, 0));
        let waiting = queue.pop(1, now).remove(0);
        queue.failed(waiting, now);
        assert!(queue.pop(1, now).is_empty());
        assert_eq!(
            names(&queue.pop(1, now + Duration::from_millis(100))),
            ["p"]
        );
    }
}
