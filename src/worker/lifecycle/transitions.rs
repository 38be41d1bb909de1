//! The moves of one container: pull, start, run, end, again.
//!
//! An event that names another incarnation than the current one is late news and changes nothing.

use std::time::{Duration, Instant};

use super::{
    Effect, Lifecycle, Now, PodFailure, PullFailure, PullProblem, Run, Running, Stage,
    StartFailure, StopStep, Termination, TerminationReason,
};
use crate::backoff::Backoff;
use crate::runtime::spec::{Exit, ExitReason};
use crate::worker::probes::{Kind, Outcome, Probes};
use crate::worker::restart::{Decision, decide};

/// The exit code of a container that never ran, as in Kubernetes.
const START_ERROR: i32 = 128;
const MISSING_RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
/// After this many quick tries a missing image is treated like any other failure.
const QUICK_TRIES: u32 = 12;
const PULL_RETRY: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_mins(5));
const START_RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_mins(1));

impl Lifecycle {
    pub(super) fn pull(&mut self, index: usize, effects: &mut Vec<Effect>) {
        let attempts = self.containers[index].attempts();
        self.containers[index].run = Run::Pulling { attempts };
        effects.push(Effect::Pull { container: index });
    }

    pub(super) fn on_pulled(
        &mut self,
        index: usize,
        result: Result<String, PullFailure>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let jitter = self.plan.jitter;
        let container = &mut self.containers[index];
        let (Stage::Live, Run::Pulling { attempts }) = (&self.stage, &container.run) else {
            return;
        };
        match result {
            Ok(image_id) => {
                container.image_id = Some(image_id);
                self.start(index, 0, effects);
            }
            Err(failure) => {
                let attempts = attempts.saturating_add(1);
                let until = now.instant + pull_delay(&failure, attempts, jitter);
                let reason = match failure.problem {
                    PullProblem::Never => "ErrImageNeverPull",
                    PullProblem::CompileTimeout => "CompileTimeout",
                    PullProblem::Missing | PullProblem::Other => "Failed",
                };
                effects.push(Effect::warning(reason, failure.message.clone(), index));
                container.run = Run::PullBackOff {
                    attempts,
                    until,
                    failure,
                };
            }
        }
    }

    pub(super) fn start(&mut self, index: usize, attempts: u32, effects: &mut Vec<Effect>) {
        let container = &mut self.containers[index];
        let incarnation = container.starts;
        container.run = Run::Starting {
            incarnation,
            attempts,
        };
        effects.push(Effect::Start {
            container: index,
            incarnation,
        });
    }

    pub(super) fn on_started(
        &mut self,
        (index, incarnation): (usize, u32),
        result: Result<(), StartFailure>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Run::Starting {
            incarnation: current,
            attempts,
        } = self.containers[index].run
        else {
            return;
        };
        if current != incarnation {
            return;
        }
        let is_hooking = result.is_ok() && self.begin_post_start(index, effects);
        let container = &mut self.containers[index];
        match result {
            Ok(()) => {
                container.starts = container.starts.saturating_add(1);
                let running = Running {
                    incarnation,
                    since: now.wall,
                    since_instant: now.instant,
                    is_hooking,
                    probes: Probes::new(&self.plan.containers[index].probes, now.instant),
                };
                container.was_started |= running.is_started();
                container.run = Run::Running(running);
                self.started_while_ending(index, effects);
            }
            Err(failure) => {
                let attempts = attempts.saturating_add(1);
                let message = failure.message().to_owned();
                effects.push(Effect::warning("Failed", message.clone(), index));
                let role = self.plan.containers[index].role;
                let decision = decide(self.plan.restart_policy, role, START_ERROR);
                container.run = match &self.stage {
                    Stage::Live if failure.is_final() && decision == Decision::Stay => {
                        container.terminate(Termination {
                            incarnation,
                            code: START_ERROR,
                            reason: TerminationReason::StartError,
                            message,
                            started_at: now.wall,
                            finished_at: now.wall,
                        });
                        Run::Done
                    }
                    Stage::Live => Run::StartBackOff {
                        attempts,
                        until: now.instant + START_RETRY.delay(attempts),
                        failure,
                    },
                    Stage::Preparing { .. } | Stage::Ending(_) | Stage::Finished | Stage::Gone => {
                        Run::Idle
                    }
                };
            }
        }
    }

