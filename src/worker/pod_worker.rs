//! The driver of one pod: performs what its lifecycle machine asks for and feeds it what happened.
//!
//! One task per pod uid. Everything that takes time (pulling, probing, waiting for an exit, closing)
//! is a future in the task's own set, so nothing has to be cancelled elsewhere when the pod goes,
//! and an idle pod is one sleeping task. What can be done at once is done at once: a pod whose
//! module is loaded and that needs no objects of the API is running a few microseconds after it
//! was seen.

mod begin;
mod perform;
mod report;
mod start;
mod volumes;
mod watch;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use tokio::sync::watch as channel;

use self::begin::begin;
use self::start::Starting;
use self::volumes::{Sandbox, changed, full, is_described_otherwise, limited};
use super::checkpoint::Checkpoint;
use super::claims::Claims;
use super::context::{Context, PodView};
use super::images::Image;
use super::lifecycle::{Event, Lifecycle, Now, PullFailure, Saved, Stage};
use super::object_changes::Following;
use super::objects::{self, Objects};
use super::plan;
use super::volumes as volume_specs;
use crate::runtime::spec::ProjectedFile;
use crate::runtime::{self, ContainerHandle, PodSandbox};

/// What guests get when the worker process ends.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// What the API wants of this pod now.
#[derive(Clone)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The object is gone, or another pod has its name.
    pub is_removed: bool,
}

/// A finished piece of work.
enum Done {
    Event(Event),
    Prepared(Result<(Objects, Claims), String>),
    Pulled {
        container: usize,
        result: Result<Image, PullFailure>,
    },
    EnvReady {
        container: usize,
        incarnation: u32,
        objects: Result<Objects, objects::Error>,
    },
    Made(Result<Sandbox, (&'static str, String)>),
    Started {
        starting: Starting,
        result: Result<ContainerHandle, runtime::Error>,
    },
    Refreshed(Result<Objects, volumes::FetchError>),
    Finalized,
    /// What the API says of the pod has to be put right.
    Contradicted,
}

/// See the module.
pub struct PodWorker {
    context: Arc<Context>,
    pod: Arc<Pod>,
    id: PodId,
    lifecycle: Lifecycle,
    /// Events to step through before anything else.
    queue: VecDeque<Event>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    sandbox: Option<Arc<PodSandbox>>,
    ip: Option<IpAddr>,
    images: Vec<Option<Image>>,
    handles: Vec<Option<ContainerHandle>>,
    /// The files that volumes hold now.
    files: Vec<(String, Vec<ProjectedFile>)>,
    /// The objects that the files come from.
    following: Option<Following>,
    is_refreshing: bool,
    /// Something changed while it was being compared.
    is_stale: bool,
    /// When it was last said that the pod's storage is full.
    storage_told: Option<Instant>,
    /// When it was last said that a limit refused something.
    limit_told: Option<Instant>,
    /// The shortest grace period that a deletion of the pod gave it so far.
    granted: Option<Duration>,
    is_forgotten: bool,
    is_leaving: bool,
    is_finalizing: bool,
    is_contradicted: bool,
    said: Option<Arc<PodStatus>>,
    saved: Saved,
}

/// The pod's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodId {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodId {
    pub fn of(pod: &Pod) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self {
            namespace: text(&pod.metadata.namespace),
            name: text(&pod.metadata.name),
            uid: text(&pod.metadata.uid),
        }
    }
}

impl PodWorker {
    /// A pod seen for the first time by this process; `saved` is its past, if it has one.
    pub fn new(context: Arc<Context>, pod: Arc<Pod>, saved: Option<&Saved>) -> Self {
        let now = now(&context);
        let id = PodId::of(&pod);
        let (lifecycle, effects) = begin(&pod, &context, saved, now);
        let count = lifecycle.plan().containers.len();
        let mut worker = Self {
            pod,
            id,
            lifecycle,
            queue: VecDeque::new(),
            work: FuturesUnordered::new(),
            sandbox: None,
            ip: None,
            images: vec![None; count],
            handles: vec![None; count],
            files: Vec::new(),
            following: None,
            is_refreshing: false,
            is_stale: false,
            storage_told: None,
            limit_told: None,
            granted: None,
            is_forgotten: false,
            is_leaving: false,
            is_finalizing: false,
            is_contradicted: false,
            said: None,
            saved: Saved::default(),
            context,
        };
        // A pod that is being deleted is not started again first.
        if worker.pod.metadata.deletion_timestamp.is_some() {
            let grace = Duration::ZERO;
            worker.granted = Some(grace);
            worker.queue.push_back(Event::Delete { grace });
        } else {
            worker.perform_all(effects);
        }
        // A pod that ended before this process began has nothing new to say.
        let is_old = matches!(worker.lifecycle.stage(), Stage::Finished);
        if is_old && crate::api::pod::phase(&worker.pod).is_terminal() {
            worker.said = Some(Arc::new(worker.status()));
        }
        worker.publish_view();
        worker
    }

