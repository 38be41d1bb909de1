//! What passes through a service: counters that the proxy adds to and `/metrics` reads.
//!
//! They belong to the service and outlive every rebuild of it. Relaxed atomics, no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::retry::Budget;

/// Upper bounds of the latency buckets, in microseconds; one more bucket is above them all.
pub const BUCKETS: [u64; 13] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// See the module.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Answered requests by the hundred of their status.
    classes: [AtomicU64; 6],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    /// Requests and connections under way.
    open: AtomicI64,
    /// Attempts that were made again elsewhere.
    retries: AtomicU64,
    /// Connections passed through as they are.
    connections: AtomicU64,
    /// How many of its requests may be sent twice.
    pub(super) retry_budget: Budget,
}

impl Traffic {
    /// A request was answered with a status after a time.
    pub fn answered(&self, status: u16, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = usize::from(status / 100).min(self.classes.len() - 1);
        let bucket = BUCKETS.partition_point(|bound| *bound < micros);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Something began, and is under way until the guard is dropped, however it ends.
    pub fn began(self: &Arc<Self>) -> UnderWay {
        self.open.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Answered requests by the hundred of their status, from `1xx`.
    pub fn by_class(&self) -> [u64; 5] {
        std::array::from_fn(|class| self.classes[class + 1].load(Ordering::Relaxed))
    }

    /// Requests in each bucket; the last is above all bounds.
    pub fn by_bucket(&self) -> [u64; BUCKETS.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed))
    }

    /// Time spent on all answered requests.
    pub fn total_time(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }

    pub fn open(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }

    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A request or connection under way.
pub struct UnderWay(Arc<Traffic>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fall_into_their_class_and_bucket() {
        let traffic = Traffic::default();
        for (status, micros) in [
            (200, 100),
            (204, 250),
            (404, 251),
            (503, 9_000_000),
            (999, 0),
        ] {
            traffic.answered(status, Duration::from_micros(micros));
        }
        assert_eq!(traffic.by_class(), [0, 2, 0, 1, 2]);
        let buckets = traffic.by_bucket();
        assert_eq!((buckets[0], buckets[1], buckets[13]), (3, 1, 1));
        assert_eq!(traffic.total_time(), Duration::from_micros(9_000_601));
    }
}
