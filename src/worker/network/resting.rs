//! Workers that could not be reached a moment ago.
//!
//! When a worker dies, its pods stay in the table until the control plane has noticed. Whoever was
//! refused once does not send the next request there: its endpoints are chosen only if there are no
//! others. The rest is short, and one connection that opens ends it. Usually nobody rests, and then
//! asking costs one load.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

const REST: Duration = Duration::from_secs(1);

/// See the module; wires by their address.
#[derive(Default)]
pub(super) struct Resting(ArcSwap<HashMap<Arc<str>, Instant>>);

impl Resting {
    pub(super) fn is_nobody(&self) -> bool {
        self.0.load().is_empty()
    }

    pub(super) fn contains(&self, wire: &str, now: Instant) -> bool {
        self.0.load().get(wire).is_some_and(|until| *until > now)
    }

    /// It could not be reached.
    pub(super) fn failed(&self, wire: &Arc<str>, now: Instant) {
        self.0.rcu(|resting| {
            let mut resting = HashMap::clone(resting);
            // Workers that come back listen elsewhere: the old addresses go here.
            resting.retain(|_, until| *until > now);
            resting.insert(Arc::clone(wire), now + REST);
            resting
        });
    }

    /// It was reached.
    pub(super) fn succeeded(&self, wire: &str) {
        if self.0.load().contains_key(wire) {
            self.0.rcu(|resting| {
                let mut resting = HashMap::clone(resting);
                resting.remove(wire);
                resting
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_rests_until_it_is_reached_or_time_has_passed() {
        let (resting, now) = (Resting::default(), Instant::now());
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        assert!(resting.is_nobody());
        resting.failed(&one, now);
        assert!(resting.contains("one", now) && !resting.contains("other", now));
        assert!(!resting.contains("one", now + REST));
        resting.failed(&other, now + REST);
        assert!(!resting.0.load().contains_key("one"), "forgotten");
        resting.succeeded("other");
        assert!(resting.is_nobody());
    }
}
