//! Sends pod statuses: the latest of each pod, many pods at once, again until it is there.
//!
//! A pod's status waits in one slot; a newer one takes its place. `Pending` states wait 40 ms for
//! something better, because a WASI pod is often running by then and half of all writes are saved
//! in a burst; all else is sent at once. Sixteen requests are in flight at most. A merge patch names
//! the pod's uid, so that a pod of the same name that came after it is never touched.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::errors::chain;
use crate::ids;
use crate::tasks::TaskGroup;

/// How soon a status must be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Something better will likely follow.
    Soon,
    Now,
}

/// A status on its way.
#[derive(Clone, Debug)]
pub struct Update {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub status: Arc<PodStatus>,
}

const IN_FLIGHT: usize = 16;
const PATIENCE: Duration = Duration::from_millis(40);
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a status is said again that was refused for what may pass: a lost race of writes, rights
/// that are changed.
const REFUSALS: u32 = 10;

/// The slots, and when each is due.
#[derive(Default)]
struct Slots {
    waiting: HashMap<String, Slot>,
    /// In order of time; may name slots that are gone or were brought forward.
    due: VecDeque<(Instant, String)>,
    later: Vec<(Instant, String)>,
    in_flight: HashSet<String>,
}

struct Slot {
    update: Update,
    due: Instant,
    failures: u32,
}

/// The sender's handle; cheap to clone.
#[derive(Clone)]
pub struct StatusSender(Arc<Shared>);

struct Shared {
    slots: Mutex<Slots>,
    changed: Notify,
    clock: Clock,
}

impl StatusSender {
    /// Starts the task that sends.
    pub fn start(client: Client, clock: Clock, tasks: &TaskGroup) -> Self {
        let shared = Arc::new(Shared {
            slots: Mutex::default(),
            changed: Notify::new(),
            clock,
        });
        let sender = Self(Arc::clone(&shared));
        let cancelled = tasks.cancelled();
        tasks.spawn("pod statuses", async move {
            tokio::select! {
                () = run(&shared, client) => {}
                () = cancelled.cancelled() => {}
            }
        });
        sender
    }

    /// Puts a status into the pod's slot.
    pub fn send(&self, update: Update, urgency: Urgency) {
        let now = self.0.clock.monotonic();
        self.0.lock().put(update, urgency, now);
        self.0.changed.notify_one();
    }

