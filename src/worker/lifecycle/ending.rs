//! The way out: drain, stop, kill, close, and then stay, be deleted or be forgotten.
//!
//! The endpoint leaves first. A deleted pod goes on serving while routers learn of it and while
//! requests are in flight, at most for three quarters of its grace period; a `preStop.sleep` is part
//! of that. Then nobody outside gets a new connection, the other `preStop` hooks run, and its
//! containers are asked to stop (`hooks`), sidecars last. At the grace period's end whatever runs is
//! killed, and the sandbox closes when nothing runs any more.

use std::time::{Duration, Instant};

use super::container::{ContainerRun, Run};
use super::{Effect, Lifecycle, Now, Stage};

/// Where the way out ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The object stays with its terminal phase.
    Finish,
    /// The object is deleted.
    Finalize,
    /// The object is gone already.
    Forget,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStep {
    Draining,
    /// Asked to stop; `killed` once the grace period has passed.
    Stopping {
        killed: bool,
    },
    Closing,
}

/// A pod on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub then: Then,
    pub step: EndStep,
    /// Whether it went on serving for a while before the stop.
    pub has_drained: bool,
    /// The end of the grace period.
    pub kill_at: Instant,
}

impl Ending {
    pub(super) fn next_wake(&self) -> Option<Instant> {
        match self.step {
            EndStep::Draining | EndStep::Stopping { killed: false } => Some(self.kill_at),
            EndStep::Stopping { killed: true } | EndStep::Closing => None,
        }
    }
}

impl Lifecycle {
    /// Begins the way out, or hastens it.
    pub(super) fn end(&mut self, then: Then, grace: Duration, now: Now, effects: &mut Vec<Effect>) {
        let kill_at = now.instant + grace;
        match &mut self.stage {
            Stage::Ending(ending) => {
                ending.then = later(ending.then, then);
                ending.kill_at = ending.kill_at.min(kill_at);
            }
            Stage::Finished => self.leave(then, effects),
            Stage::Gone => {}
            Stage::Preparing { .. } | Stage::Live => {
                for container in &mut self.containers {
                    container.give_up();
                }
                let step = self.first_step(then, grace, effects);
                self.stage = Stage::Ending(Ending {
                    then,
                    step,
                    has_drained: step == EndStep::Draining,
                    kill_at,
                });
            }
        }
        self.ending_on_time(now, effects);
    }

    fn first_step(&self, then: Then, grace: Duration, effects: &mut Vec<Effect>) -> EndStep {
        let is_serving = self.containers.iter().any(ContainerRun::is_ready);
        if then == Then::Finalize && !grace.is_zero() && is_serving {
            // The rest of the grace period belongs to the guests, to stop by themselves.
            let at_most = grace * 3 / 4;
            let wanted = self.timing.drain_delay.max(self.plan.pre_stop_sleep());
            effects.push(Effect::Drain {
                at_least: wanted.min(at_most),
                at_most,
            });
            return EndStep::Draining;
        }
        if !self.containers.iter().all(ContainerRun::is_at_rest) {
            effects.push(Effect::Refuse);
        }
        EndStep::Stopping { killed: false }
    }

    pub(super) fn on_drained(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Stage::Ending(ending) = &mut self.stage
            && ending.step == EndStep::Draining
        {
            ending.step = EndStep::Stopping { killed: false };
            effects.push(Effect::Refuse);
            self.ending_on_time(now, effects);
        }
    }

    pub(super) fn on_closed(&mut self, effects: &mut Vec<Effect>) {
        if let Stage::Ending(ending) = &self.stage
            && ending.step == EndStep::Closing
        {
            let then = ending.then;
            self.leave(then, effects);
        }
    }

    pub(super) fn ending_on_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Stage::Ending(ending) = &mut self.stage else {
            return;
        };
        if now.instant < ending.kill_at {
            return;
        }
        match ending.step {
            EndStep::Draining | EndStep::Stopping { killed: false } => {
                ending.step = EndStep::Stopping { killed: true };
                let containers = self.containers.iter().enumerate();
                effects.extend(
                    containers
                        .filter(|(_, container)| container.running().is_some())
                        .map(|(container, _)| Effect::Kill { container }),
                );
            }
            EndStep::Stopping { killed: true } | EndStep::Closing => {}
        }
    }

    /// A container whose start was under way when all were killed.
    pub(super) fn started_while_ending(&self, index: usize, effects: &mut Vec<Effect>) {
        match &self.stage {
            Stage::Ending(ending) => match ending.step {
                EndStep::Stopping { killed: true } | EndStep::Closing => {
                    effects.push(Effect::Kill { container: index });
                }
                // It is stopped with the others.
                EndStep::Draining | EndStep::Stopping { killed: false } => {}
            },
            Stage::Preparing { .. } | Stage::Live | Stage::Finished | Stage::Gone => {}
        }
    }

    pub(super) fn close_if_empty(&mut self, effects: &mut Vec<Effect>) {
        let is_empty = self.containers.iter().all(ContainerRun::is_at_rest);
        if let Stage::Ending(ending) = &mut self.stage
            && is_empty
            && ending.step != EndStep::Closing
        {
            ending.step = EndStep::Closing;
            effects.push(Effect::CloseSandbox);
        }
    }

    fn leave(&mut self, then: Then, effects: &mut Vec<Effect>) {
        match then {
            Then::Finish => self.stage = Stage::Finished,
            Then::Finalize => {
                self.stage = Stage::Gone;
                effects.extend([Effect::Finalize, Effect::Forget]);
            }
            Then::Forget => {
                self.stage = Stage::Gone;
                effects.push(Effect::Forget);
            }
        }
    }
}

impl ContainerRun {
    /// Drops what has not run yet; what runs or is being started goes on.
    fn give_up(&mut self) {
        match &self.run {
            Run::Pulling { .. } | Run::PullBackOff { .. } | Run::StartBackOff { .. } => {
                self.run = if self.last.is_some() {
                    Run::Done
                } else {
                    Run::Idle
                };
            }
            Run::CrashBackOff { .. } => self.run = Run::Done,
            Run::Idle
            | Run::Starting { .. }
            | Run::Running(_)
            | Run::Stopping { .. }
            | Run::Done => {}
        }
    }

    /// Whether nothing of it runs or is about to.
    pub(super) fn is_at_rest(&self) -> bool {
        match &self.run {
            Run::Starting { .. } | Run::Running(_) | Run::Stopping { .. } => false,
            Run::Idle
            | Run::Pulling { .. }
            | Run::PullBackOff { .. }
            | Run::StartBackOff { .. }
            | Run::CrashBackOff { .. }
            | Run::Done => true,
        }
    }
}

/// Of two ways out the one that leaves less behind.
fn later(current: Then, wanted: Then) -> Then {
    match (current, wanted) {
        (Then::Forget, _) | (_, Then::Forget) => Then::Forget,
        (Then::Finalize, _) | (_, Then::Finalize) => Then::Finalize,
        (Then::Finish, Then::Finish) => Then::Finish,
    }
}
