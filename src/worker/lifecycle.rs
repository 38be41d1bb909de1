//! The life of a pod on its worker: a pure machine. The driver (`pod_worker`) performs its effects
//! and feeds it what happened; nothing here waits, reads a clock or knows the API.
//!
//! ```text
//!  Preparing ──ready──▶ Live ──all done / failed──▶ Ending ──▶ Finished ──delete──▶ Gone
//!      │                 │                          ▲ drain → refuse → hooks, stop → close
//!      └─────delete──────┴──────────────────────────┘   └──(deleted)──────────────▶ Gone
//! ```
//!
//! Inside `Live` each container has a machine of its own (`container`, `transitions`): idle → pulling → starting →
//! running → done or back-off → …; init containers go one after the other, sidecars stay.
//!
//! Invariants (`tests/properties`): a container never has two running incarnations; numbers of
//! incarnations only rise; `Finished` never becomes `Live` again; after `Gone` nothing happens.

mod container;
mod ending;
mod event;
mod hooks;
mod restore;
mod termination;
#[cfg(test)]
mod tests;
mod transitions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use container::{ContainerRun, Run, Running, StartFailure, StopStep};
pub use ending::{EndStep, Ending, Then};
pub use event::{Effect, Event, PullFailure, PullProblem};
pub use restore::{Saved, SavedContainer};
pub use termination::{Termination, TerminationReason};

use super::plan::PodPlan;
use super::restart::Role;
use crate::backoff::Backoff;

/// Both readings of the clock at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall: Timestamp,
    pub instant: Instant,
}

/// Where the pod stands.
#[derive(Clone, Debug)]
pub enum Stage {
    /// The sandbox is being made, or its making is tried again at `retry_at`.
    Preparing {
        attempts: u32,
        retry_at: Option<Instant>,
        message: String,
    },
    /// The sandbox is there.
    Live,
    /// Containers are being stopped, then the sandbox.
    Ending(Ending),
    /// Every container has stopped for good; the object stays until it is deleted.
    Finished,
    /// Nothing is left here.
    Gone,
}

/// Why the pod as a whole failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFailure {
    pub reason: String,
    pub message: String,
}

/// Delays that the operator chooses.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long routers get to see that a terminating pod takes no new requests.
    pub drain_delay: Duration,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    pub(super) plan: Arc<PodPlan>,
    pub(super) timing: Timing,
    pub(super) stage: Stage,
    pub(super) containers: Vec<ContainerRun>,
    pub(super) started_at: Timestamp,
    pub(super) deadline: Option<Instant>,
    pub(super) failure: Option<PodFailure>,
}

/// Volumes and addresses that are not there yet usually appear soon.
const PREPARE_RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_mins(2));

impl Lifecycle {
    /// A pod seen for the first time; its first effect is to prepare the sandbox.
    pub fn new(plan: Arc<PodPlan>, timing: Timing, now: Now) -> (Self, Vec<Effect>) {
        let containers = plan
            .containers
            .iter()
            .map(|_| ContainerRun::new())
            .collect();
        let lifecycle = Self {
            deadline: plan.active_deadline.map(|length| now.instant + length),
            plan,
            timing,
            stage: Stage::Preparing {
                attempts: 0,
                retry_at: None,
                message: String::new(),
            },
            containers,
            started_at: now.wall,
            failure: None,
        };
        (lifecycle, vec![Effect::Prepare])
    }

    /// A pod that cannot run here: failed before it began.
    pub fn refused(plan: Arc<PodPlan>, timing: Timing, failure: PodFailure, now: Now) -> Self {
        let (mut lifecycle, _) = Self::new(plan, timing, now);
        lifecycle.stage = Stage::Finished;
        lifecycle.failure = Some(failure);
        lifecycle
    }

