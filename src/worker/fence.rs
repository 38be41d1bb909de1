//! The fence: a worker that stood still must not serve before it knows what it missed.
//!
//! A process that was stopped for longer than its lease, and then goes on, does not know yet that
//! its pods run elsewhere. So every connection and request asks the fence, and the fence is open
//! only while the worker's own heartbeat (a local timer, no network) is younger than the lease. The
//! heartbeat of a worker that finds such a gap does not beat again before the API has told which
//! pods are still its own. A worker that is merely cut off from the API keeps beating and serving.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock::Clock;

/// See the module.
pub struct Fence {
    clock: Clock,
    started: Instant,
    lease: Duration,
    /// Milliseconds after `started`.
    beat: AtomicU64,
}

/// What a beat found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    OnTime,
    /// The worker stood still for longer than its lease; the fence is closed.
    Late,
}

impl Fence {
    pub fn new(lease: Duration, clock: Clock) -> Self {
        Self {
            started: clock.monotonic(),
            clock,
            lease,
            beat: AtomicU64::new(0),
        }
    }

    /// Whether pods may be served.
    pub fn is_open(&self) -> bool {
        self.silence() < self.lease
    }

    /// Beats, unless the worker stood still.
    pub fn beat(&self) -> Beat {
        if self.is_open() {
            self.reopen();
            Beat::OnTime
        } else {
            Beat::Late
        }
    }

    /// Opens the fence after the worker has caught up.
    pub fn reopen(&self) {
        let elapsed = self
            .clock
            .monotonic()
            .saturating_duration_since(self.started);
        self.beat
            .store(elapsed.as_millis() as u64, Ordering::Release);
    }

    fn silence(&self) -> Duration {
        let elapsed = self
            .clock
            .monotonic()
            .saturating_duration_since(self.started);
        elapsed.saturating_sub(Duration::from_millis(self.beat.load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stood_still_serves_nobody_until_it_has_caught_up() {
        let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let fence = Fence::new(Duration::from_secs(40), clock.clone());
        for _ in 0..10 {
            clock.advance(Duration::from_secs(30));
            assert_eq!(fence.beat(), Beat::OnTime);
        }
        clock.advance(Duration::from_secs(41));
        assert!(!fence.is_open());
        assert_eq!(fence.beat(), Beat::Late);
        assert!(!fence.is_open());
        fence.reopen();
        assert!(fence.is_open());
        assert_eq!(fence.beat(), Beat::OnTime);
    }
}
