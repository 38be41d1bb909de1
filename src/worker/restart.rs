//! Whether and when a container that ended runs again.
//!
//! Kubernetes' rules: `Always` restarts whatever the exit, `OnFailure` only a failed one, `Never`
//! none; an init container under `Always` restarts like `OnFailure`; a sidecar always restarts. The
//! first restart is at once, then the wait is 10 s, doubling up to 5 min; ten minutes of running
//! forget the past.

use std::time::Duration;

use crate::backoff::Backoff;

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: starts in order, then stays.
    Sidecar,
    Main,
    /// Put into a running pod to look into it; runs once and decides nothing.
    Ephemeral,
}

/// What follows an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Restart,
    Stay,
}

/// The container restart curve.
pub const CRASH_LOOP: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_mins(5));
/// A run of this length clears the count of crashes.
pub const GOOD_CONDUCT: Duration = Duration::from_mins(10);

/// Decides by policy, role and exit code.
pub fn decide(policy: RestartPolicy, role: Role, code: i32) -> Decision {
    let again = match (role, policy) {
        (Role::Sidecar, _) | (Role::Main, RestartPolicy::Always) => true,
        (Role::Init, RestartPolicy::Always | RestartPolicy::OnFailure)
        | (Role::Main, RestartPolicy::OnFailure) => code != 0,
        (Role::Init | Role::Main, RestartPolicy::Never) | (Role::Ephemeral, _) => false,
    };
    if again {
        Decision::Restart
    } else {
        Decision::Stay
    }
}

/// How often a container ended lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crashes(u32);

impl Crashes {
    /// Counts an exit after `ran_for`, and tells how long to wait before the next start. `jitter`
    /// in `[0, 1)` spreads pods that crashed together.
    pub fn count(&mut self, ran_for: Duration, jitter: f64) -> Duration {
        if ran_for >= GOOD_CONDUCT {
            self.0 = 0;
        }
        let delay = CRASH_LOOP.delay_with_jitter(self.0, jitter);
        self.0 = self.0.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_role_and_exit() {
        use Decision::{Restart, Stay};
        use RestartPolicy::{Always, Never, OnFailure};
        let cases = [
            (Always, Role::Main, 0, Restart),
            (Always, Role::Main, 1, Restart),
            (OnFailure, Role::Main, 0, Stay),
            (OnFailure, Role::Main, 137, Restart),
            (Never, Role::Main, 0, Stay),
            (Never, Role::Main, 1, Stay),
            (Always, Role::Init, 0, Stay),
            (Always, Role::Init, 1, Restart),
            (OnFailure, Role::Init, 1, Restart),
            (Never, Role::Init, 1, Stay),
            (Never, Role::Sidecar, 0, Restart),
            (OnFailure, Role::Sidecar, 1, Restart),
            (Always, Role::Ephemeral, 1, Stay),
        ];
        for (policy, role, code, expected) in cases {
            assert_eq!(
                decide(policy, role, code),
                expected,
                "{policy:?} {role:?} {code}"
            );
        }
    }

    #[test]
    fn the_curve_is_kubernetes_and_good_conduct_clears_it() {
        let mut crashes = Crashes::default();
        let waits: Vec<u64> = (0..8)
            .map(|_| crashes.count(Duration::from_secs(1), 0.0).as_secs())
            .collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(crashes.count(GOOD_CONDUCT, 0.0), Duration::ZERO);
        assert_eq!(crashes.count(Duration::ZERO, 0.0).as_secs(), 10);
    }
}
