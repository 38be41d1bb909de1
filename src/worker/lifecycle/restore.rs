//! What of a pod's life outlives the worker's process, and how life goes on from it.
//!
//! WASI instances die with their process, and the pod's filesystem with them. So a pod that is
//! still bound here gets a new sandbox: init containers run again, containers that had ended for
//! good stay ended, the others count as killed and are judged by the restart policy, without
//! back-off, for it was not their fault. Counts of starts never go down.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::container::{ContainerRun, Run};
use super::{Effect, Lifecycle, Now, PodFailure, Stage, Termination, TerminationReason, Timing};
use crate::worker::plan::PodPlan;
use crate::worker::restart::{Decision, Role, decide};

/// A pod's past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The pod had reached a terminal phase.
    pub is_finished: bool,
    pub started_at: Option<Timestamp>,
    pub containers: Vec<SavedContainer>,
    /// Why the pod as a whole failed, if it did.
    #[serde(default)]
    pub failure: Option<PodFailure>,
}

/// A container's past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedContainer {
    pub name: String,
    pub starts: u32,
    /// Ended for good.
    pub is_done: bool,
    /// Since when it ran, if it did.
    pub running_since: Option<Timestamp>,
    pub last: Option<Termination>,
    pub previous: Option<Termination>,
}

impl Lifecycle {
    /// What to keep.
    pub fn save(&self) -> Saved {
        let containers = self.plan.containers.iter().zip(&self.containers);
        Saved {
            is_finished: matches!(self.stage, Stage::Finished),
            started_at: Some(self.started_at),
            containers: containers
                .map(|(plan, run)| SavedContainer {
                    name: plan.name.clone(),
                    starts: run.starts,
                    is_done: run.is_done(),
                    running_since: run.running().map(|running| running.since),
                    last: run.last.clone(),
                    previous: run.previous.clone(),
                })
                .collect(),
            failure: self.failure.clone(),
        }
    }

    /// Goes on from a past.
    pub fn restore(
        plan: &Arc<PodPlan>,
        timing: Timing,
        saved: &Saved,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let (mut lifecycle, effects) = Self::new(Arc::clone(plan), timing, now);
        if let Some(started_at) = saved.started_at {
            lifecycle.started_at = started_at;
            let elapsed = now.wall.duration_since(started_at).unsigned_abs();
            let length = plan.active_deadline;
            lifecycle.deadline = length.map(|length| now.instant + length.saturating_sub(elapsed));
        }
        for (index, container) in plan.containers.iter().enumerate() {
            let mut past = saved.containers.iter();
            if let Some(past) = past.find(|past| past.name == container.name) {
                let run = &mut lifecycle.containers[index];
                run.remember(past, now);
                let code = run.last.as_ref().map(|last| last.code);
                let stays = |code| decide(plan.restart_policy, container.role, code);
                let is_over = match container.role {
                    Role::Init | Role::Sidecar => saved.is_finished && past.is_done,
                    // It was there to look at what is gone.
                    Role::Ephemeral => past.starts > 0,
                    Role::Main => {
                        let killed = past.running_since.is_some();
                        past.is_done || killed && code.map(stays) == Some(Decision::Stay)
                    }
                };
                if is_over {
                    run.run = Run::Done;
                }
            }
        }
        if saved.is_finished {
            lifecycle.failure.clone_from(&saved.failure);
            lifecycle.stage = Stage::Finished;
            return (lifecycle, Vec::new());
        }
        (lifecycle, effects)
    }
}

impl ContainerRun {
    fn remember(&mut self, past: &SavedContainer, now: Now) {
        self.starts = past.starts;
        self.last.clone_from(&past.last);
        self.previous.clone_from(&past.previous);
        if let Some(started_at) = past.running_since {
            self.terminate(Termination {
                incarnation: past.starts.saturating_sub(1),
                code: 137,
                reason: TerminationReason::Unknown,
                message: "the worker process ended, and the container with it".to_owned(),
                started_at,
                finished_at: now.wall,
            });
        }
    }
}
