//! A registry on a throw-away file, for the tests of those who use one.

use std::time::Duration;

use super::{Config, Registry};
use crate::clock::Clock;
use crate::store::{self, Store};
use crate::tasks::TaskGroup;

pub(crate) struct Fixture {
    pub(crate) registry: Registry,
    pub(crate) tasks: TaskGroup,
    _directory: tempfile::TempDir,
}

impl Fixture {
    /// With what every cluster has.
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let config = store::Config {
            path: directory.path().join("wasmorch.db"),
            volatile: Vec::new(),
            history: 100,
        };
        let store = Store::open(config, &tasks).await.unwrap();
        let registry = Registry::new(store, Clock::system(), Config::default());
        registry.bootstrap().await.unwrap();
        Self {
            registry,
            tasks,
            _directory: directory,
        }
    }

    pub(crate) async fn stop(self) {
        assert!(self.tasks.shutdown(Duration::from_secs(30)).await);
    }
}
