//! The moves of one container: pull, start, run, end, again.
//!
//! An event that names another incarnation than the current one is late news and changes nothing.

use std::time::{Duration, Instant};

use super::{Effect, Lifecycle, Now, PullFailure, Run, Running, Stage, StartFailure, Termination};
use crate::backoff::Backoff;
use crate::runtime::spec::Exit;
use crate::worker::probes::{Kind, Outcome, Probes};
use crate::worker::restart::{Decision, decide};

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
                let reason = if failure.is_never {
                    "ErrImageNeverPull"
                } else {
                    "Failed"
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
        let specs = &self.plan.containers[index].probes;
        let container = &mut self.containers[index];
        let Run::Starting {
            incarnation: current,
            attempts,
        } = container.run
        else {
            return;
        };
        if current != incarnation {
            return;
        }
        match result {
            Ok(()) => {
                container.starts = container.starts.saturating_add(1);
                let probes = Probes::new(specs, now.instant);
                container.was_started |= probes.is_started();
                container.run = Run::Running(Running {
                    incarnation,
                    since: now.wall,
                    since_instant: now.instant,
                    probes,
                });
                self.started_while_ending(index, effects);
            }
            Err(failure) => {
                let attempts = attempts.saturating_add(1);
                let message = failure.message().to_owned();
                effects.push(Effect::warning("Failed", message, index));
                container.run = match &self.stage {
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
        exit: Exit,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let plan = &self.plan.containers[index];
        let container = &mut self.containers[index];
        let Some(running) = container.running() else {
            return;
        };
        if running.incarnation != incarnation {
            return;
        }
        let ran_for = now.instant.saturating_duration_since(running.since_instant);
        let termination = Termination {
            incarnation,
            code: exit.code,
            reason: exit.reason.into(),
            message: exit.message,
            started_at: running.since,
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
        if running.incarnation != incarnation {
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
                container.run = Run::Stopping {
                    running: running.clone(),
                    kill_at: Some(now.instant + grace.unwrap_or(self.plan.grace)),
                };
                let (name, probe) = (&plan.name, kind.as_str().to_lowercase());
                let message = format!("Container {name} failed {probe} probe, will be restarted");
                effects.push(Effect::normal("Killing", message, index));
                effects.push(Effect::Stop { container: index });
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
            Run::Running(running) => {
                let due = running.probes.due(now.instant);
                effects.extend(due.into_iter().map(|kind| Effect::Probe {
                    container: index,
                    kind,
                }));
            }
            Run::Stopping { kill_at, .. } if kill_at.is_some_and(is_due) => {
                *kill_at = None;
                effects.push(Effect::Kill { container: index });
            }
            Run::Idle
            | Run::Pulling { .. }
            | Run::PullBackOff { .. }
            | Run::Starting { .. }
            | Run::StartBackOff { .. }
            | Run::Stopping { .. }
            | Run::CrashBackOff { .. }
            | Run::Done => {}
        }
    }
}

fn pull_delay(failure: &PullFailure, attempts: u32, jitter: f64) -> Duration {
    if failure.is_missing && attempts <= QUICK_TRIES {
        MISSING_RETRY.delay_with_jitter(attempts, jitter)
    } else if failure.is_missing {
        PULL_RETRY.delay_with_jitter(attempts - QUICK_TRIES, jitter)
    } else {
        PULL_RETRY.delay_with_jitter(attempts, jitter)
    }
}
