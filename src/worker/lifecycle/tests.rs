//! Stories of pods, told to the machine one event after the other.

mod company;
mod properties;
mod world;

use serde_json::json;

use super::*;
use crate::worker::probes::Kind;
use world::{TIMING, World, exited, one};

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
fn a_refused_start_ends_a_container_that_is_not_restarted() {
    let refused = || StartFailure::Run("no such mount".to_owned());
    let full = || StartFailure::Full("8000 programs".to_owned());
    for (policy, failure, ends) in [
        ("Never", refused(), true),
        ("OnFailure", refused(), false),
        ("Always", refused(), false),
        ("Never", full(), false),
    ] {
        let mut world = World::new(one(policy));
        while let Some(mut event) = world.perform_one() {
            if let Event::Started { result, .. } = &mut event {
                *result = Err(failure.clone());
                world.running.clear();
            }
            world.send(event);
        }
        let last = world.pod.containers()[0].last.as_ref();
        let last = last.map(|it| (it.code, it.reason));
        let expected = ends.then_some((128, TerminationReason::StartError));
        assert_eq!(last, expected, "{policy} {failure:?}");
        assert_eq!(matches!(world.pod.stage(), Stage::Finished), ends);
        assert!(ends || world.pod.next_wake().is_some(), "it is tried again");
    }
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
                problem: PullProblem::Missing,
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
fn a_restored_pod_knows_why_it_failed() {
    let mut spec = one("Always");
    spec["activeDeadlineSeconds"] = json!(5);
    spec["terminationGracePeriodSeconds"] = json!(1);
    let mut world = World::new(spec);
    world.settle().sleep(5000).settle().sleep(1000).settle();
    let failure = world.pod.failure().cloned().unwrap();
    assert_eq!(failure.reason, "DeadlineExceeded");
    // Through the file, as a worker that starts again reads it.
    let saved = serde_json::to_vec(&world.pod.save()).unwrap();
    let saved: Saved = serde_json::from_slice(&saved).unwrap();
    let plan = Arc::clone(&world.pod.plan);
    let (restored, effects) = Lifecycle::restore(&plan, TIMING, &saved, world.now());
    assert_eq!(effects, []);
    assert!(matches!(restored.stage(), Stage::Finished));
    assert_eq!(restored.failure(), Some(&failure));
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
