//! Tables and properties of the pod machine.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::runtime::spec::ExitReason;
use crate::worker::plan::tests::pod;
use crate::worker::restart::RestartPolicy;

const TIMING: Timing = Timing {
    drain_delay: Duration::from_millis(300),
};

/// A world in which effects happen at once and time moves by hand.
struct World {
    start: Instant,
    elapsed: Duration,
    pod: Lifecycle,
    /// Effects not yet answered.
    todo: Vec<Effect>,
    running: HashMap<usize, u32>,
}

impl World {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "cases read better without `&`"
    )]
    fn new(spec: Value) -> Self {
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

    fn now(&self) -> Now {
        Now {
            wall: Timestamp::UNIX_EPOCH + self.elapsed,
            instant: self.start + self.elapsed,
        }
    }

    fn send(&mut self, event: Event) -> &mut Self {
        let effects = self.pod.step(event, self.now());
        self.todo.extend(effects);
        self
    }

    fn sleep(&mut self, millis: u64) -> &mut Self {
        self.elapsed += Duration::from_millis(millis);
        self.send(Event::Tick)
    }

    /// Performs everything that is asked for; images are there and starts succeed.
    fn settle(&mut self) -> &mut Self {
        while let Some(event) = self.perform_one() {
            self.send(event);
        }
        self
    }

    fn perform_one(&mut self) -> Option<Event> {
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
                Effect::Stop { .. }
                | Effect::Probe { .. }
                | Effect::Finalize
                | Effect::Forget
                | Effect::Record { .. } => continue,
            };
            return Some(event);
        }
        None
    }

    fn exit(&mut self, container: usize, code: i32) -> &mut Self {
        let incarnation = self.running.remove(&container).unwrap();
        self.send(exited(container, incarnation, code))
    }

    fn running(&self) -> Vec<usize> {
        let mut running: Vec<usize> = self.running.keys().copied().collect();
        running.sort_unstable();
        running
    }
}

fn exited(container: usize, incarnation: u32, code: i32) -> Event {
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

fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "m", "image": "m"}]})
}

#[test]
fn a_pod_comes_up_and_a_deletion_takes_it_down_in_order() {
    let mut world = World::new(one("Always"));
    world.settle();
    assert_eq!(world.running(), [0]);
    assert!(world.pod.containers()[0].is_ready());
    world.send(Event::Delete {
        grace: Duration::from_secs(4),
    });
    let drain = Effect::Drain {
        at_least: Duration::from_millis(300),
        at_most: Duration::from_secs(3),
    };
    assert_eq!(world.todo, [drain], "the endpoint goes first");
    world.settle();
    assert_eq!(world.running(), [0], "asked to stop, not killed");
    world.sleep(3999).settle();
    assert_eq!(world.running(), [0]);
    world.sleep(1).settle();
    assert!(world.running.is_empty());
    assert!(matches!(world.pod.stage(), Stage::Gone));
}

#[test]
fn a_guest_that_stops_by_itself_ends_the_grace_period() {
    let mut world = World::new(one("Always"));
    world.settle().send(Event::Delete {
        grace: Duration::from_secs(30),
    });
    world.settle().exit(0, 0);
    let finale: Vec<_> = world.todo.iter().rev().take(1).cloned().collect();
    assert_eq!(finale, [Effect::CloseSandbox]);
    world.send(Event::Closed);
    assert!(world.todo.ends_with(&[Effect::Finalize, Effect::Forget]));
}

#[test]
fn no_grace_kills_at_once() {
    let mut world = World::new(one("Always"));
    world.settle();
    world.send(Event::Delete {
        grace: Duration::ZERO,
    });
    assert!(world.todo.contains(&Effect::Kill { container: 0 }));
    world.settle();
    assert!(matches!(world.pod.stage(), Stage::Gone));
}

#[test]
fn init_containers_run_one_after_the_other() {
    let mut world = World::new(json!({
        "initContainers": [{"name": "a", "image": "a"}, {"name": "s", "image": "s", "restartPolicy": "Always"}, {"name": "b", "image": "b"}],
        "containers": [{"name": "m", "image": "m"}],
    }));
    world.settle();
    assert_eq!(world.running(), [0]);
    world.exit(0, 1).settle();
    assert_eq!(world.running(), [0]);
    world.exit(0, 0).settle();
    assert_eq!(
        world.running(),
        [1, 2],
        "the sidecar stays, the next begins"
    );
    world.exit(2, 0).settle();
    assert_eq!(world.running(), [1, 3]);
    assert!(world.pod.is_initialized());
}

#[test]
fn a_failed_init_container_with_never_fails_the_pod() {
    let mut spec = one("Never");
    spec["initContainers"] = json!([{"name": "i", "image": "i"}]);
    let mut world = World::new(spec);
    world.settle().exit(0, 3).settle();
    assert!(matches!(world.pod.stage(), Stage::Finished));
    assert_eq!(world.pod.containers()[1].starts, 0);
}

