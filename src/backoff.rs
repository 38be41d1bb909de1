//! Exponential backoff: how long to wait before the next try of something that failed.
//!
//! Pure: the caller passes `now` and asks; nothing sleeps in here. The container restart curve
//! (10 s doubling to 5 min, forgotten after 10 min of good conduct) and the controllers' retry
//! curve are two values of the same type.

use std::time::Duration;

/// A curve: `base`, doubling, up to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// A curve that starts at `base` and doubles up to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The wait after `failures` failures in a row; zero failures wait for nothing.
    pub fn delay(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor.max(1)).min(self.cap)
    }

    /// The same wait with `jitter` (a fraction in `[0, 1)`) of up to a tenth added, so that many
    /// that failed together do not return together.
    pub fn delay_with_jitter(self, failures: u32, jitter: f64) -> Duration {
        let delay = self.delay(failures);
        delay + delay.mul_f64(jitter.clamp(0.0, 1.0) * 0.1)
    }
}

/// Doubling waits for something that should come soon, until a total is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubling {
    next: Duration,
    left: Duration,
}

impl Doubling {
    /// `first`, twice that, and so on; together `total`.
    pub const fn new(first: Duration, total: Duration) -> Self {
        Self {
            next: first,
            left: total,
        }
    }
}

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next.min(self.left);
        self.left -= wait;
        self.next = self.next.saturating_mul(2);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_the_total_is_spent() {
        let waits = Doubling::new(Duration::from_millis(50), Duration::from_secs(2));
        let waits: Vec<_> = waits.map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 450]);
        assert_eq!(
            Doubling::new(Duration::from_secs(1), Duration::ZERO).next(),
            None
        );
    }

    #[test]
    fn doubles_up_to_the_cap() {
        let backoff = Backoff::new(Duration::from_secs(10), Duration::from_mins(5));
        let waits: Vec<u64> = (0..8).map(|n| backoff.delay(n).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.delay(1000).as_secs(), 300);
    }
}