    /// Runs until nothing of the pod is left.
    pub async fn run(mut self, mut desired: channel::Receiver<Desired>) {
        let mut refresh = self.context.refresh.clone();
        loop {
            self.settle();
            if matches!(self.lifecycle.stage(), Stage::Gone) && !self.is_finalizing {
                break;
            }
            let wake = self.lifecycle.next_wake();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(done) = self.work.next(), if !self.work.is_empty() => {
                    self.say_last_words();
                    self.finish(done);
                }
                changed = desired.changed() => {
                    if changed.is_err() {
                        self.save();
                        self.stop_with_the_process().await;
                        break;
                    }
                    let latest = desired.borrow_and_update().clone();
                    self.observe(latest);
                }
                () = sleep => self.queue.push_back(Event::Tick),
                Ok(()) = refresh.changed(), if self.has_files() => self.refresh(),
                () = changed(&mut self.following) => self.refresh(),
                message = full(self.sandbox.as_ref(), self.storage_told) => self.say_full(message),
                message = limited(self.sandbox.as_ref(), self.limit_told) => self.say_limited(message),
            }
        }
        self.leave();
    }

    /// The worker process is ending: the pod is not ready any more, routers get the time to see
    /// that, then the guests get a moment to end in good order. The object stays, bound to this
    /// node; the next start of the worker goes on from the checkpoint.
    async fn stop_with_the_process(&mut self) {
        let Some(sandbox) = self.sandbox.take() else {
            return;
        };
        self.is_leaving = true;
        self.say();
        tokio::time::sleep(self.context.timing.drain_delay).await;
        let handles: Vec<&ContainerHandle> = self.handles.iter().flatten().collect();
        for handle in &handles {
            handle.stop();
        }
        let exits = futures::future::join_all(handles.iter().map(|handle| handle.wait()));
        // Whoever has not stopped by then is closed with the sandbox.
        let _ = tokio::time::timeout(LAST_MOMENT, exits).await;
        sandbox.close().await;
    }

    /// Steps through what happened, then says and saves what changed.
    fn settle(&mut self) {
        while let Some(event) = self.queue.pop_front() {
            let effects = self.lifecycle.step(event, now(&self.context));
            self.perform_all(effects);
        }
        if matches!(self.lifecycle.stage(), Stage::Finished) {
            // The status goes on telling it, as in Kubernetes.
            self.context.addresses.release(&self.id.uid);
        }
        self.say();
        self.save();
    }

    /// Takes the API's latest word.
    fn observe(&mut self, desired: Desired) {
        if desired.is_removed {
            self.queue.push_back(Event::Removed);
            return;
        }
        let before = std::mem::replace(&mut self.pod, desired.pod);
        self.publish_view();
        self.extend();
        if self.has_files() && is_described_otherwise(&before, &self.pod) {
            self.refresh();
        }
        self.contradict();
        let meta = &self.pod.metadata;
        let Some(deletion) = &meta.deletion_timestamp else {
            return;
        };
        // The timestamp is when the grace period ends; only a shorter period is news.
        let left = deletion.0.duration_since(self.context.clock.now());
        let left = Duration::try_from(left).unwrap_or_default();
        let grace = meta.deletion_grace_period_seconds;
        let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
        let whole = grace.map_or(self.lifecycle.plan().grace, Duration::from_secs);
        if self.granted.is_none_or(|granted| whole < granted) {
            self.granted = Some(whole);
            let grace = left.min(whole);
            self.queue.push_back(Event::Delete { grace });
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Event(event) => self.queue.push_back(event),
            Done::Prepared(found) => self.create_sandbox(found),
            Done::Pulled { container, result } => self.pulled(container, result),
            Done::EnvReady {
                container,
                incarnation,
                objects,
            } => self.start_with(container, incarnation, objects),
            Done::Made(made) => self.sandbox_made(made),
            Done::Started { starting, result } => self.was_started(starting, result),
            Done::Refreshed(objects) => self.refreshed(objects),
            Done::Finalized => self.is_finalizing = false,
            Done::Contradicted => {
                self.is_contradicted = false;
                self.said = None;
            }
        }
    }

    fn save(&mut self) {
        let saved = self.lifecycle.save();
        if saved == self.saved || self.is_forgotten {
            return;
        }
        self.saved = saved;
        self.context.checkpoints.save(Checkpoint {
            uid: self.id.uid.clone(),
            namespace: self.id.namespace.clone(),
            name: self.id.name.clone(),
            ip: self.ip,
            saved: self.saved.clone(),
        });
    }

    fn publish_view(&self) {
        let view = PodView {
            pod: Arc::clone(&self.pod),
            status: self.said.clone(),
            sandbox: self.sandbox.clone(),
        };
        self.context.directory.put(&self.id.uid, view);
    }

    /// The task ends: because the pod is gone, or because the process is.
    fn leave(&self) {
        self.context.directory.remove(&self.id.uid);
        if !self.is_forgotten {
            return;
        }
        let context = &self.context;
        context.statuses.forget(&self.id.uid);
        context.checkpoints.remove(&self.id.uid);
        context.addresses.release(&self.id.uid);
        context.taps.remove_pod(&self.id.uid);
        context.tokens.forget(&self.id.uid);
        let PodId {
            namespace,
            name,
            uid,
        } = &self.id;
        context.logs.remove_pod(namespace, name, uid);
    }

    fn container(&self, index: usize) -> Option<Cow<'_, Container>> {
        let spec = self.pod.spec.as_ref()?;
        let (container, _) = plan::containers(spec).nth(index)?;
        Some(container)
    }
}

fn now(context: &Context) -> Now {
    Now {
        wall: context.clock.now(),
        instant: context.clock.monotonic(),
    }
}
