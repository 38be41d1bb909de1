//! The reconcile runtime: what turns a function of a key into a controller.
//!
//! - **Queue** (`queue.rs`): a key waits once however often it is triggered, and is never worked on
//!   by two workers at a time; a trigger during the work means one more look afterwards.
//! - **Backoff**: an error or a panic puts that key, and no other, on an exponential curve.
//! - **Rest**: the time a reconcile spends *computing* is metered, and its key then rests for a
//!   multiple of it. A ReplicaSet of thousands gets hundreds of triggers a second; looking at it
//!   for each would burn the machine that its pods need. What takes microseconds does not rest.
//! - **Sources** (`source.rs`): watches for latency; a periodic listing of the root kind for
//!   correctness. Both lead to the same code.

mod meter;
mod queue;
mod source;

pub(crate) use queue::Queue;
pub(crate) use source::{Source, Sources};

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Context, Error};
use crate::errors;
use crate::registry::{Api, ApiKind};

/// What a reconcile is about. `kind` is empty where a controller has one root kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    /// The key of an object of the root kind.
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            kind: "",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of the object that carries `meta`.
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }

    /// The key of `meta`'s controller, if that is of `kind`.
    pub(crate) fn of_controller(meta: &ObjectMeta, kind: &str) -> Option<Self> {
        let owner = crate::api::owner::controller_of(meta)?;
        (owner.kind == kind)
            .then(|| Self::new(meta.namespace.as_deref().unwrap_or_default(), &owner.name))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [self.kind, &self.namespace] {
            if !part.is_empty() {
                write!(f, "{part}/")?;
            }
        }
        f.write_str(&self.name)
    }
}

/// What a reconcile that did not fail asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to do until something changes.
    Done,
    /// Time alone will change the answer.
    RequeueAfter(Duration),
}

impl Outcome {
    pub(crate) fn after(delay: Option<Duration>) -> Self {
        delay.map_or(Self::Done, Self::RequeueAfter)
    }
}

/// What a controller has done since it started.
#[derive(Debug, Default)]
pub struct Counters {
    reconciles: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    busy_micros: AtomicU64,
}

impl Counters {
    /// How many reconciles ended, well or not.
    pub fn reconciles(&self) -> u64 {
        self.reconciles.load(Ordering::Relaxed)
    }
    /// How many ended with an error.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
    /// How many ended with a panic.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
    /// How long they computed, waiting not counted.
    pub fn busy(&self) -> Duration {
        Duration::from_micros(self.busy_micros.load(Ordering::Relaxed))
    }
}

type Reconcile = Arc<dyn Fn(Key) -> BoxFuture<'static, Result<Outcome, Error>> + Send + Sync>;

/// A controller that is being put together; [`Controller::start`] lets it run.
pub(crate) struct Controller {
    name: &'static str,
    ctx: Context,
    pub(crate) queue: Arc<Queue>,
    counters: Arc<Counters>,
    rest_factor: u32,
    workers: usize,
}

impl Controller {
    pub(crate) fn new(name: &'static str, ctx: &Context) -> Self {
        Self {
            name,
            ctx: ctx.clone(),
            queue: Arc::new(Queue::new(ctx.clock.clone())),
            counters: Arc::default(),
            rest_factor: 3,
            workers: ctx.config.workers.max(1),
        }
    }

    /// One reconcile at a time, for duties whose keys share something.
    pub(crate) fn single(mut self) -> Self {
        self.workers = 1;
        self
    }

    /// A key rests for this multiple of the time its reconcile computed.
    pub(crate) fn resting(mut self, factor: u32) -> Self {
        self.rest_factor = factor;
        self
    }

    /// Changes of `K` wake the keys that `map` names, for the object before and after the change.
    pub(crate) fn on<K: ApiKind>(
        &self,
        source: &mut Source<K>,
        map: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
    ) {
        let queue = Arc::clone(&self.queue);
        source.subscribe(move |before, after| {
            for key in before.into_iter().chain(after).flat_map(&map) {
                queue.add(key);
            }
        });
    }

    /// Changes of the root kind wake the object itself; all of them are looked at periodically.
    pub(crate) fn root<K: ApiKind>(&self, source: &mut Source<K>, api: Api<K>) {
        self.on(source, |object: &K| vec![Key::of(object.metadata())]);
        self.every(self.ctx.config.resync, move || {
            let objects = api.list(None).map_err(super::doing("list", K::KIND))?;
            Ok(objects
                .iter()
                .map(|object| Key::of(object.metadata()))
                .collect())
        });
    }