    /// Takes an event; what must be done is returned in order.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::SandboxReady => self.on_sandbox_ready(),
            Event::SandboxFailed { reason, message } => {
                self.on_sandbox_failed(reason, message, now, &mut effects);
            }
            Event::Pulled { container, result } => {
                self.on_pulled(container, result, now, &mut effects);
            }
            Event::Started {
                container,
                incarnation,
                result,
            } => self.on_started((container, incarnation), result, now, &mut effects),
            Event::Exited {
                container,
                incarnation,
                exit,
            } => self.on_exited((container, incarnation), &exit, now, &mut effects),
            Event::Probed {
                container,
                incarnation,
                kind,
                result,
            } => self.on_probed((container, incarnation, kind), result, now, &mut effects),
            Event::Hooked {
                container,
                incarnation,
                kind,
                result,
            } => self.on_hooked((container, incarnation, kind), result, now, &mut effects),
            Event::Extended(plan) => self.on_extended(plan),
            Event::Delete { grace } => self.end(Then::Finalize, grace, now, &mut effects),
            Event::Removed => self.end(Then::Forget, Duration::ZERO, now, &mut effects),
            Event::Drained => self.on_drained(now, &mut effects),
            Event::Closed => self.on_closed(&mut effects),
            Event::Tick => {}
        }
        self.on_time(now, &mut effects);
        self.advance(now, &mut effects);
        self.stop_next(&mut effects);
        self.close_if_empty(&mut effects);
        effects
    }

    /// When the machine wants [`Event::Tick`] at the latest.
    pub fn next_wake(&self) -> Option<Instant> {
        let containers = || self.containers.iter().filter_map(ContainerRun::next_wake);
        match &self.stage {
            Stage::Preparing { retry_at, .. } => earliest([*retry_at, self.deadline]),
            Stage::Live => earliest(containers().map(Some).chain([self.deadline])),
            Stage::Ending(ending) => ending.next_wake(),
            Stage::Finished | Stage::Gone => None,
        }
    }

    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    pub fn plan(&self) -> &PodPlan {
        &self.plan
    }

    pub fn containers(&self) -> &[ContainerRun] {
        &self.containers
    }

    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub fn failure(&self) -> Option<&PodFailure> {
        self.failure.as_ref()
    }

    /// Whether every init container has done its duty.
    pub fn is_initialized(&self) -> bool {
        self.with_roles()
            .all(|(role, container)| is_passed(role, container))
    }

    fn with_roles(&self) -> impl Iterator<Item = (Role, &ContainerRun)> {
        let roles = self.plan.containers.iter().map(|container| container.role);
        roles.zip(&self.containers)
    }

    /// Ephemeral containers are added at the end and never go.
    fn on_extended(&mut self, plan: Arc<PodPlan>) {
        match &self.stage {
            Stage::Preparing { .. } | Stage::Live | Stage::Ending(_) => {}
            Stage::Finished | Stage::Gone => return,
        }
        if plan.containers.len() > self.containers.len() {
            self.containers
                .resize_with(plan.containers.len(), ContainerRun::new);
            self.plan = plan;
        }
    }

    fn on_sandbox_ready(&mut self) {
        match &self.stage {
            Stage::Preparing { .. } => self.stage = Stage::Live,
            // It was prepared for a pod that is ending: the driver closes it.
            Stage::Live | Stage::Ending(_) | Stage::Finished | Stage::Gone => {}
        }
    }

    fn on_sandbox_failed(
        &mut self,
        reason: &'static str,
        text: String,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        match &mut self.stage {
            Stage::Preparing {
                attempts,
                retry_at,
                message,
            } => {
                *attempts = attempts.saturating_add(1);
                *retry_at = Some(now.instant + PREPARE_RETRY.delay(*attempts));
                message.clone_from(&text);
                effects.push(Effect::Record {
                    is_warning: true,
                    reason,
                    message: text,
                    container: None,
                });
            }
            Stage::Live | Stage::Ending(_) | Stage::Finished | Stage::Gone => {}
        }
    }

    /// What is due by time alone.
    fn on_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now.instant);
        match &mut self.stage {
            Stage::Preparing { .. } | Stage::Live if is_due(self.deadline) => {
                self.failure = Some(PodFailure {
                    reason: "DeadlineExceeded".to_owned(),
                    message: "Pod was active on the node longer than the specified deadline"
                        .to_owned(),
                });
                self.end(Then::Finish, self.plan.grace, now, effects);
            }
            Stage::Preparing { retry_at, .. } => {
                if is_due(*retry_at) {
                    *retry_at = None;
                    effects.push(Effect::Prepare);
                }
            }
            Stage::Live => {
                for index in 0..self.containers.len() {
                    self.container_on_time(index, now, effects);
                }
            }
            Stage::Ending(_) => self.ending_on_time(now, effects),
            Stage::Finished | Stage::Gone => {}
        }
    }

    /// Starts whatever may start now, and ends the pod when all is done.
    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        match &self.stage {
            Stage::Live => {}
            Stage::Preparing { .. } | Stage::Ending(_) | Stage::Finished | Stage::Gone => return,
        }
        // They look into the pod whatever it is at.
        for index in 0..self.containers.len() {
            if self.plan.containers[index].role == Role::Ephemeral
                && self.containers[index].is_idle()
            {
                self.pull(index, effects);
            }
        }
        for index in 0..self.containers.len() {
            let role = self.plan.containers[index].role;
            if self.containers[index].is_idle() {
                self.pull(index, effects);
            }
            let container = &self.containers[index];
            if role == Role::Init && container.has_failed_for_good() {
                return self.end(Then::Finish, self.plan.grace, now, effects);
            }
            if !is_passed(role, container) {
                return;
            }
        }
        let is_over = self
            .with_roles()
            .filter(|(role, _)| *role == Role::Main)
            .all(|(_, container)| container.is_done());
        if is_over {
            self.end(Then::Finish, self.plan.grace, now, effects);
        }
    }
}

/// Whether the containers after this one may start.
fn is_passed(role: Role, container: &ContainerRun) -> bool {
    match role {
        Role::Init => container.has_succeeded_for_good(),
        Role::Sidecar => container.was_started,
        Role::Main | Role::Ephemeral => true,
    }
}

fn earliest(instants: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    instants.into_iter().flatten().min()
}
