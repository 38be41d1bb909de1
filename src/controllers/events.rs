//! Events: what a controller wants to tell the user, without ever slowing or growing the cluster.
//!
//! Telling is not acting: [`Recorder::event`] never waits and never fails. What it is told goes
//! through a bounded queue to one task that merges repetitions (`correlator.rs`) and writes the
//! rest in small batches, so that a crash storm or a rollout of thousands takes neither the
//! writer's time nor the store's room. What does not fit is dropped and counted; events are hints,
//! the state is in the objects.

mod correlator;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::errors;
use crate::registry::{Api, ApiKind, Caller, Patch, Registry};
use crate::tasks::TaskGroup;

use correlator::{Correlator, Decision, Identity};

/// Waiting events; more are dropped.
const QUEUE: usize = 2048;
/// Written together, then a pause: at most 1,280 a second.
const BATCH: usize = 64;
const PAUSE: Duration = Duration::from_millis(50);

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing to tell; plans return these, shells record them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub severity: Severity,
    pub reason: &'static str,
    pub message: String,
}

impl Notice {
    /// All is well.
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Normal,
            reason,
            message: message.into(),
        }
    }

    /// Somebody should look.
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            reason,
            message: message.into(),
        }
    }
}

/// Tells in the name of one component; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<(ObjectReference, Notice)>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the task that writes.
    pub fn start(registry: &Registry, component: &'static str, tasks: &TaskGroup) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            api: registry.api(Caller::system(component)),
            clock: registry.clock().clone(),
            component,
            correlator: Correlator::default(),
        };
        let cancelled = tasks.cancelled();
        tasks.spawn_contained("events", async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = writer.run(waiting) => {}
            }
        });
        Self { queue, dropped }
    }

    /// Tells `notice` about `object`.
    pub fn event<K: ApiKind>(&self, object: &K, notice: Notice) {
        if self.queue.try_send((reference(object), notice)).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "events come faster than they can be written");
            }
        }
    }
}

/// What an event or an endpoint says about the object it is about.
pub fn reference<K: ApiKind>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta
            .namespace
            .clone()
            .filter(|namespace| !namespace.is_empty()),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Writer {
    api: Api<Event>,
    clock: Clock,
    component: &'static str,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<(ObjectReference, Notice)>) {
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            let now = self.clock.now();
            let decided: Vec<_> = batch
                .drain(..)
                .map(|(object, notice)| {
                    let identity = identity(&object, &notice);
                    let decision = self.correlator.decide(&identity, now);
                    (object, notice, decision)
                })
                .collect();
            let writes = decided
                .into_iter()
                .map(|(object, notice, decision)| self.write(object, notice, decision, now));
            join_all(writes).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn write(
        &self,
        object: ObjectReference,
        notice: Notice,
        decision: Decision,
        now: Timestamp,
    ) {
        let namespace = namespace_of(&object).to_owned();
        let result = match decision {
            Decision::Drop => return,
            Decision::Create { name } => {
                let event = self.event(&namespace, name, object, notice, now);
                self.api.create(&namespace, &event).await
            }
            Decision::Repeat { name, count } => {
                let patch = json!({"count": count, "lastTimestamp": Time(now)});
                self.api
                    .patch(&namespace, &name, None, Patch::Merge(patch))
                    .await
            }
        };
        if let Err(error) = result {
            tracing::debug!(component = self.component, error = %errors::chain(&error), "event not written");
        }
    }

    fn event(
        &self,
        namespace: &str,
        name: String,
        object: ObjectReference,
        notice: Notice,
        now: Timestamp,
    ) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: object,
            type_: Some(notice.severity.as_str().to_owned()),
            reason: Some(notice.reason.to_owned()),
            message: Some(notice.message),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            ..Event::default()
        }
    }
}

/// Events about cluster-scoped objects live in `default`, as in Kubernetes.
fn namespace_of(object: &ObjectReference) -> &str {
    object.namespace.as_deref().unwrap_or("default")
}

fn identity(object: &ObjectReference, notice: &Notice) -> Identity {
    Identity {
        object: object.uid.clone().unwrap_or_default(),
        name: object.name.clone().unwrap_or_default(),
        severity: notice.severity,
        reason: notice.reason,
        message: notice.message.clone(),
    }
}
