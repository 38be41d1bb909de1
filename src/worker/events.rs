//! Events about pods: what happened, for people, deduplicated and bounded.
//!
//! An event that repeats raises the count of the one before. The queue holds a thousand; at most
//! fifty a second are written after a burst of a hundred (kubelet's own limits), so that a storm of
//! pods is not a storm of writes. When the queue is full, news that nothing is wrong are dropped
//! first. Losing an event loses nothing else: status is sent another way.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;

use crate::api::event_name::EventNames;
use crate::clock::Clock;
use crate::errors::chain;
use crate::tasks::TaskGroup;

const QUEUE: usize = 1000;
const PER_SECOND: f64 = 50.0;
const BURST: f64 = 100.0;
/// How long a repetition counts as one.
const SAME: Duration = Duration::from_mins(10);
const KNOWN: usize = 4096;

/// What happened to what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub is_warning: bool,
    pub reason: &'static str,
    pub message: String,
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// `spec.containers{name}`, or nothing.
    pub field_path: Option<String>,
}

/// Takes records; cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    queue: Mutex<VecDeque<Record>>,
    added: Notify,
}

impl Recorder {
    /// Starts the task that writes events.
    pub fn start(client: Client, node: String, clock: Clock, tasks: &TaskGroup) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            added: Notify::new(),
        });
        let mut writer = Writer {
            client,
            node,
            known: HashMap::new(),
            names: EventNames::default(),
            allowance: BURST,
            allowance_at: clock.monotonic(),
            clock,
        };
        let cancelled = tasks.cancelled();
        let queue = Arc::clone(&shared);
        tasks.spawn("events", async move {
            let writing = async {
                loop {
                    let next = queue.pop();
                    match next {
                        Some(record) => writer.write(record).await,
                        None => queue.added.notified().await,
                    }
                }
            };
            tokio::select! {
                () = writing => {}
                () = cancelled.cancelled() => {}
            }
        });
        Self(shared)
    }

    /// Records; never waits.
    pub fn record(&self, record: Record) {
        self.0.push(record);
        self.0.added.notify_one();
    }
}

impl Shared {
    fn push(&self, record: Record) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= QUEUE {
            match queue.iter().position(|queued| !queued.is_warning) {
                Some(at) => drop(queue.remove(at)),
                None if record.is_warning => drop(queue.pop_front()),
                None => return,
            }
        }
        queue.push_back(record);
    }

    fn pop(&self) -> Option<Record> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }
}

struct Writer {
    client: Client,
    node: String,
    clock: Clock,
    known: HashMap<Record, Known>,
    names: EventNames,
    allowance: f64,
    allowance_at: Instant,
}

/// An event that was written.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    count: i32,
    at: Instant,
}

impl Writer {
    async fn write(&mut self, record: Record) {
        self.wait_for_allowance().await;
        let now = self.clock.monotonic();
        if self.known.len() >= KNOWN {
            self.known
                .retain(|_, known| now.saturating_duration_since(known.at) < SAME);
        }
        let known = self.known.get(&record).cloned();
        let recent = known.filter(|it| now.saturating_duration_since(it.at) < SAME);
        let written = match recent {
            Some(known) => self.count(&record, known).await,
            None => self.create(&record).await,
        };
        match written {
            Ok(known) if self.known.len() < KNOWN => {
                self.known.insert(record, Known { at: now, ..known });
            }
            Ok(_) => {}
            Err(error) => {
                self.known.remove(&record);
                tracing::debug!(reason = record.reason, pod = record.pod, error = %chain(&error), "write event");
            }
        }
    }

    async fn wait_for_allowance(&mut self) {
        let now = self.clock.monotonic();
        let elapsed = now
            .saturating_duration_since(self.allowance_at)
            .as_secs_f64();
        self.allowance = (self.allowance + elapsed * PER_SECOND).min(BURST) - 1.0;
        self.allowance_at = now;
        if self.allowance < 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(-self.allowance / PER_SECOND)).await;
        }
    }

    async fn count(&self, record: &Record, known: Known) -> Result<Known, kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &record.namespace);
        let count = known.count.saturating_add(1);
        let patch = Patch::Merge(json!({"count": count, "lastTimestamp": self.clock.now()}));
        api.patch(&known.name, &PatchParams::default(), &patch)
            .await?;
        Ok(Known { count, ..known })
    }

    async fn create(&mut self, record: &Record) -> Result<Known, kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &record.namespace);
        let now = self.clock.now();
        let name = self.names.next(&record.pod, now);
        let event = event(record, &name, &self.node, now);
        api.create(&PostParams::default(), &event).await?;
        Ok(Known {
            name,
            count: 1,
            at: self.clock.monotonic(),
        })
    }
}

fn event(record: &Record, name: &str, node: &str, now: Timestamp) -> Event {
    let kind = if record.is_warning {
        "Warning"
    } else {
        "Normal"
    };
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(record.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(record.pod.clone()),
            namespace: Some(record.namespace.clone()),
            uid: Some(record.uid.clone()),
            field_path: record.field_path.clone(),
            resource_version: None,
        },
        type_: Some(kind.to_owned()),
        reason: Some(record.reason.to_owned()),
        message: Some(record.message.clone()),
        source: Some(EventSource {
            component: Some("kubelet".to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(is_warning: bool, message: usize) -> Record {
        Record {
            is_warning,
            reason: "Pulled",
            message: message.to_string(),
            namespace: "default".into(),
            pod: "a".into(),
            uid: "u".into(),
            field_path: None,
        }
    }

    #[test]
    fn a_full_queue_keeps_warnings() {
        let shared = Shared {
            queue: Mutex::default(),
            added: Notify::new(),
        };
        shared.push(record(true, 0));
        for index in 1..2 * QUEUE {
            shared.push(record(false, index));
        }
        assert_eq!(shared.queue.lock().unwrap().len(), QUEUE);
        assert_eq!(shared.pop(), Some(record(true, 0)));
        for index in 0..2 * QUEUE {
            shared.push(record(true, index));
        }
        shared.push(record(false, 1));
        let queue = shared.queue.lock().unwrap();
        assert_eq!(queue.len(), QUEUE);
        assert!(queue.iter().all(|record| record.is_warning));
    }

    #[test]
    fn events_name_their_pod_and_source() {
        let event = event(&record(true, 1), "a.x", "dev-1", Timestamp::UNIX_EPOCH);
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(event.involved_object.uid.as_deref(), Some("u"));
        assert_eq!(event.source.unwrap().host.as_deref(), Some("dev-1"));
    }
}