    /// Drops what waits for a pod that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().waiting.remove(uid);
    }

    /// Resolves when nothing waits and nothing is in flight.
    pub async fn drained(&self) {
        while !self.0.lock().is_empty() {
            // Bounded by the caller's deadline; it happens once, at the process' end.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn put(&mut self, update: Update, urgency: Urgency, now: Instant) {
        let uid = update.uid.clone();
        let due = match urgency {
            Urgency::Soon => now + PATIENCE,
            Urgency::Now => now,
        };
        let due = self.waiting.get(&uid).map_or(due, |slot| slot.due.min(due));
        let slot = Slot {
            update,
            due,
            failures: 0,
        };
        self.waiting.insert(uid.clone(), slot);
        match urgency {
            Urgency::Soon => self.later.push((due, uid)),
            Urgency::Now => self.due.push_back((due, uid)),
        }
    }

    /// The next update to send, if one is due.
    fn take(&mut self, now: Instant) -> Option<(Update, u32)> {
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        let mut index = 0;
        while index < self.later.len() {
            if self.later[index].0 <= now {
                self.due.push_back(self.later.swap_remove(index));
            } else {
                index += 1;
            }
        }
        let mut busy = Vec::new();
        let mut found = None;
        while let Some((due, uid)) = self.due.pop_front() {
            if self.in_flight.contains(&uid) {
                busy.push((due, uid));
            } else if let Some(slot) = self.waiting.remove(&uid) {
                self.in_flight.insert(uid);
                found = Some((slot.update, slot.failures));
                break;
            }
        }
        self.due.extend(busy);
        found
    }

    fn next_due(&self) -> Option<Instant> {
        self.later.iter().map(|(due, _)| *due).min()
    }

    fn finish(&mut self, uid: &str, retry: Option<(Update, u32)>, now: Instant) {
        self.in_flight.remove(uid);
        let Some((update, failures)) = retry else {
            return;
        };
        // A newer status took the slot meanwhile: it goes out in its own time.
        if self.waiting.contains_key(uid) {
            return;
        }
        let due = now + RETRY.delay_with_jitter(failures, ids::jitter());
        self.later.push((due, uid.to_owned()));
        let slot = Slot {
            update,
            due,
            failures,
        };
        self.waiting.insert(uid.to_owned(), slot);
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}

async fn run(shared: &Shared, client: Client) {
    let mut sending = FuturesUnordered::new();
    loop {
        let now = shared.clock.monotonic();
        loop {
            let next = shared.lock().take(now);
            let Some((update, failures)) = next else {
                break;
            };
            sending.push(send(client.clone(), update, failures));
        }
        let due = shared.lock().next_due();
        let wake = due.unwrap_or_else(|| now + Duration::from_mins(1));
        tokio::select! {
            Some((uid, retry)) = sending.next(), if !sending.is_empty() => {
                shared.lock().finish(&uid, retry, shared.clock.monotonic());
            }
            () = shared.changed.notified() => {}
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}

/// Sends one; what must be tried again comes back.
async fn send(client: Client, update: Update, failures: u32) -> (String, Option<(Update, u32)>) {
    let api: Api<Pod> = Api::namespaced(client, &update.namespace);
    let patch = Patch::Merge(patch(&update));
    let params = PatchParams::default();
    let sending = api.patch_status(&update.name, &params, &patch);
    let uid = update.uid.clone();
    let failures = failures.saturating_add(1);
    match tokio::time::timeout(TIMEOUT, sending).await {
        Ok(Ok(_)) => (uid, None),
        Ok(Err(kube::Error::Api(status)))
            if matches!(status.code, 404 | 422)
                || matches!(status.code, 403 | 409) && failures > REFUSALS =>
        {
            // The pod is gone; a refusal of the content will not change by asking again.
            if status.code != 404 {
                tracing::warn!(
                    pod = update.name,
                    code = status.code,
                    message = status.message,
                    "status refused"
                );
            }
            (uid, None)
        }
        Ok(Err(error)) => {
            tracing::debug!(pod = update.name, error = %chain(&error), "send status");
            (uid, Some((update, failures)))
        }
        Err(_) => (uid, Some((update, failures))),
    }
}

/// `reason` and `message` are cleared when they are no longer said.
fn patch(update: &Update) -> Value {
    let mut patch = json!({"metadata": {"uid": update.uid}, "status": &*update.status});
    if let Some(status) = patch["status"].as_object_mut() {
        for field in ["reason", "message"] {
            status.entry(field).or_insert(Value::Null);
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(uid: &str, phase: &str) -> Update {
        Update {
            namespace: "default".into(),
            name: uid.into(),
            uid: uid.into(),
            status: Arc::new(PodStatus {
                phase: Some(phase.into()),
                ..PodStatus::default()
            }),
        }
    }

    fn taken(slots: &mut Slots, now: Instant) -> Option<String> {
        let (update, _) = slots.take(now)?;
        Some(format!("{} {}", update.uid, update.status.phase.clone()?))
    }

    #[test]
    fn only_the_latest_goes_out_and_patience_is_short() {
        let now = Instant::now();
        let mut slots = Slots::default();
        slots.put(update("a", "Pending"), Urgency::Soon, now);
        assert_eq!(taken(&mut slots, now), None);
        slots.put(update("a", "Running"), Urgency::Now, now);
        assert_eq!(taken(&mut slots, now).unwrap(), "a Running");
        assert_eq!(taken(&mut slots, now + PATIENCE), None, "said already");
        slots.put(update("b", "Pending"), Urgency::Soon, now);
        assert_eq!(taken(&mut slots, now + PATIENCE).unwrap(), "b Pending");
    }

    #[test]
    fn one_request_for_each_pod_and_sixteen_in_all() {
        let now = Instant::now();
        let mut slots = Slots::default();
        slots.put(update("a", "Pending"), Urgency::Now, now);
        assert!(taken(&mut slots, now).is_some());
        slots.put(update("a", "Running"), Urgency::Now, now);
        assert_eq!(taken(&mut slots, now), None);
        slots.finish("a", None, now);
        assert_eq!(taken(&mut slots, now).unwrap(), "a Running");
        for index in 0..40 {
            slots.put(update(&index.to_string(), "Running"), Urgency::Now, now);
        }
        let count = std::iter::from_fn(|| taken(&mut slots, now)).count();
        assert_eq!(count + 1, IN_FLIGHT);
    }

    #[test]
    fn a_failure_is_tried_again_unless_there_is_news() {
        let now = Instant::now();
        let mut slots = Slots::default();
        slots.put(update("a", "Pending"), Urgency::Now, now);
        let (old, failures) = slots.take(now).unwrap();
        slots.finish("a", Some((old.clone(), failures + 1)), now);
        assert_eq!(taken(&mut slots, now), None);
        assert_eq!(
            taken(&mut slots, now + Duration::from_secs(1)).unwrap(),
            "a Pending"
        );
        slots.put(update("a", "Running"), Urgency::Now, now);
        slots.finish("a", Some((old, 1)), now);
        assert_eq!(taken(&mut slots, now).unwrap(), "a Running");
        slots.finish("a", None, now);
        assert!(slots.is_empty());
    }

    #[test]
    fn the_patch_names_the_uid_and_clears_the_reason() {
        let patch = patch(&update("a", "Running"));
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "a"}, "status": {"phase": "Running", "reason": null, "message": null}})
        );
    }
}
