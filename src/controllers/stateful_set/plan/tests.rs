//! The plan of a StatefulSet, by table: what it makes and removes, and what it reports.

use super::*;
use serde_json::{Value, json};

fn set(change: &Value) -> StatefulSet {
    let mut base = json!({
        "metadata": {"name": "db", "namespace": "default", "uid": "s", "generation": 4},
        "spec": {"replicas": 3, "podManagementPolicy": "OrderedReady", "selector": {},
            "updateStrategy": {"type": "RollingUpdate"}, "template": {}},
    });
    json_patch::merge(&mut base, &json!({"spec": change}));
    serde_json::from_value(base).unwrap()
}

/// `0r` ordinal 0, ready, of the new revision; `0p` pending; `0f` failed; `0o` ready and old;
/// `0q` pending and old; `0-` ready and being deleted.
fn pods(words: &str) -> Vec<Arc<Pod>> {
    let pod = |word: &str| {
        let (ordinal, state) = word.split_at(word.len() - 1);
        let phase = match state {
            "p" | "q" => "Pending",
            "f" => "Failed",
            _ => "Running",
        };
        let revision = if matches!(state, "o" | "q") {
            "db-old"
        } else {
            "db-new"
        };
        let ready = if matches!(state, "r" | "o" | "-") {
            "True"
        } else {
            "False"
        };
        let pod = json!({
            "metadata": {"name": format!("db-{ordinal}"), "labels": {"controller-revision-hash": revision},
                "deletionTimestamp": (state == "-").then_some("2026-01-01T00:00:00Z")},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    };
    words.split_whitespace().map(pod).collect()
}

fn look(change: &Value, words: &str, second: i64) -> Plan {
    let set = set(change);
    let revisions = Revisions {
        current: "db-old",
        update: "db-new",
    };
    let now = Timestamp::from_second(second).unwrap();
    plan(
        &set,
        set.spec.as_ref().unwrap(),
        &pods(words),
        revisions,
        now,
    )
}

fn check(change: Value, words: &str, expected: &[&str]) {
    let plan = look(&change, words, 100);
    let word = |step: &Step| match step {
        Step::Create(ordinal, is_new) => {
            format!("+{ordinal}{}", if *is_new { "" } else { "o" })
        }
        Step::Delete(pod, is_scaled) => {
            let name = pod.metadata.name.as_deref().unwrap();
            let sign = if *is_scaled { "-" } else { "~" };
            format!("{sign}{}", &name[3..])
        }
    };
    let steps: Vec<String> = plan.steps.iter().map(word).collect();
    assert_eq!(steps, expected, "{change} {words}");
}

#[test]
fn grows_upwards_one_at_a_time() {
    check(json!({}), "", &["+0"]);
    check(json!({}), "0p", &[]);
    check(json!({}), "0r", &["+1"]);
    check(json!({}), "0r 1-", &[]);
    check(json!({}), "0r 1r 2r", &[]);
    check(json!({}), "0r 2r", &["+1"]);
    check(json!({}), "0f", &["~0"]);
    check(json!({"ordinals": {"start": 5}}), "5r", &["+6"]);
    check(json!({"minReadySeconds": 200}), "0r", &[]);
    let waits = look(&json!({"minReadySeconds": 200}), "0r", 150);
    assert_eq!(waits.look_again.map(|wait| wait.as_secs()), Some(50));
}

#[test]
fn shrinks_downwards_one_at_a_time() {
    check(json!({"replicas": 1}), "0r 1r 2r", &["-2"]);
    check(json!({"replicas": 1}), "0r 1r 2-", &[]);
    check(json!({"replicas": 1}), "0r 1p 2r", &[]);
    check(json!({"replicas": 1}), "0r 1r 2p", &["-2"]);
    check(json!({"replicas": 1}), "0p 1r 2r", &[]);
    check(json!({"replicas": 0}), "0r", &["-0"]);
}

#[test]
fn parallel_pods_come_and_go_together() {
    let parallel = |replicas: i32| json!({"replicas": replicas, "podManagementPolicy": "Parallel"});
    check(parallel(3), "", &["+0", "+1", "+2"]);
    check(parallel(3), "0p", &["+1", "+2"]);
    check(parallel(1), "0p 1p 2r 3-", &["-2", "-1"]);
}

#[test]
fn an_update_goes_from_the_top_to_the_partition() {
    check(json!({}), "0o 1o 2o", &["~2"]);
    check(json!({}), "0o 1o 2p", &[]);
    check(json!({}), "0o 1o 2r", &["~1"]);
    check(json!({}), "0r 1r 2r", &[]);
    // A broken old pod is no reason to wait above it, but an order is.
    check(
        json!({"podManagementPolicy": "Parallel"}),
        "0o 1o 2q",
        &["~2"],
    );
    let partition =
        |number: i32| json!({"updateStrategy": {"rollingUpdate": {"partition": number}}});
    check(partition(2), "0o 1o 2o", &["~2"]);
    check(partition(2), "0o 1o 2r", &[]);
    check(partition(2), "0o", &["+1o"]);
    check(partition(1), "0o", &["+1"]);
    check(
        json!({"updateStrategy": {"type": "OnDelete"}}),
        "0o 1o 2o",
        &[],
    );
    check(
        json!({"updateStrategy": {"type": "OnDelete"}}),
        "0o 1o",
        &["+2"],
    );
}

#[test]
fn the_update_revision_becomes_the_current_one_at_the_end() {
    let status = |words: &str| look(&json!({}), words, 100).status;
    let half = status("0o 1o 2r");
    assert_eq!(
        (half.current_replicas, half.updated_replicas),
        (Some(2), Some(1))
    );
    assert_eq!(half.current_revision.as_deref(), Some("db-old"));
    let done = status("0r 1r 2r");
    assert_eq!(
        (done.current_replicas, done.updated_replicas),
        (Some(3), Some(3))
    );
    assert_eq!(done.current_revision.as_deref(), Some("db-new"));
    assert_eq!(
        (done.ready_replicas, done.available_replicas),
        (Some(3), Some(3))
    );
    assert_eq!(done.observed_generation, Some(4));
}

#[test]
fn an_update_may_take_several_at_a_time() {
    let most = |value: Value| json!({"podManagementPolicy": "Parallel", "updateStrategy": {"rollingUpdate": {"maxUnavailable": value}}});
    check(most(json!(2)), "0o 1o 2o", &["~2", "~1"]);
    check(most(json!(2)), "0o 1o 2-", &["~1"]);
    check(most(json!(2)), "0o 1p 2p", &[]);
    check(most(json!("50%")), "0o 1o 2o", &["~2"]);
    check(most(json!("10%")), "0o 1o 2r", &["~1"]);
    let mut kept = most(json!(3));
    kept["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
    check(kept, "0o 1o 2o", &["~2", "~1"]);
}
