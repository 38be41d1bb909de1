//! What no order of events may bring about: two incarnations of a container, numbers of
//! incarnations that fall, a finished pod that lives again.

use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use super::world::{TIMING, World, exited};
use crate::worker::probes::Kind;

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
            "containers": [{"name": "m", "image": "m", "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 1}}, {"name": "n", "image": "n", "lifecycle": {"postStart": {"exec": {"command": ["a"]}}, "preStop": {"exec": {"command": ["b"]}}}}]}));
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
                        let failure = PullFailure { problem: PullProblem::Other, message: "down".into() };
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
