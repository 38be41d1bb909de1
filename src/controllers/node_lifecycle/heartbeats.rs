//! For how long each node has been silent, as far as this process can tell.
//!
//! Only *changes* of the heartbeat count, and they are dated by this process's monotonic clock:
//! the worker's own timestamps are compared with nothing. When this process was stopped itself
//! (SIGSTOP, a suspended laptop), the time in which it could not have heard anything is forgiven.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;

use crate::api::condition;

/// What a node says to show that it lives; any change is a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    renewed: Option<Timestamp>,
    holder: Option<String>,
    /// The `Ready` condition and its heartbeat; `None` if the words are this controller's.
    reported: Option<(String, Option<Timestamp>)>,
}

impl Signal {
    pub(super) fn of(node: &Node, lease: Option<&Lease>) -> Self {
        let lease = lease.and_then(|lease| lease.spec.as_ref());
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref());
        let ready = condition::find(conditions.unwrap_or_default(), "Ready");
        Self {
            renewed: lease
                .and_then(|lease| lease.renew_time.as_ref())
                .map(|time| time.0),
            holder: lease.and_then(|lease| lease.holder_identity.clone()),
            reported: ready
                .filter(|ready| !super::plan::is_ours(ready))
                .map(|ready| {
                    let heartbeat = ready.last_heartbeat_time.as_ref().map(|time| time.0);
                    (ready.status.clone(), heartbeat)
                }),
        }
    }

    /// Whether the node has said something since `before`. That this controller has overwritten
    /// its report is not the node's word; that the report is there again is.
    fn is_heartbeat_after(&self, before: &Self) -> bool {
        (&self.renewed, &self.holder) != (&before.renewed, &before.holder)
            || self.reported.is_some() && self.reported != before.reported
    }
}

struct Beat {
    signal: Signal,
    at: Instant,
}

pub(super) struct Heartbeats {
    beats: HashMap<String, Beat>,
    period: Duration,
    last_pulse: Option<Instant>,
}

impl Heartbeats {
    /// `period` is how often `pulse` is called when all is well.
    pub(super) fn new(period: Duration) -> Self {
        Self {
            beats: HashMap::new(),
            period,
            last_pulse: None,
        }
    }

    /// Notes a node's signal; returns how long it has not changed. A node that is seen for the
    /// first time has just spoken.
    pub(super) fn observe(&mut self, node: &str, signal: Signal, now: Instant) -> Duration {
        self.pulse(now);
        let Some(beat) = self.beats.get_mut(node) else {
            self.beats.insert(node.to_owned(), Beat { signal, at: now });
            return Duration::ZERO;
        };
        if signal.is_heartbeat_after(&beat.signal) {
            beat.at = now;
        }
        beat.signal = signal;
        now.saturating_duration_since(beat.at)
    }

    pub(super) fn forget(&mut self, node: &str) {
        self.beats.remove(node);
    }

    /// Whether any node has been heard within the grace period.
    pub(super) fn anyone_speaks(&self, grace: Duration, now: Instant) -> bool {
        let mut beats = self.beats.values();
        beats.any(|beat| now.saturating_duration_since(beat.at) < grace)
    }

    /// This process lives; if it did not for a while, nobody's silence counts for that while.
    pub(super) fn pulse(&mut self, now: Instant) {
        let last = self.last_pulse.replace(now).unwrap_or(now);
        let gap = now.saturating_duration_since(last);
        if gap > self.period * 2 {
            for beat in self.beats.values_mut() {
                beat.at = (beat.at + gap).min(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(1);
    const GRACE: Duration = Duration::from_secs(3);

    fn signal(second: i64) -> Signal {
        Signal {
            renewed: Some(Timestamp::from_second(second).unwrap()),
            ..Signal::default()
        }
    }

    #[test]
    fn silence_counts_from_the_last_change() {
        let (mut beats, start) = (Heartbeats::new(PERIOD), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silences = Vec::new();
        for (second, renewed) in [
            (0, 100),
            (1, 100),
            (2, 100),
            (3, 101),
            (4, 101),
            (5, 101),
            (6, 101),
        ] {
            silences.push(beats.observe("n", signal(renewed), at(second)).as_secs());
        }
        assert_eq!(silences, [0, 1, 2, 0, 1, 2, 3]);
        assert!(!beats.anyone_speaks(GRACE, at(6)));
        beats.observe("m", signal(0), at(6));
        assert!(beats.anyone_speaks(GRACE, at(6)));
    }

    #[test]
    fn a_report_counts_and_the_overwriting_of_it_does_not() {
        let (mut beats, start) = (Heartbeats::new(PERIOD), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let report = |status: &str| Signal {
            reported: Some((status.to_owned(), None)),
            ..Signal::default()
        };
        let ours = Signal::default();
        let seen = [
            report("True"),
            report("True"),
            ours.clone(),
            ours,
            report("True"),
        ];
        let mut silences = Vec::new();
        for (second, signal) in (0..).zip(seen) {
            silences.push(beats.observe("n", signal, at(second)).as_secs());
        }
        assert_eq!(silences, [0, 1, 2, 3, 0]);
    }

    #[test]
    fn a_pause_of_the_server_is_forgiven() {
        let (mut beats, start) = (Heartbeats::new(PERIOD), Instant::now());
        beats.observe("n", signal(0), start);
        let later = start + Duration::from_mins(1);
        assert_eq!(beats.observe("n", signal(0), later), Duration::ZERO);
        assert_eq!(beats.observe("n", signal(0), later + PERIOD), PERIOD);
    }
}
