//! Probes: when to ask, and what the answers mean. Pure; the asking is in `probe_run`.
//!
//! A startup probe gates the other two. Thresholds count answers in a row. Until a container has
//! answered well for the first time, startup and readiness are asked more often than their period
//! (25 ms, 50 ms, … up to the period), because a WASI program listens within milliseconds and its
//! users should not wait ten seconds for the next question; such early failures do not count
//! towards `failureThreshold`, whose clock stays the period that was written.
//!
//! There is no timer in here and no task per probe: the pod's worker sleeps until [`Probes::next`].

mod action;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Probe};

pub use action::{Action, Error};
pub(super) use action::{exec_action, http_action};

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    /// The word in Kubernetes' event messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// A probe as written, with Kubernetes' defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub action: Action,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
    /// Overrides the pod's grace period when this probe kills the container.
    pub grace: Option<Duration>,
}

/// The three probes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specs {
    pub startup: Option<Spec>,
    pub readiness: Option<Spec>,
    pub liveness: Option<Spec>,
}

impl Specs {
    /// Parses a container's probes.
    pub fn of(container: &Container) -> Result<Self, Error> {
        let parse = |kind: Kind, probe: &Option<Probe>| {
            probe
                .as_ref()
                .map(|probe| spec(kind, probe, container))
                .transpose()
        };
        Ok(Self {
            startup: parse(Kind::Startup, &container.startup_probe)?,
            readiness: parse(Kind::Readiness, &container.readiness_probe)?,
            liveness: parse(Kind::Liveness, &container.liveness_probe)?,
        })
    }

    /// The probe of one kind.
    pub fn get(&self, kind: Kind) -> Option<&Spec> {
        match kind {
            Kind::Startup => self.startup.as_ref(),
            Kind::Readiness => self.readiness.as_ref(),
            Kind::Liveness => self.liveness.as_ref(),
        }
    }
}

fn spec(kind: Kind, probe: &Probe, container: &Container) -> Result<Spec, Error> {
    let seconds = |value: Option<i32>, default: u64, least: u64| {
        let value = value.and_then(|value| u64::try_from(value).ok());
        Duration::from_secs(
            value
                .filter(|value| *value > 0)
                .unwrap_or(default)
                .max(least),
        )
    };
    let count = |value: Option<i32>, default: u32| {
        let value = value.and_then(|value| u32::try_from(value).ok());
        value.filter(|value| *value > 0).unwrap_or(default)
    };
    let what = match kind {
        Kind::Startup => "Startup probe",
        Kind::Readiness => "Readiness probe",
        Kind::Liveness => "Liveness probe",
    };
    Ok(Spec {
        action: action::action(what, probe, container)?,
        initial_delay: seconds(probe.initial_delay_seconds, 0, 0),
        period: seconds(probe.period_seconds, 10, 1),
        timeout: seconds(probe.timeout_seconds, 1, 1),
        success_threshold: count(probe.success_threshold, 1),
        failure_threshold: count(probe.failure_threshold, 3),
        grace: probe
            .termination_grace_period_seconds
            .and_then(|value| u64::try_from(value).ok())
            .map(Duration::from_secs),
    })
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing that others can see.
    Unchanged,
    /// The startup probe passed: the container counts as started.
    Started,
    /// Readiness changed to this.
    Ready(bool),
    /// Liveness or startup failed for good: the container must be killed.
    Unhealthy,
}

/// The running probes of one incarnation of a container.
#[derive(Clone, Debug)]
pub struct Probes {
    startup: Option<Probing>,
    readiness: Option<Probing>,
    liveness: Option<Probing>,
}

#[derive(Clone, Debug)]
struct Probing {
    spec: Spec,
    next: Instant,
    in_flight: bool,
    successes: u32,
    failures: u32,
    early_tries: u32,
    /// When the last failure that counts was counted.
    counted: Option<Instant>,
    passed: bool,
    ever_passed: bool,
}

const FIRST_RETRY: Duration = Duration::from_millis(25);

impl Probes {
    /// The probes of a container that started at `now`.
    pub fn new(specs: &Specs, now: Instant) -> Self {
        let probing = |spec: &Spec| Probing {
            spec: spec.clone(),
            next: now + spec.initial_delay,
            in_flight: false,
            successes: 0,
            failures: 0,
            early_tries: 0,
            counted: None,
            passed: false,
            ever_passed: false,
        };
        Self {
            startup: specs.startup.as_ref().map(probing),
            readiness: specs.readiness.as_ref().map(probing),
            liveness: specs.liveness.as_ref().map(probing),
        }
    }