#[test]
fn a_job_like_pod_finishes_and_stays_until_it_is_deleted() {
    let mut world = World::new(one("OnFailure"));
    world.settle().exit(0, 0).settle();
    assert!(matches!(world.pod.stage(), Stage::Finished));
    assert_eq!(world.pod.next_wake(), None);
    world.send(Event::Delete {
        grace: Duration::from_secs(30),
    });
    assert!(matches!(world.pod.stage(), Stage::Gone));
    assert!(world.todo.ends_with(&[Effect::Finalize, Effect::Forget]));
}

#[test]
fn sidecars_stop_when_the_main_containers_are_done() {
    let mut spec = one("Never");
    spec["initContainers"] = json!([{"name": "s", "image": "s", "restartPolicy": "Always"}]);
    let mut world = World::new(spec);
    world.settle().exit(1, 0);
    assert!(world.todo.contains(&Effect::Stop { container: 0 }));
    world.exit(0, 0).settle();
    assert!(matches!(world.pod.stage(), Stage::Finished));
}

#[test]
fn crash_loops_wait_longer_each_time() {
    let mut world = World::new(one("Always"));
    world.settle();
    for wait in [0_u64, 10, 20] {
        world.exit(0, 1).settle();
        if wait > 0 {
            world.sleep(wait * 1000 - 1).settle();
            assert!(world.running.is_empty());
        }
        // The jitter adds at most a tenth.
        world.sleep(wait * 100 + 2).settle();
        assert_eq!(world.running(), [0], "after {wait} s");
    }
    assert_eq!(world.pod.containers()[0].restart_count(), 3);
}

#[test]
fn a_missing_image_is_asked_for_again_soon() {
    let mut world = World::new(one("Always"));
    world.todo.clear();
    world.send(Event::SandboxReady);
    for _ in 0..3 {
        world.todo.clear();
        world.send(Event::Pulled {
            container: 0,
            result: Err(PullFailure {
                is_missing: true,
                is_never: false,
                message: "module not found".into(),
            }),
        });
        assert!(matches!(
            world.pod.containers()[0].run,
            Run::PullBackOff { .. }
        ));
        world.sleep(1200);
        assert!(world.todo.contains(&Effect::Pull { container: 0 }));
    }
}

#[test]
fn failing_liveness_restarts_the_container_alone() {
    let mut world = World::new(json!({"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "m", "image": "m", "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 1}}, {"name": "n", "image": "n"}]}));
    world.settle();
    world.send(Event::Probed {
        container: 0,
        incarnation: 0,
        kind: Kind::Liveness,
        result: Err("refused".into()),
    });
    assert!(world.todo.contains(&Effect::Stop { container: 0 }));
    world.sleep(1000).settle();
    assert_eq!(world.running(), [0, 1]);
    assert_eq!(world.pod.containers()[0].restart_count(), 1);
    assert_eq!(world.pod.containers()[1].restart_count(), 0);
}

#[test]
fn late_news_of_an_old_incarnation_changes_nothing() {
    let mut world = World::new(one("Always"));
    world.settle().exit(0, 1).settle();
    assert_eq!(world.running.get(&0), Some(&1));
    world.send(exited(0, 0, 1));
    assert!(world.pod.containers()[0].running().is_some());
}

#[test]
fn the_active_deadline_fails_the_pod() {
    let mut spec = one("Always");
    spec["activeDeadlineSeconds"] = json!(5);
    spec["terminationGracePeriodSeconds"] = json!(1);
    let mut world = World::new(spec);
    world.settle().sleep(5000).settle().sleep(1000).settle();
    assert!(matches!(world.pod.stage(), Stage::Finished));
    assert_eq!(world.pod.failure().unwrap().reason, "DeadlineExceeded");
}

#[test]
fn a_pod_deleted_before_it_was_ready_leaves_nothing() {
    let mut world = World::new(one("Always"));
    world.todo.clear();
    world.send(Event::Delete {
        grace: Duration::from_secs(30),
    });
    assert_eq!(world.todo, [Effect::CloseSandbox]);
    world.send(Event::SandboxReady).settle();
    assert!(matches!(world.pod.stage(), Stage::Gone));
}

#[test]
fn a_restored_pod_goes_on_counting() {
    let mut world = World::new(one("Always"));
    world.settle().exit(0, 1).settle();
    let saved = world.pod.save();
    let plan = Arc::clone(&world.pod.plan);
    let (restored, effects) = Lifecycle::restore(&plan, TIMING, &saved, world.now());
    assert_eq!(effects, [Effect::Prepare]);
    let last = restored.containers()[0].last.as_ref().unwrap();
    assert_eq!((last.code, last.reason), (137, TerminationReason::Unknown));
    world.running.clear();
    world.pod = restored;
    world.todo = effects;
    world.settle();
    assert_eq!(world.pod.containers()[0].restart_count(), 2);
}

