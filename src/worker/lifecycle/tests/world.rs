//! A world for the pod machine: it answers effects at once and is the only one who moves time, so
//! that minutes of back-off pass in no time.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::*;
use crate::runtime::spec::{Exit, ExitReason};
use crate::worker::plan::tests::pod;

pub(super) const TIMING: Timing = Timing {
    drain_delay: Duration::from_millis(300),
};

/// A world in which effects happen at once and time moves by hand.
pub(super) struct World {
    start: Instant,
    elapsed: Duration,
    pub(super) pod: Lifecycle,
    /// Effects not yet answered.
    pub(super) todo: Vec<Effect>,
    pub(super) running: HashMap<usize, u32>,
}

impl World {
    #[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
    pub(super) fn new(spec: Value) -> Self {
        let start = Instant::now();
        let plan = Arc::new(PodPlan::of(&pod(&spec)).unwrap());
        let now = Now {
            wall: Timestamp::UNIX_EPOCH,
            instant: start,
        };
        let (lifecycle, todo) = Lifecycle::new(plan, TIMING, now);
        Self {
            start,
            elapsed: Duration::ZERO,
            pod: lifecycle,
            todo,
            running: HashMap::new(),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall: Timestamp::UNIX_EPOCH + self.elapsed,
            instant: self.start + self.elapsed,
        }
    }

    pub(super) fn send(&mut self, event: Event) -> &mut Self {
        let effects = self.pod.step(event, self.now());
        self.todo.extend(effects);
        self
    }

    pub(super) fn sleep(&mut self, millis: u64) -> &mut Self {
        self.elapsed += Duration::from_millis(millis);
        self.send(Event::Tick)
    }

    /// Performs everything that is asked for; images are there and starts succeed.
    pub(super) fn settle(&mut self) -> &mut Self {
        while let Some(event) = self.perform_one() {
            self.send(event);
        }
        self
    }

    pub(super) fn perform_one(&mut self) -> Option<Event> {
        while !self.todo.is_empty() {
            let event = match self.todo.remove(0) {
                Effect::Prepare => Event::SandboxReady,
                Effect::Pull { container } => Event::Pulled {
                    container,
                    result: Ok("sha256:1".into()),
                },
                Effect::Start {
                    container,
                    incarnation,
                } => {
                    let before = self.running.insert(container, incarnation);
                    assert_eq!(before, None, "two incarnations of {container}");
                    Event::Started {
                        container,
                        incarnation,
                        result: Ok(()),
                    }
                }
                Effect::Kill { container } => match self.running.remove(&container) {
                    Some(incarnation) => exited(container, incarnation, 137),
                    None => continue,
                },
                Effect::Drain { .. } => Event::Drained,
                Effect::CloseSandbox => {
                    assert!(self.running.is_empty(), "closed over running containers");
                    Event::Closed
                }
                Effect::Hook { container, kind } => {
                    let Some(incarnation) = self.running.get(&container) else {
                        continue;
                    };
                    Event::Hooked {
                        container,
                        incarnation: *incarnation,
                        kind,
                        result: Ok(()),
                    }
                }
                Effect::Stop { .. }
                | Effect::Refuse
                | Effect::Probe { .. }
                | Effect::Finalize
                | Effect::Forget
                | Effect::Record { .. } => continue,
            };
            return Some(event);
        }
        None
    }

    pub(super) fn exit(&mut self, container: usize, code: i32) -> &mut Self {
        let incarnation = self.running.remove(&container).unwrap();
        self.send(exited(container, incarnation, code))
    }

    pub(super) fn running(&self) -> Vec<usize> {
        let mut running: Vec<usize> = self.running.keys().copied().collect();
        running.sort_unstable();
        running
    }
}

pub(super) fn exited(container: usize, incarnation: u32, code: i32) -> Event {
    let reason = match code {
        0 => ExitReason::Completed,
        137 => ExitReason::Killed,
        _ => ExitReason::Error,
    };
    Event::Exited {
        container,
        incarnation,
        exit: Exit {
            code,
            reason,
            message: String::new(),
        },
    }
}

pub(super) fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "m", "image": "m"}]})
}
