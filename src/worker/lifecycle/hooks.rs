//! Stopping one container, and the hooks around a container's life.
//!
//! `postStart` runs beside the program; until it has ended the container is neither started nor
//! asked, and its failure ends the container. `preStop` runs before the program is asked to stop, in
//! the time of its grace period; its failure is told and changes nothing.

use std::time::Instant;

use super::container::{Run, Running, StopStep};
use super::{Effect, EndStep, Lifecycle, Now, Stage};
use crate::worker::plan::{Hook, HookKind};
use crate::worker::probes::Probes;
use crate::worker::restart::Role;

impl Lifecycle {
    /// Whether a start is followed by a hook; only in a pod that lives.
    pub(super) fn begin_post_start(&self, index: usize, effects: &mut Vec<Effect>) -> bool {
        let has_hook = self.plan.containers[index].hooks.post_start.is_some();
        let is_hooking = has_hook && matches!(self.stage, Stage::Live);
        if is_hooking {
            effects.push(Effect::Hook {
                container: index,
                kind: HookKind::PostStart,
            });
        }
        is_hooking
    }

    pub(super) fn on_hooked(
        &mut self,
        (index, incarnation, kind): (usize, u32, HookKind),
        result: Result<(), String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(running) = self.containers[index].running() else {
            return;
        };
        if running.incarnation != incarnation {
            return;
        }
        let has_failed = result.is_err();
        if let Err(message) = result {
            effects.push(Effect::warning(kind.failure(), message, index));
        }
        match kind {
            HookKind::PostStart if has_failed => {
                let message = format!(
                    "Container {} failed its postStart hook",
                    self.plan.containers[index].name
                );
                effects.push(Effect::normal("Killing", message, index));
                let kill_at = now.instant + self.plan.grace;
                self.stop_one(index, Some(kill_at), effects);
            }
            HookKind::PostStart => self.end_post_start(index, now),
            HookKind::PreStop => self.end_pre_stop(index, effects),
        }
    }

    fn end_post_start(&mut self, index: usize, now: Now) {
        let specs = &self.plan.containers[index].probes;
        let container = &mut self.containers[index];
        if let Run::Running(running) = &mut container.run {
            running.is_hooking = false;
            running.probes = Probes::new(specs, now.instant);
            container.was_started |= running.probes.is_started();
        }
    }

    fn end_pre_stop(&mut self, index: usize, effects: &mut Vec<Effect>) {
        if let Run::Stopping { step, .. } = &mut self.containers[index].run
            && *step == StopStep::Hooking
        {
            *step = StopStep::Asked;
            effects.push(Effect::Stop { container: index });
        }
    }

    /// Begins the stop of a running container.
    pub(super) fn stop_one(
        &mut self,
        index: usize,
        kill_at: Option<Instant>,
        effects: &mut Vec<Effect>,
    ) {
        let has_hook = self.has_pre_stop_left(index);
        let Run::Running(running) = &self.containers[index].run else {
            return;
        };
        let running: Running = running.clone();
        let (step, effect) = if has_hook {
            let kind = HookKind::PreStop;
            let container = index;
            (StopStep::Hooking, Effect::Hook { container, kind })
        } else {
            (StopStep::Asked, Effect::Stop { container: index })
        };
        effects.push(effect);
        self.containers[index].run = Run::Stopping {
            running,
            step,
            kill_at,
        };
    }

    /// A `preStop.sleep` has been waited for while the pod drained, serving all the time.
    fn has_pre_stop_left(&self, index: usize) -> bool {
        let has_drained = match &self.stage {
            Stage::Ending(ending) => ending.has_drained,
            Stage::Preparing { .. } | Stage::Live | Stage::Finished | Stage::Gone => false,
        };
        match &self.plan.containers[index].hooks.pre_stop {
            None => false,
            Some(Hook::Sleep(_)) => !has_drained,
            Some(Hook::Ask(_)) => true,
        }
    }

    /// Stops what may be stopped now: all but sidecars at once, then the sidecars one after the
    /// other, the last one first, so that each outlives those that were started after it.
    pub(super) fn stop_next(&mut self, effects: &mut Vec<Effect>) {
        match &self.stage {
            Stage::Ending(ending) if ending.step == (EndStep::Stopping { killed: false }) => {}
            Stage::Preparing { .. }
            | Stage::Live
            | Stage::Ending(_)
            | Stage::Finished
            | Stage::Gone => return,
        }
        let mut others_rest = true;
        for index in (0..self.containers.len()).rev() {
            let is_sidecar = self.plan.containers[index].role == Role::Sidecar;
            if self.containers[index].is_at_rest() || is_sidecar {
                continue;
            }
            others_rest = false;
            self.stop_in_pod(index, effects);
        }
        let sidecars = (0..self.containers.len()).rev();
        let mut waiting = sidecars.filter(|index| !self.containers[*index].is_at_rest());
        if others_rest && let Some(last) = waiting.next() {
            self.stop_in_pod(last, effects);
        }
    }

    fn stop_in_pod(&mut self, index: usize, effects: &mut Vec<Effect>) {
        if matches!(self.containers[index].run, Run::Running(_)) {
            let message = format!("Stopping container {}", self.plan.containers[index].name);
            effects.push(Effect::normal("Killing", message, index));
            self.stop_one(index, None, effects);
        }
    }
}
