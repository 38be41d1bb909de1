//! Watches that resume: after an error the watch goes on from the last revision, after `410 Gone`
//! it lists again; in between it waits, first for 50 ms, at most for 3 s, because the other side is
//! most often a server that was restarted on the same machine.

use std::fmt::Debug;
use std::time::Duration;

use futures::Stream;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::ids;

/// An endless stream of changes; errors are passed on to be logged, and the stream goes on.
pub fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config).backoff(Retry::default())
}

const CURVE: crate::backoff::Backoff =
    crate::backoff::Backoff::new(Duration::from_millis(50), Duration::from_secs(3));

#[derive(Default)]
struct Retry(u32);

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0 = self.0.saturating_add(1);
        Some(CURVE.delay_with_jitter(self.0, ids::jitter()))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