    pub(super) fn on_exited(
        &mut self,
        (index, incarnation): (usize, u32),
        exit: &Exit,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let plan = &self.plan.containers[index];
        let Some(running) = self.containers[index].running() else {
            return;
        };
        if running.incarnation != incarnation {
            return;
        }
        let ran_for = now.instant.saturating_duration_since(running.since_instant);
        let started_at = running.since;
        let (reason, message) = self.judged(index, exit);
        let container = &mut self.containers[index];
        let termination = Termination {
            incarnation,
            code: exit.code,
            reason,
            message,
            started_at,
            finished_at: now.wall,
        };
        container.terminate(termination);
        let is_live = matches!(self.stage, Stage::Live);
        container.run = match decide(self.plan.restart_policy, plan.role, exit.code) {
            Decision::Restart if is_live => {
                let delay = container.crashes.count(ran_for, self.plan.jitter);
                if !delay.is_zero() {
                    let name = &plan.name;
                    let message = format!("Back-off restarting failed container {name} in pod");
                    effects.push(Effect::warning("BackOff", message, index));
                }
                Run::CrashBackOff {
                    until: now.instant + delay,
                }
            }
            Decision::Restart | Decision::Stay => Run::Done,
        };
    }

    /// Reason and message of an end; a kill is explained by who wanted it.
    fn judged(&self, index: usize, exit: &Exit) -> (TerminationReason, String) {
        let is_deadline = |failure: &PodFailure| failure.reason == "DeadlineExceeded";
        let reason = match exit.reason {
            ExitReason::Killed if self.failure.as_ref().is_some_and(is_deadline) => {
                TerminationReason::DeadlineExceeded
            }
            reason => reason.into(),
        };
        let is_stopping = matches!(self.containers[index].run, Run::Stopping { .. });
        let message = match exit.reason {
            ExitReason::Killed if exit.message.is_empty() && is_stopping => {
                "killed: it did not stop within its grace period".to_owned()
            }
            ExitReason::Completed
            | ExitReason::Error
            | ExitReason::OomKilled
            | ExitReason::DeadlineExceeded
            | ExitReason::Killed => exit.message.clone(),
        };
        (reason, message)
    }

    pub(super) fn on_probed(
        &mut self,
        (index, incarnation, kind): (usize, u32, Kind),
        result: Result<(), String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let plan = &self.plan.containers[index];
        let container = &mut self.containers[index];
        let (Stage::Live, Run::Running(running)) = (&self.stage, &mut container.run) else {
            return;
        };
        if running.incarnation != incarnation || running.is_hooking {
            return;
        }
        let was_ready = running.probes.is_ready();
        let outcome = running.probes.record(kind, result.is_ok(), now.instant);
        // A program that does not answer while it begins is no news.
        let is_news = was_ready || outcome != Outcome::Unchanged;
        if let Err(message) = result
            && is_news
        {
            let message = format!("{} probe failed: {message}", kind.as_str());
            effects.push(Effect::warning("Unhealthy", message, index));
        }
        match outcome {
            Outcome::Unchanged | Outcome::Ready(_) => {}
            Outcome::Started => container.was_started = true,
            Outcome::Unhealthy => {
                let grace = plan.probes.get(kind).and_then(|spec| spec.grace);
                let kill_at = now.instant + grace.unwrap_or(self.plan.grace);
                let (name, probe) = (&plan.name, kind.as_str().to_lowercase());
                let message = format!("Container {name} failed {probe} probe, will be restarted");
                effects.push(Effect::normal("Killing", message, index));
                self.stop_one(index, Some(kill_at), effects);
            }
        }
    }

    pub(super) fn container_on_time(&mut self, index: usize, now: Now, effects: &mut Vec<Effect>) {
        let container = &mut self.containers[index];
        let is_due = |at: Instant| at <= now.instant;
        match &mut container.run {
            Run::PullBackOff { until, .. } | Run::CrashBackOff { until } if is_due(*until) => {
                self.pull(index, effects);
            }
            Run::StartBackOff {
                until, attempts, ..
            } if is_due(*until) => {
                let attempts = *attempts;
                self.start(index, attempts, effects);
            }
            Run::Running(running) if !running.is_hooking => {
                let due = running.probes.due(now.instant);
                effects.extend(due.into_iter().map(|kind| Effect::Probe {
                    container: index,
                    kind,
                }));
            }
            Run::Stopping { kill_at, step, .. } if kill_at.is_some_and(is_due) => {
                (*kill_at, *step) = (None, StopStep::Asked);
                effects.push(Effect::Kill { container: index });
            }
            Run::Idle
            | Run::Pulling { .. }
            | Run::PullBackOff { .. }
            | Run::Starting { .. }
            | Run::StartBackOff { .. }
            | Run::Running(_)
            | Run::Stopping { .. }
            | Run::CrashBackOff { .. }
            | Run::Done => {}
        }
    }
}

fn pull_delay(failure: &PullFailure, attempts: u32, jitter: f64) -> Duration {
    let is_missing = failure.problem == PullProblem::Missing;
    if is_missing && attempts <= QUICK_TRIES {
        MISSING_RETRY.delay_with_jitter(attempts, jitter)
    } else if is_missing {
        PULL_RETRY.delay_with_jitter(attempts - QUICK_TRIES, jitter)
    } else {
        PULL_RETRY.delay_with_jitter(attempts, jitter)
    }
}
