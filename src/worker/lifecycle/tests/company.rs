//! Stories of what accompanies a program: sidecars, hooks, ephemeral containers.

use serde_json::json;

use super::super::*;
use super::world::{World, one};
use crate::worker::plan::HookKind;
use crate::worker::probes::Kind;

#[test]
fn sidecars_stop_one_after_the_other_and_the_last_first() {
    let mut spec = one("Always");
    spec["initContainers"] = json!([
        {"name": "a", "image": "s", "restartPolicy": "Always"},
        {"name": "b", "image": "s", "restartPolicy": "Always"}]);
    let mut world = World::new(spec);
    world.settle().send(Event::Delete {
        grace: Duration::from_secs(30),
    });
    world.send(Event::Drained);
    let stops = |world: &World| -> Vec<usize> {
        let stops = world.todo.iter().filter_map(|effect| match effect {
            Effect::Stop { container } => Some(*container),
            _ => None,
        });
        stops.collect()
    };
    let refusal = world.todo.iter().position(|it| *it == Effect::Refuse);
    let stop = Effect::Stop { container: 2 };
    let stop = world.todo.iter().position(|it| *it == stop);
    assert!(
        refusal.unwrap() < stop.unwrap(),
        "nobody new comes in first"
    );
    assert_eq!(stops(&world), [2]);
    world.exit(2, 0);
    assert_eq!(stops(&world), [2, 1]);
    world.send(Event::Tick);
    assert_eq!(stops(&world), [2, 1], "asked once");
    world.exit(1, 0);
    assert_eq!(stops(&world), [2, 1, 0]);
    world.exit(0, 0).settle();
    assert!(matches!(world.pod.stage(), Stage::Gone));
}

#[test]
fn a_sidecar_must_have_started_before_the_next_begins() {
    let mut spec = one("Always");
    spec["initContainers"] = json!([{"name": "s", "image": "s", "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["true"]}}}]);
    let mut world = World::new(spec);
    world.settle();
    assert_eq!(world.running(), [0]);
    assert!(!world.pod.is_initialized());
    world.send(Event::Probed {
        container: 0,
        incarnation: 0,
        kind: Kind::Startup,
        result: Ok(()),
    });
    world.settle();
    assert_eq!(world.running(), [0, 1]);
}

fn hooked(kind: HookKind, result: Result<(), String>) -> Event {
    Event::Hooked {
        container: 0,
        incarnation: 0,
        kind,
        result,
    }
}

/// Performs everything but the hooks.
fn settle_without_hooks(world: &mut World) -> bool {
    let is_hook = |effect: &Effect| matches!(effect, Effect::Hook { .. });
    let mut saw_hook = false;
    loop {
        saw_hook |= world.todo.iter().any(is_hook);
        world.todo.retain(|effect| !is_hook(effect));
        match world.perform_one() {
            Some(event) => drop(world.send(event)),
            None => return saw_hook,
        }
    }
}

#[test]
fn a_container_is_ready_after_its_post_start_hook() {
    let mut spec = one("Always");
    spec["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["x"]}}});
    let mut world = World::new(spec);
    assert!(settle_without_hooks(&mut world));
    assert_eq!(world.running(), [0]);
    assert!(!world.pod.containers()[0].is_ready());
    world.send(hooked(HookKind::PostStart, Ok(())));
    assert!(world.pod.containers()[0].is_ready());
}

#[test]
fn a_failed_post_start_hook_ends_the_container_and_the_policy_decides() {
    let mut spec = one("Always");
    spec["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["x"]}}});
    let mut world = World::new(spec);
    settle_without_hooks(&mut world);
    world.send(hooked(HookKind::PostStart, Err("exit code 1".into())));
    assert!(world.todo.contains(&Effect::Stop { container: 0 }));
    world.exit(0, 143);
    settle_without_hooks(&mut world);
    assert_eq!(world.pod.containers()[0].restart_count(), 1);
}

#[test]
fn the_stop_request_follows_the_pre_stop_hook() {
    let mut spec = one("Always");
    spec["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["x"]}}});
    let mut world = World::new(spec);
    world.settle().send(Event::Delete {
        grace: Duration::from_secs(30),
    });
    assert!(settle_without_hooks(&mut world), "drained, then the hook");
    let stop = Effect::Stop { container: 0 };
    assert!(!world.todo.contains(&stop));
    world.send(hooked(
        HookKind::PreStop,
        Err("it is told and no more".into()),
    ));
    assert!(world.todo.contains(&stop));
}

#[test]
fn a_pre_stop_hook_that_hangs_is_cut_with_the_grace_period() {
    let mut spec = one("Always");
    spec["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["x"]}}});
    let mut world = World::new(spec);
    world.settle().send(Event::Delete {
        grace: Duration::from_secs(4),
    });
    settle_without_hooks(&mut world);
    world.sleep(4000).settle();
    assert!(matches!(world.pod.stage(), Stage::Gone));
    let last = world.pod.containers()[0].last.as_ref().unwrap();
    assert!(last.message.contains("grace period"), "{last:?}");
}

#[test]
fn a_pre_stop_sleep_is_part_of_draining_while_the_pod_serves() {
    let mut spec = one("Always");
    spec["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 2}}});
    let mut world = World::new(spec);
    world.settle().send(Event::Delete {
        grace: Duration::from_secs(8),
    });
    let drain = Effect::Drain {
        at_least: Duration::from_secs(2),
        at_most: Duration::from_secs(6),
    };
    assert_eq!(world.todo, [drain]);
    assert!(!settle_without_hooks(&mut world), "not slept twice");
}

#[test]
fn an_ephemeral_container_joins_runs_once_and_decides_nothing() {
    let mut world = World::new(one("Never"));
    world.settle();
    let mut spec = one("Never");
    spec["ephemeralContainers"] = json!([{"name": "d", "image": "toolbox"}]);
    let plan = PodPlan::of(&crate::worker::plan::tests::pod(&spec)).unwrap();
    world.send(Event::Extended(Arc::new(plan))).settle();
    assert_eq!(world.running(), [0, 1]);
    world.exit(1, 1).settle();
    assert_eq!(world.running(), [0], "it is not started again");
    assert!(world.pod.containers()[0].is_ready());
    world.exit(0, 0).settle();
    assert!(matches!(world.pod.stage(), Stage::Finished));
}

#[test]
fn an_ephemeral_container_does_not_keep_a_pod() {
    let mut spec = one("Never");
    spec["ephemeralContainers"] = json!([{"name": "d", "image": "toolbox"}]);
    let mut world = World::new(spec);
    world.settle().exit(0, 0);
    assert!(world.todo.contains(&Effect::Stop { container: 1 }));
}
