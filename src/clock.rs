//! The only source of time.
//!
//! Logic that reads the clock by itself can be neither tested nor replayed, so `now` is passed in
//! and comes from here. Two readings exist and must not be mixed: [`Clock::now`] is wall time, for
//! what people and the API see; [`Clock::monotonic`] never jumps, for leases, timeouts and backoff.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A cheap handle to the clock; all clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    start: Instant,
    wall: Timestamp,
    elapsed: Mutex<Duration>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `wall` until [`Clock::advance`] moves it.
    pub fn manual(wall: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Manual {
            start: Instant::now(),
            wall,
            elapsed: Mutex::default(),
        })))
    }

    /// Wall time.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(manual) => manual.wall + manual.elapsed(),
        }
    }

    /// Time that never goes backwards and knows no leap.
    pub fn monotonic(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Manual(manual) => manual.start + manual.elapsed(),
        }
    }

    /// Moves a manual clock forward. The system clock cannot be moved; the call is ignored.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            *manual
                .elapsed
                .lock()
                .unwrap_or_else(PoisonError::into_inner) += by;
        }
    }
}

impl Manual {
    fn elapsed(&self) -> Duration {
        *self.elapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_both_readings_together() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        clock.clone().advance(Duration::from_secs(90));
        assert_eq!(clock.now().duration_since(wall).as_secs(), 90);
        assert_eq!(clock.monotonic() - monotonic, Duration::from_secs(90));
    }
}