    /// Whether the startup probe passed, or there is none.
    pub fn is_started(&self) -> bool {
        self.startup.as_ref().is_none_or(|probe| probe.ever_passed)
    }

    /// Whether the container may get traffic.
    pub fn is_ready(&self) -> bool {
        self.is_started() && self.readiness.as_ref().is_none_or(|probe| probe.passed)
    }

    /// When the next question is due.
    pub fn next(&self) -> Option<Instant> {
        self.asked()
            .into_iter()
            .flatten()
            .filter(|(_, probe)| !probe.in_flight)
            .map(|(_, probe)| probe.next)
            .min()
    }

    /// The questions to ask now; each counts as in flight until [`Probes::record`].
    pub fn due(&mut self, now: Instant) -> Vec<Kind> {
        let kinds: Vec<Kind> = self
            .asked()
            .into_iter()
            .flatten()
            .filter(|(_, probe)| !probe.in_flight && probe.next <= now)
            .map(|(kind, _)| kind)
            .collect();
        for kind in &kinds {
            if let Some(probe) = self.get_mut(*kind) {
                probe.in_flight = true;
            }
        }
        kinds
    }

    /// Takes an answer.
    pub fn record(&mut self, kind: Kind, healthy: bool, now: Instant) -> Outcome {
        let Some(probe) = self.get_mut(kind) else {
            return Outcome::Unchanged;
        };
        probe.in_flight = false;
        let was_passed = probe.passed;
        let failed = probe.count(kind, healthy, now);
        probe.schedule(kind, healthy, now);
        let changed = probe.passed != was_passed;
        match kind {
            Kind::Startup | Kind::Liveness if failed => Outcome::Unhealthy,
            Kind::Startup if changed && probe.passed => Outcome::Started,
            Kind::Readiness if changed => Outcome::Ready(probe.passed),
            Kind::Startup | Kind::Readiness | Kind::Liveness => Outcome::Unchanged,
        }
    }

    /// The probes that are asked at this stage: startup alone, then the other two.
    fn asked(&self) -> [Option<(Kind, &Probing)>; 2] {
        match &self.startup {
            Some(startup) if !startup.ever_passed => [Some((Kind::Startup, startup)), None],
            Some(_) | None => [
                self.readiness
                    .as_ref()
                    .map(|probe| (Kind::Readiness, probe)),
                self.liveness.as_ref().map(|probe| (Kind::Liveness, probe)),
            ],
        }
    }

    fn get_mut(&mut self, kind: Kind) -> Option<&mut Probing> {
        match kind {
            Kind::Startup => self.startup.as_mut(),
            Kind::Readiness => self.readiness.as_mut(),
            Kind::Liveness => self.liveness.as_mut(),
        }
    }
}

impl Probing {
    /// Counts the answer; tells whether the failure threshold was reached by it.
    fn count(&mut self, kind: Kind, healthy: bool, now: Instant) -> bool {
        if healthy {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            if self.successes >= self.spec.success_threshold {
                self.passed = true;
                self.ever_passed = true;
            }
            return false;
        }
        self.successes = 0;
        let is_early = self.is_warming_up(kind)
            && self
                .counted
                .is_some_and(|counted| now.saturating_duration_since(counted) < self.spec.period);
        if is_early {
            return false;
        }
        self.counted = Some(now);
        self.failures = self.failures.saturating_add(1);
        let reached = self.failures >= self.spec.failure_threshold;
        if reached {
            self.passed = false;
        }
        reached
    }

    fn schedule(&mut self, kind: Kind, healthy: bool, now: Instant) {
        let wait = if self.is_warming_up(kind) && !healthy {
            let factor = 1_u32.checked_shl(self.early_tries).unwrap_or(u32::MAX);
            self.early_tries = self.early_tries.saturating_add(1);
            FIRST_RETRY
                .saturating_mul(factor.max(1))
                .min(self.spec.period)
        } else {
            self.spec.period
        };
        self.next = now + wait;
    }

    fn is_warming_up(&self, kind: Kind) -> bool {
        match kind {
            Kind::Startup | Kind::Readiness => !self.ever_passed,
            Kind::Liveness => false,
        }
    }
}

#[cfg(test)]
mod tests;
