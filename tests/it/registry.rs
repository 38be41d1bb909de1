//! The registry on a store of its own: what holds for every kind, and what is particular.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "these are tests, and their helpers take what json! makes"
)]

mod addresses;
mod apply;
mod deletion;
mod quota;
mod reading;
mod typed;
mod workloads;
mod writing;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use wasmorch::clock::Clock;
use wasmorch::registry::{
    Caller, Config, Error, Event, EventStream, FieldError, Registry, ResourceInfo, WriteOptions,
    Written,
};
use wasmorch::store::{self, Store};
use wasmorch::tasks::TaskGroup;

const PATIENCE: Duration = Duration::from_secs(30);
const NS: Option<&str> = Some("default");

/// A registry on a throw-away file, with a clock that stands still.
struct Fixture {
    registry: Registry,
    clock: Clock,
    caller: Caller,
    _tasks: TaskGroup,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let store = store::Config {
            path: directory.path().join("wasmorch.db"),
            volatile: vec!["leases.coordination.k8s.io".to_owned()],
            history: 10_000,
        };
        let store = Store::open(store, &tasks).await.unwrap();
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let registry = Registry::new(store, clock.clone(), config);
        registry.bootstrap().await.unwrap();
        Self {
            registry,
            clock,
            caller: Caller::system("test"),
            _tasks: tasks,
            _directory: directory,
        }
    }

    fn row(&self, plural: &str) -> &'static ResourceInfo {
        let rows = self.registry.resources();
        rows.iter().find(|row| row.plural == plural).unwrap()
    }

    async fn create(&self, plural: &str, object: Value) -> Result<Written, Error> {
        let options = WriteOptions::default();
        self.registry
            .create(self.row(plural), NS, object, &options, &self.caller)
            .await
    }

    async fn created(&self, plural: &str, object: Value) -> Value {
        self.create(plural, object)
            .await
            .unwrap()
            .object
            .object
            .clone()
    }

    async fn update(
        &self,
        plural: &str,
        subresource: Option<&str>,
        object: Value,
    ) -> Result<Value, Error> {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let options = WriteOptions::default();
        self.registry
            .update(
                self.row(plural),
                NS,
                &name,
                subresource,
                object,
                &options,
                &self.caller,
            )
            .await
            .map(|written| written.object.object.clone())
    }

    fn get(&self, plural: &str, name: &str) -> Option<Value> {
        match self.registry.get(self.row(plural), NS, name) {
            Ok(stored) => Some(stored.object.clone()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "hello"}]}})
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"key": "value"}})
}

/// The field errors of an `Invalid`, as `field: message`.
fn complaints<T>(result: Result<T, Error>) -> Vec<String> {
    match result.map(drop) {
        Err(Error::Invalid { errors, .. }) => errors.iter().map(FieldError::to_string).collect(),
        Err(error) => panic!("{error}"),
        Ok(()) => Vec::new(),
    }
}

async fn next(stream: &mut EventStream) -> Event {
    let next = tokio::time::timeout(PATIENCE, stream.next());
    next.await.unwrap().unwrap().unwrap()
}

/// `Added a`, `Deleted b`, …
async fn next_words(stream: &mut EventStream) -> String {
    match next(stream).await {
        Event::Added(stored) => format!("Added {}", stored.key.name),
        Event::Modified(stored) => format!("Modified {}", stored.key.name),
        Event::Deleted(stored) => format!("Deleted {}", stored.key.name),
        Event::Bookmark { initial_end, .. } => format!("Bookmark {initial_end}"),
    }
}
