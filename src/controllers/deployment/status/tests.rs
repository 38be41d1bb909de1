//! What `status` promises, case by case.

use super::*;
use serde_json::json;

fn deployment(paused: bool) -> Deployment {
    serde_json::from_value(json!({"metadata": {"name": "web", "generation": 4},
        "spec": {"replicas": 3, "paused": paused, "progressDeadlineSeconds": 60, "selector": {}, "template": {}}}))
    .unwrap()
}

fn set_of(replicas: i32, available: i32) -> ReplicaSet {
    serde_json::from_value(json!({"metadata": {"name": "web-1"}, "spec": {"replicas": 3, "selector": {}},
            "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available}}))
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn check(deployment: &Deployment, new: &ReplicaSet, created: bool, now: i64) -> DeploymentStatus {
    let facts = Facts {
        deployment,
        spec: deployment.spec.as_ref().unwrap(),
        desired: 3,
        max_unavailable: 0,
        new: Some(new),
        old: Vec::new(),
        created,
        rolled: !deployment.spec.as_ref().unwrap().paused.unwrap(),
        now: at(now),
    };
    status(&facts)
}

fn progressing(status: &DeploymentStatus) -> (String, String) {
    let conditions = status.conditions.as_deref().unwrap();
    let condition = condition::find(conditions, PROGRESSING).unwrap();
    (condition.status.clone(), condition.reason.clone().unwrap())
}

#[test]
fn a_rollout_progresses_completes_and_stays() {
    let mut web = deployment(false);
    let steps = vec![
        (set_of(0, 0), true, 0, "True", "NewReplicaSetCreated"),
        (set_of(3, 0), false, 5, "True", "ReplicaSetUpdated"),
        (set_of(3, 0), false, 20, "True", "ReplicaSetUpdated"),
        (set_of(3, 1), false, 60, "True", "ReplicaSetUpdated"),
        (set_of(3, 1), false, 119, "True", "ReplicaSetUpdated"),
        (
            set_of(3, 1),
            false,
            121,
            "False",
            "ProgressDeadlineExceeded",
        ),
        (
            set_of(3, 1),
            false,
            500,
            "False",
            "ProgressDeadlineExceeded",
        ),
        (set_of(3, 3), false, 501, "True", "NewReplicaSetAvailable"),
        (set_of(3, 1), false, 900, "True", "NewReplicaSetAvailable"),
    ];
    for (new, created, now, value, reason) in steps {
        let status = check(&web, &new, created, now);
        assert_eq!(
            progressing(&status),
            (value.into(), reason.into()),
            "at {now}"
        );
        assert_eq!(status.observed_generation, Some(4));
        web.status = Some(status);
    }
    assert!(!condition::is_true(
        web.status.unwrap().conditions.as_deref().unwrap(),
        AVAILABLE
    ));
}

#[test]
fn nothing_new_is_written_when_nothing_changed() {
    let mut web = deployment(false);
    web.status = Some(check(&web, &set_of(3, 1), false, 10));
    let again = check(&web, &set_of(3, 1), false, 30);
    assert_eq!(Some(again), web.status);
}

#[test]
fn a_pause_stops_the_deadline() {
    let mut web = deployment(true);
    web.status = Some(check(&web, &set_of(3, 1), false, 10));
    assert_eq!(progressing(web.status.as_ref().unwrap()).1, PAUSED);
    web.spec.as_mut().unwrap().paused = Some(false);
    let resumed = check(&web, &set_of(3, 1), false, 1000);
    assert_eq!(progressing(&resumed), ("Unknown".into(), RESUMED.into()));
}
