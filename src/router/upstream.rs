//! A lane's connections to pods, by pod address.
//!
//! Pooled by endpoint and not by service, so that ten thousand services over the same pods need no
//! more connections than one. Idle ones are reused last in, first out; those that rest too long
//! are closed by [`Upstreams::sweep`]. Also the lane's own view of each endpoint: requests under
//! way, and whether it failed a moment ago.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;

use super::balance::Load;
use super::http::Sent;

/// Idle connections older than this are closed; below the worker's own limit.
const IDLE: Duration = Duration::from_secs(30);
/// How long an endpoint rests after its first failure; doubled with each one in a row.
const REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(10);

type Sender = SendRequest<Sent>;

/// All endpoints that a lane has talked to.
#[derive(Default)]
pub(super) struct Upstreams(Mutex<HashMap<SocketAddr, Arc<Upstream>>>);

impl Upstreams {
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Upstream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, addr: SocketAddr) -> Arc<Upstream> {
        let mut upstreams = self.lock();
        Arc::clone(upstreams.entry(addr).or_default())
    }

    pub(super) fn load(&self, addr: SocketAddr, now: Instant) -> Load {
        self.lock()
            .get(&addr)
            .map_or_else(Load::default, |it| it.load(now))
    }

    /// Closes what was not used for long, and forgets endpoints without connections.
    pub(super) fn sweep(&self, now: Instant) {
        let mut old = Vec::new();
        self.lock().retain(|_, upstream| {
            old.extend(upstream.take_old(now));
            !upstream.is_unused(now)
        });
        // Closed outside the lock.
        drop(old);
    }
}

#[derive(Default)]
struct Health {
    failures: u32,
    rests_until: Option<Instant>,
}

/// One endpoint.
#[derive(Default)]
pub(super) struct Upstream {
    in_flight: AtomicUsize,
    /// Mirrors whether `health` has anything to say, so that the usual case takes no lock.
    ailing: AtomicU32,
    health: Mutex<Health>,
    idle: Mutex<Vec<(Instant, Sender)>>,
}

impl Upstream {
    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Sender)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, now: Instant) -> Load {
        let rests = self.ailing.load(Ordering::Relaxed) != 0
            && self.health().rests_until.is_some_and(|until| until > now);
        Load {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            rests,
        }
    }

    /// A connection to use again, if there is an open one.
    pub(super) fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop())
            .map(|(_, sender)| sender)
            .find(|sender| !sender.is_closed())
    }

    /// Keeps a connection for the next request, up to a number of them.
    pub(super) fn keep(&self, sender: Sender, most: usize, now: Instant) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle();
        if idle.len() < most {
            idle.push((now, sender));
        }
    }

    /// The endpoint did not answer: it rests.
    pub(super) fn failed(&self, now: Instant) {
        let mut health = self.health();
        let rest = REST.saturating_mul(1 << health.failures.min(8));
        health.failures += 1;
        health.rests_until = Some(now + rest.min(LONGEST_REST));
        self.ailing.store(1, Ordering::Relaxed);
    }

    /// The endpoint answered.
    pub(super) fn succeeded(&self) {
        if self.ailing.load(Ordering::Relaxed) != 0 {
            *self.health() = Health::default();
            self.ailing.store(0, Ordering::Relaxed);
        }
    }

    fn take_old(&self, now: Instant) -> Vec<(Instant, Sender)> {
        let mut idle = self.idle();
        // The oldest are at the front.
        let old = idle.partition_point(|(since, _)| now.duration_since(*since) > IDLE);
        idle.drain(..old).collect()
    }

    fn is_unused(&self, now: Instant) -> bool {
        self.idle().is_empty() && self.load(now) == Load::default()
    }
}

/// A request under way to an endpoint.
pub(super) struct InFlight(Arc<Upstream>);

impl InFlight {
    pub(super) fn enter(upstream: Arc<Upstream>) -> Self {
        upstream.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(upstream)
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_fails_rests_longer_each_time() {
        let upstreams = Upstreams::default();
        let addr = "10.64.0.1:80".parse().unwrap();
        let upstream = upstreams.get(addr);
        let start = Instant::now();
        let rests = |after: Duration| upstreams.load(addr, start + after).rests;
        upstream.failed(start);
        assert!(rests(REST / 2) && !rests(REST * 2));
        upstream.failed(start);
        assert!(rests(REST + REST / 2) && !rests(REST * 3));
        for _ in 0..50 {
            upstream.failed(start);
        }
        assert!(rests(LONGEST_REST / 2) && !rests(LONGEST_REST * 2));
        upstream.succeeded();
        assert!(!rests(Duration::ZERO));
    }

    #[test]
    fn endpoints_without_use_are_forgotten() {
        let upstreams = Upstreams::default();
        let addr = "10.64.0.1:80".parse().unwrap();
        let request = InFlight::enter(upstreams.get(addr));
        let now = Instant::now();
        assert_eq!(upstreams.load(addr, now).in_flight, 1);
        upstreams.sweep(now);
        assert_eq!(upstreams.lock().len(), 1);
        drop(request);
        upstreams.sweep(now);
        assert_eq!(upstreams.lock().len(), 0);
    }
}
