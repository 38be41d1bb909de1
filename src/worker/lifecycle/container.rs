//! Where one container stands, and what can be read off it; how it moves on is in `transitions`.
//!
//! `incarnation` counts starts from zero.

use std::time::Instant;

use jiff::Timestamp;

use super::{PullFailure, Termination};
use crate::worker::probes::Probes;
use crate::worker::restart::Crashes;

/// Why a start failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// Its environment cannot be built: a missing ConfigMap or key.
    Config(String),
    /// The runtime refused it.
    Run(String),
    /// There is no place for it now.
    Full(String),
}

impl StartFailure {
    /// The waiting reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "CreateContainerConfigError",
            Self::Run(_) | Self::Full(_) => "RunContainerError",
        }
    }

    /// The waiting message.
    pub fn message(&self) -> &str {
        match self {
            Self::Config(message) | Self::Run(message) | Self::Full(message) => message,
        }
    }

    /// Whether it is the end of a container that is not started again.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Run(_) => true,
            // Objects may come and places may be freed: Kubernetes waits for both.
            Self::Config(_) | Self::Full(_) => false,
        }
    }
}

/// A running incarnation.
#[derive(Clone, Debug)]
pub struct Running {
    pub incarnation: u32,
    pub since: Timestamp,
    pub(super) since_instant: Instant,
    /// Its `postStart` hook has not ended: it counts as started after that, and is not asked before.
    pub(super) is_hooking: bool,
    pub(super) probes: Probes,
}

impl Running {
    /// Whether it is past its `postStart` hook and its startup probe.
    pub fn is_started(&self) -> bool {
        !self.is_hooking && self.probes.is_started()
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.is_hooking && self.probes.is_ready()
    }
}

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStep {
    /// Its `preStop` hook is at work.
    Hooking,
    /// It was asked to stop, or killed.
    Asked,
}

/// Where a container stands.
#[derive(Clone, Debug)]
pub enum Run {
    /// Its turn has not come.
    Idle,
    Pulling {
        attempts: u32,
    },
    PullBackOff {
        attempts: u32,
        until: Instant,
        failure: PullFailure,
    },
    Starting {
        incarnation: u32,
        attempts: u32,
    },
    StartBackOff {
        attempts: u32,
        until: Instant,
        failure: StartFailure,
    },
    Running(Running),
    /// On its way out: because a probe or its `postStart` hook failed, then the restart policy
    /// judges it and `kill_at` is its own; or because the pod ends.
    Stopping {
        running: Running,
        step: StopStep,
        kill_at: Option<Instant>,
    },
    CrashBackOff {
        until: Instant,
    },
    Done,
}

/// A container and its past.
#[derive(Clone, Debug)]
pub struct ContainerRun {
    pub run: Run,
    /// Starts so far.
    pub starts: u32,
    pub(super) crashes: Crashes,
    /// The latest ending, and the one before it.
    pub last: Option<Termination>,
    pub previous: Option<Termination>,
    pub image_id: Option<String>,
    /// Whether it passed its startup once in this sandbox.
    pub was_started: bool,
}

impl ContainerRun {
    pub(super) fn new() -> Self {
        Self {
            run: Run::Idle,
            starts: 0,
            crashes: Crashes::default(),
            last: None,
            previous: None,
            image_id: None,
            was_started: false,
        }
    }

    /// Restarts as the API counts them.
    pub fn restart_count(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.run, Run::Idle)
    }

    pub fn is_done(&self) -> bool {
        matches!(self.run, Run::Done)
    }

    /// The incarnation that runs now.
    pub fn running(&self) -> Option<&Running> {
        match &self.run {
            Run::Running(running) | Run::Stopping { running, .. } => Some(running),
            Run::Idle
            | Run::Pulling { .. }
            | Run::PullBackOff { .. }
            | Run::Starting { .. }
            | Run::StartBackOff { .. }
            | Run::CrashBackOff { .. }
            | Run::Done => None,
        }
    }

    /// Whether it may get traffic: running, and by its probes ready.
    pub fn is_ready(&self) -> bool {
        match &self.run {
            Run::Running(running) => running.is_ready(),
            Run::Idle
            | Run::Pulling { .. }
            | Run::PullBackOff { .. }
            | Run::Starting { .. }
            | Run::StartBackOff { .. }
            | Run::Stopping { .. }
            | Run::CrashBackOff { .. }
            | Run::Done => false,
        }
    }

    pub(super) fn has_succeeded_for_good(&self) -> bool {
        self.is_done() && self.last.as_ref().is_some_and(|last| last.code == 0)
    }

    pub(super) fn has_failed_for_good(&self) -> bool {
        self.is_done() && self.last.as_ref().is_none_or(|last| last.code != 0)
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        match &self.run {
            Run::PullBackOff { until, .. }
            | Run::StartBackOff { until, .. }
            | Run::CrashBackOff { until } => Some(*until),
            Run::Running(running) if running.is_hooking => None,
            Run::Running(running) => running.probes.next(),
            Run::Stopping { kill_at, .. } => *kill_at,
            Run::Idle | Run::Pulling { .. } | Run::Starting { .. } | Run::Done => None,
        }
    }

    /// Writes an ending into the past.
    pub(super) fn terminate(&mut self, termination: Termination) {
        self.previous = self.last.replace(termination);
    }

    pub(super) fn attempts(&self) -> u32 {
        match &self.run {
            Run::Pulling { attempts }
            | Run::PullBackOff { attempts, .. }
            | Run::Starting { attempts, .. }
            | Run::StartBackOff { attempts, .. } => *attempts,
            Run::Idle
            | Run::Running(_)
            | Run::Stopping { .. }
            | Run::CrashBackOff { .. }
            | Run::Done => 0,
        }
    }
}