    /// Looks at the keys that `list` gives, now and every `period`.
    pub(crate) fn every(
        &self,
        period: Duration,
        list: impl Fn() -> Result<Vec<Key>, Error> + Send + Sync + 'static,
    ) {
        let queue = Arc::clone(&self.queue);
        let cancelled = self.ctx.tasks.cancelled();
        let name = self.name;
        self.ctx.tasks.spawn(name, async move {
            loop {
                match list() {
                    Ok(keys) => keys.into_iter().for_each(|key| queue.add(key)),
                    Err(error) => {
                        tracing::warn!(controller = name, error = %errors::chain(&error), "resync");
                    }
                }
                tokio::select! {
                    () = cancelled.cancelled() => return,
                    () = tokio::time::sleep(period) => {}
                }
            }
        });
    }

    /// Lets the workers run.
    pub(crate) fn start<F, Fut>(self, reconcile: F) -> (&'static str, Arc<Counters>)
    where
        F: Fn(Key) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        let reconcile: Reconcile = Arc::new(move |key| reconcile(key).boxed());
        for _ in 0..self.workers {
            let worker = Worker {
                name: self.name,
                ctx: self.ctx.clone(),
                queue: Arc::clone(&self.queue),
                counters: Arc::clone(&self.counters),
                rest_factor: self.rest_factor,
                reconcile: Arc::clone(&reconcile),
            };
            self.ctx.tasks.spawn(self.name, worker.run());
        }
        (self.name, self.counters)
    }
}

struct Worker {
    name: &'static str,
    ctx: Context,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    rest_factor: u32,
    reconcile: Reconcile,
}

impl Worker {
    async fn run(self) {
        let cancelled = self.ctx.tasks.cancelled();
        loop {
            let key = tokio::select! {
                () = cancelled.cancelled() => return,
                key = self.queue.next() => key,
            };
            // A reconcile in flight is not cut off by a cancellation: it is between two writes.
            self.work(key).await;
        }
    }

    async fn work(&self, key: Key) {
        let metered = meter::Metered::new((self.reconcile)(key.clone()), self.ctx.clock.clone());
        let Ok((result, busy)) = AssertUnwindSafe(metered).catch_unwind().await else {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(controller = self.name, %key, "reconcile panicked; the object backs off");
            self.queue.failed(key);
            return;
        };
        self.counters.reconciles.fetch_add(1, Ordering::Relaxed);
        self.counters
            .busy_micros
            .fetch_add(busy.as_micros() as u64, Ordering::Relaxed);
        match result {
            Ok(outcome) => self.queue.done(key, outcome, busy * self.rest_factor),
            Err(error) => {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                if error.is_race() {
                    tracing::debug!(controller = self.name, %key, error = %errors::chain(&error), "again");
                } else {
                    tracing::warn!(controller = self.name, %key, error = %errors::chain(&error), "reconcile failed");
                }
                self.queue.failed(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use crate::controllers::Config;
    use crate::registry::Fixture;

    #[tokio::test]
    async fn a_panicking_object_backs_off_and_the_others_proceed() {
        let fixture = Fixture::new().await;
        let tasks = &fixture.tasks;
        let ctx = Context::new(fixture.registry.clone(), Config::default(), tasks);
        let controller = Controller::new("test", &ctx);
        let queue = Arc::clone(&controller.queue);
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, all_seen) = (Arc::clone(&seen), Arc::new(tokio::sync::Notify::new()));
        let tell = Arc::clone(&all_seen);
        let (_, counters) = controller.start(move |key| {
            let (log, tell) = (Arc::clone(&log), Arc::clone(&tell));
            async move {
                assert!(key.name != "bad", "a bug");
                let mut log = log.lock().unwrap();
                log.push(key.name);
                if log.len() == 3 {
                    tell.notify_one();
                }
                Ok(Outcome::Done)
            }
        });
        for name in ["bad", "a", "b", "c"] {
            queue.add(Key::new("default", name));
        }
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, all_seen.notified())
            .await
            .unwrap();
        assert!(counters.panics() >= 1);
        assert!(!tasks.cancelled().is_cancelled(), "the process lives");
        fixture.stop().await;
    }
}