#[test]
fn a_pod_that_must_not_restart_is_failed_by_the_restart_of_its_worker() {
    let mut world = World::new(one("Never"));
    world.settle();
    let saved = world.pod.save();
    let (restored, effects) = Lifecycle::restore(&world.pod.plan, TIMING, &saved, world.now());
    world.running.clear();
    world.pod = restored;
    world.todo = effects;
    world.settle();
    assert!(matches!(world.pod.stage(), Stage::Finished));
}

#[derive(Clone, Debug)]
enum Action {
    Perform,
    Lose,
    Exit(usize, i32),
    Late(usize, u32),
    Probe(usize, bool),
    FailPull(usize),
    Sleep(u64),
    Delete(u64),
    Removed,
    Restore,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        12 => Just(Action::Perform),
        1 => Just(Action::Lose),
        3 => (0..3_usize, prop_oneof![Just(0), Just(1)]).prop_map(|(index, code)| Action::Exit(index, code)),
        1 => (0..3_usize, 0..4_u32).prop_map(|(index, incarnation)| Action::Late(index, incarnation)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(index, healthy)| Action::Probe(index, healthy)),
        1 => (0..3_usize).prop_map(Action::FailPull),
        3 => (0..400_000_u64).prop_map(Action::Sleep),
        1 => (0..40_u64).prop_map(Action::Delete),
        1 => Just(Action::Removed),
        1 => Just(Action::Restore),
    ];
    proptest::collection::vec(action, 1..80)
}

proptest! {
    #[test]
    fn nothing_bad_ever_happens(policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")], actions in actions()) {
        let mut world = World::new(json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 5,
            "initContainers": [{"name": "i", "image": "i"}],
            "containers": [{"name": "m", "image": "m", "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 1}}, {"name": "n", "image": "n"}]}));
        let mut starts = [0; 3];
        let mut was_finished = false;
        for action in actions {
            let was_gone = matches!(world.pod.stage(), Stage::Gone);
            match action {
                Action::Perform => if let Some(event) = world.perform_one() { world.send(event); },
                // Asking again for what was lost is the driver's duty; records may be lost.
                Action::Lose => world.todo.retain(|effect| !matches!(effect, Effect::Record { .. })),
                Action::Exit(index, code) => if world.running.contains_key(&index) { world.exit(index, code); },
                Action::Late(index, incarnation) => if world.running.get(&index).is_none_or(|current| *current != incarnation) {
                    world.send(exited(index, incarnation, 0));
                },
                Action::Probe(index, healthy) => {
                    let incarnation = world.running.get(&index).copied().unwrap_or(9);
                    let result = if healthy { Ok(()) } else { Err("no".to_owned()) };
                    world.send(Event::Probed { container: index, incarnation, kind: Kind::Liveness, result });
                }
                Action::FailPull(index) => {
                    if let Some(at) = world.todo.iter().position(|effect| *effect == Effect::Pull { container: index }) {
                        world.todo.remove(at);
                        let failure = PullFailure { is_missing: false, is_never: false, message: "down".into() };
                        world.send(Event::Pulled { container: index, result: Err(failure) });
                    }
                }
                Action::Sleep(millis) => { world.sleep(millis); }
                Action::Delete(seconds) => { world.send(Event::Delete { grace: Duration::from_secs(seconds) }); }
                Action::Removed => { world.send(Event::Removed); }
                Action::Restore => if !was_gone {
                    let saved = world.pod.save();
                    let plan = Arc::clone(&world.pod.plan);
                    let (pod, effects) = Lifecycle::restore(&plan, TIMING, &saved, world.now());
                    world.pod = pod;
                    world.todo = effects;
                    world.running.clear();
                },
            }
            for (index, container) in world.pod.containers().iter().enumerate() {
                prop_assert!(container.starts >= starts[index], "starts went down");
                starts[index] = container.starts;
            }
            let is_finished = matches!(world.pod.stage(), Stage::Finished);
            if was_finished { prop_assert!(is_finished || matches!(world.pod.stage(), Stage::Gone)); }
            was_finished |= is_finished;
            if was_gone { prop_assert!(matches!(world.pod.stage(), Stage::Gone)); }
            if is_finished || matches!(world.pod.stage(), Stage::Gone) { prop_assert!(world.running.is_empty()); }
        }
        // Whatever came before, a deletion and time end it.
        world.send(Event::Delete { grace: Duration::from_secs(1) });
        for _ in 0..20 { world.settle().sleep(1000); }
        prop_assert!(matches!(world.pod.stage(), Stage::Gone), "{:?}", world.pod.stage());
    }
}

#[test]
fn the_policies_of_plans_are_parsed() {
    let plan = PodPlan::of(&pod(&one("Never"))).unwrap();
    assert_eq!(plan.restart_policy, RestartPolicy::Never);
}
