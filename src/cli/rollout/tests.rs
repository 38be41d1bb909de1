//! What `rollout` promises, case by case.

use super::*;
use crate::api::annotations::{POD_TEMPLATE_HASH, REVISION};

#[expect(clippy::needless_pass_by_value, reason = "the calls read better")]
fn deployment(generation: u64, wanted: u64, status: Value) -> Value {
    json!({"kind": "Deployment", "metadata": {"name": "d", "generation": generation}, "spec": {"replicas": wanted}, "status": status})
}

#[test]
fn progress_reads_like_kubectl() {
    let check = |deployment: Value, expected: &str| {
        let text = match progress(&deployment) {
            Ok(Progress::Waiting(text) | Progress::Done(text)) => text,
            Err(failure) => failure.render(),
        };
        assert!(text.contains(expected), "{text}");
    };
    check(
        deployment(2, 3, json!({"observedGeneration": 1})),
        "spec update to be observed",
    );
    check(
        deployment(1, 3, json!({"observedGeneration": 1, "updatedReplicas": 1})),
        "1 out of 3 new replicas have been updated",
    );
    check(
        deployment(
            1,
            3,
            json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 4}),
        ),
        "1 old replicas are pending termination",
    );
    check(
        deployment(
            1,
            3,
            json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}),
        ),
        "2 of 3 updated replicas are available",
    );
    check(
        deployment(
            1,
            3,
            json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}),
        ),
        "deployment \"d\" successfully rolled out",
    );
    check(
        deployment(1, 0, json!({"observedGeneration": 1})),
        "successfully rolled out",
    );
    let stuck = json!({"observedGeneration": 1, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]});
    check(deployment(1, 3, stuck), "exceeded its progress deadline");
}

fn replica_set(number: &str, owner: &str, image: &str) -> Value {
    json!({"metadata": {"annotations": {REVISION: number},
        "ownerReferences": [{"uid": owner, "controller": true}]},
            "spec": {"template": {"metadata": {"creationTimestamp": null, "labels": {"app": "a", POD_TEMPLATE_HASH: "x"}},
            "spec": {"containers": [{"image": image}]}}}})
}

#[test]
fn revisions_come_from_owned_replica_sets() {
    let sets = [
        replica_set("10", "me", "c"),
        replica_set("2", "me", "a"),
        replica_set("3", "other", "x"),
        replica_set("junk", "me", "x"),
        replica_set("9", "me", "b"),
    ];
    let revisions = Keeper::ReplicaSets.revisions(&sets, &json!("me"));
    let numbers: Vec<u64> = revisions.iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, [2, 9, 10]);
    assert_eq!(
        revisions[0].template,
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"image": "a"}]}})
    );
    assert_eq!(find(&revisions, None).unwrap().number, 9);
    assert_eq!(find(&revisions, Some(0)).unwrap().number, 9);
    assert_eq!(find(&revisions, Some(2)).unwrap().number, 2);
    assert!(
        find(&revisions, Some(3))
            .unwrap_err()
            .render()
            .contains("kept: 2, 9, 10")
    );
    assert!(find(&revisions[..1], None).is_err());
}

#[test]
fn revisions_of_sets_are_controller_revisions() {
    let kept = json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "why"},
        "ownerReferences": [{"uid": "me", "controller": true}]}, "revision": 2,
        "data": {"spec": {"template": {"$patch": "replace", "spec": {"containers": [{"image": "a"}]}}}}});
    let revisions = Keeper::ControllerRevisions.revisions(&[kept], &json!("me"));
    assert_eq!(
        revisions,
        [Revision {
            number: 2,
            template: json!({"spec": {"containers": [{"image": "a"}]}}),
            cause: Some("why".to_owned()),
        }]
    );
}

#[test]
fn sets_progress_too() {
    let check = |kind: &str, spec: Value, status: Value, expected: &str| {
        let set = json!({"kind": kind, "metadata": {"name": "s", "generation": 2}, "spec": spec, "status": status});
        let text = match progress(&set) {
            Ok(Progress::Waiting(text)) => format!("waiting: {text}"),
            Ok(Progress::Done(text)) => format!("done: {text}"),
            Err(failure) => failure.render(),
        };
        assert!(text.contains(expected), "{text}");
    };
    let stateful = |ready: u64, updated: u64, current: &str| {
        json!({"observedGeneration": 2, "readyReplicas": ready,
        "updatedReplicas": updated, "currentRevision": current, "updateRevision": "new"})
    };
    let three = || json!({"replicas": 3});
    let parted = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}});
    let by_hand = || json!({"updateStrategy": {"type": "OnDelete"}});
    let seen = || json!({"observedGeneration": 2});
    let daemon = |updated: u64, available: u64| {
        json!({"observedGeneration": 2, "desiredNumberScheduled": 3,
        "updatedNumberScheduled": updated, "numberAvailable": available})
    };
    check(
        "StatefulSet",
        three(),
        json!({}),
        "waiting: Waiting for statefulset spec update",
    );
    check(
        "StatefulSet",
        three(),
        stateful(2, 3, "old"),
        "2 of 3 pods are ready",
    );
    check(
        "StatefulSet",
        three(),
        stateful(3, 1, "old"),
        "1 out of 3 new pods",
    );
    check(
        "StatefulSet",
        three(),
        stateful(3, 3, "new"),
        "done: statefulset \"s\"",
    );
    check(
        "StatefulSet",
        parted,
        stateful(3, 1, "old"),
        "done: statefulset \"s\"",
    );
    check("StatefulSet", by_hand(), seen(), "OnDelete");
    check("DaemonSet", json!({}), daemon(2, 3), "2 out of 3 new pods");
    check(
        "DaemonSet",
        json!({}),
        daemon(3, 2),
        "2 of 3 updated pods are available",
    );
    check(
        "DaemonSet",
        json!({}),
        daemon(3, 3),
        "done: daemonset \"s\"",
    );
    check("DaemonSet", by_hand(), seen(), "OnDelete");
}
