//! The plan of a job, by table: what it makes, removes, counts and says.

use super::plan::{Plan, plan};
use super::*;
use crate::api::condition;
use jiff::Timestamp;
use serde_json::{Value, json};

const NOW: i64 = 1_000_000;

fn job(spec: &Value, status: &Value) -> Job {
    let mut object = json!({
        "metadata": {"name": "work", "namespace": "default", "uid": "j"},
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": {"spec": {"containers": [{"name": "c"}]}}},
        "status": {"startTime": Timestamp::from_second(NOW - 100).unwrap()},
    });
    json_patch::merge(&mut object, &json!({"spec": spec, "status": status}));
    serde_json::from_value(object).unwrap()
}

/// A pod in a phase; `-` before it: being deleted; `!`: not held any more; `@2`: its index.
fn pod(name: &str, word: &str) -> Arc<Pod> {
    let dying = word.contains('-');
    let held = !word.contains('!');
    let index = word.split_once('@').map(|(_, index)| index.to_owned());
    let phase: String = word.chars().filter(|c| c.is_alphabetic()).collect();
    let ended = matches!(phase.as_str(), "Failed" | "Succeeded");
    let finished = Timestamp::from_second(NOW - 1000).unwrap();
    let statuses = ended.then(|| {
        json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": finished}}}])
    });
    let made = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name,
            "finalizers": held.then_some(["batch.kubernetes.io/job-tracking"]),
            "annotations": index.map(|index| json!({"batch.kubernetes.io/job-completion-index": index})),
            "deletionTimestamp": dying.then_some(finished)},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": phase, "containerStatuses": statuses},
    });
    Arc::new(serde_json::from_value(made).unwrap())
}

fn look(job: &Job, words: &[&str]) -> Plan {
    let names = ["a", "b", "c", "d", "e"];
    let pods: Vec<_> = names
        .iter()
        .zip(words)
        .map(|(name, word)| pod(name, word))
        .collect();
    plan(
        job,
        job.spec.as_ref().unwrap(),
        &pods,
        Timestamp::from_second(NOW).unwrap(),
    )
}

fn is(plan: &Plan, kind: &str) -> bool {
    condition::is_true(plan.status.conditions.as_deref().unwrap_or_default(), kind)
}

#[test]
fn makes_as_many_as_may_run_at_once() {
    let check = |spec: Value, words: &[&str], create: usize, delete: usize| {
        let plan = look(&job(&spec, &json!({})), words);
        assert_eq!(
            (plan.create.len(), plan.delete.len()),
            (create, delete),
            "{spec} {words:?}"
        );
    };
    check(json!({}), &[], 1, 0);
    check(json!({}), &["Running"], 0, 0);
    check(
        json!({"completions": 5, "parallelism": 3}),
        &["Pending"],
        2,
        0,
    );
    check(
        json!({"completions": 2, "parallelism": 3}),
        &["Succeeded"],
        1,
        0,
    );
    check(
        json!({"completions": 5, "parallelism": 1}),
        &["Running", "Pending"],
        0,
        1,
    );
    // A pod on its way out is replaced at once, or when it has ended.
    check(
        json!({"completions": 2, "parallelism": 2}),
        &["-Running"],
        2,
        0,
    );
    check(
        json!({"completions": 2, "parallelism": 2, "podReplacementPolicy": "Failed"}),
        &["-Running"],
        1,
        0,
    );
    check(json!({"suspend": true}), &["Running"], 0, 1);
    check(
        json!({"completions": null, "parallelism": 2}),
        &["Succeeded", "Running"],
        0,
        0,
    );
}

#[test]
fn counts_each_end_once() {
    let fresh = job(&json!({"completions": 9, "parallelism": 9}), &json!({}));
    let first = look(&fresh, &["Succeeded", "Failed", "Running"]);
    let uncounted = first.status.uncounted_terminated_pods.clone().unwrap();
    assert_eq!(uncounted.succeeded.unwrap(), ["a"]);
    assert_eq!(uncounted.failed.unwrap(), ["b"]);
    assert_eq!((first.status.succeeded, first.status.failed), (None, None));
    assert_eq!(first.release.len(), 2);
    let mut written = fresh;
    written.status = Some(first.status);
    // Held still: nothing changes. Released, or gone: counted.
    let again = look(&written, &["Succeeded", "Failed", "Running"]);
    assert_eq!(
        Some(again.status.uncounted_terminated_pods),
        written
            .status
            .as_ref()
            .map(|s| s.uncounted_terminated_pods.clone())
    );
    let counted = look(&written, &["Succeeded!"]);
    assert_eq!(
        (counted.status.succeeded, counted.status.failed),
        (Some(1), Some(1))
    );
    written.status = Some(counted.status);
    let kept = look(&written, &["Succeeded!"]);
    assert_eq!(
        (kept.status.succeeded, kept.status.failed),
        (Some(1), Some(1))
    );
}

#[test]
fn ends_in_two_steps() {
    let done = look(&job(&json!({}), &json!({})), &["Succeeded"]);
    assert!(is(&done, "SuccessCriteriaMet") && !is(&done, "Complete"));
    let counted = look(&job(&json!({}), &json!({"succeeded": 1})), &["Succeeded!"]);
    assert!(is(&counted, "Complete"));
    assert!(counted.status.completion_time.is_some());
    assert_eq!(counted.notices[0].reason, "Completed");
    let failed = look(
        &job(
            &json!({"backoffLimit": 0, "parallelism": 2, "completions": 2}),
            &json!({}),
        ),
        &["Failed", "Running"],
    );
    assert!(is(&failed, "FailureTarget") && !is(&failed, "Failed"));
    assert_eq!(failed.delete.len(), 1);
    let target = json!({"failed": 2, "conditions": [{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]});
    let failed = look(&job(&json!({"backoffLimit": 0}), &target), &[]);
    assert!(is(&failed, "Failed"));
    assert_eq!(failed.notices[0].reason, "BackoffLimitExceeded");
    assert!(failed.create.is_empty());
    let late = look(
        &job(&json!({"activeDeadlineSeconds": 100}), &json!({})),
        &["Running"],
    );
    assert!(is(&late, "FailureTarget"));
    let soon = look(
        &job(&json!({"activeDeadlineSeconds": 130}), &json!({})),
        &["Running"],
    );
    assert_eq!(soon.look_again.map(|wait| wait.as_secs()), Some(30));
}

#[test]
fn waits_longer_after_each_failure() {
    let check = |words: &[&str], seconds_ago: i64, wait: Option<u64>| {
        let work = job(&json!({"completions": 5}), &json!({}));
        let names = ["a", "b", "c"];
        let pods: Vec<_> = names
            .iter()
            .zip(words)
            .map(|(name, word)| pod(name, word))
            .collect();
        let now = Timestamp::from_second(NOW - 1000 + seconds_ago).unwrap();
        let plan = plan(&work, work.spec.as_ref().unwrap(), &pods, now);
        assert_eq!(plan.look_again.map(|wait| wait.as_secs()), wait);
        assert_eq!(plan.create.is_empty(), wait.is_some());
    };
    check(&["Failed"], 0, Some(10));
    check(&["Failed"], 10, None);
    check(&["Failed", "Failed"], 10, Some(10));
    check(&["Failed!", "Failed!", "Failed!"], 10, Some(30));
    check(&["Failed", "Succeeded"], 0, None);
}

#[test]
fn indexes_are_started_again_until_each_has_succeeded() {
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3});
    let work = job(&spec, &json!({"completedIndexes": "3"}));
    let plan = look(&work, &["Succeeded@0", "Running@2", "Failed@1"]);
    assert_eq!(plan.create, [Some(1)]);
    assert_eq!(plan.status.completed_indexes.as_deref(), Some("0,3"));
    assert_eq!(plan.status.succeeded, Some(2));
    let made = pods::make(&work, Some(1)).unwrap();
    let spec = made.spec.unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("work-1"));
    assert_eq!(
        spec.containers[0].env.as_ref().unwrap()[0].name,
        "JOB_COMPLETION_INDEX"
    );
    let all = look(
        &job(
            &json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}),
            &json!({"completedIndexes": "0,1"}),
        ),
        &[],
    );
    assert!(is(&all, "Complete"));
}

#[test]
fn a_suspended_job_rests_and_goes_on() {
    let rested = look(&job(&json!({"suspend": true}), &json!({})), &["Running"]);
    assert!(is(&rested, "Suspended"));
    assert!(rested.status.start_time.is_none());
    assert!(rested.delete[0].1, "not a failure");
    let again = json!({"startTime": null, "conditions": [{"type": "Suspended", "status": "True"}]});
    let resumed = look(&job(&json!({}), &again), &[]);
    assert!(!is(&resumed, "Suspended"));
    assert!(resumed.status.start_time.is_some());
    assert_eq!(resumed.create.len(), 1);
}

#[test]
fn a_finished_job_lives_for_its_time() {
    let ended = |seconds: i64| {
        let at = Timestamp::from_second(NOW - seconds).unwrap();
        json!({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": at}]})
    };
    let look = |seconds| {
        look(
            &job(&json!({"ttlSecondsAfterFinished": 60}), &ended(seconds)),
            &["Succeeded!"],
        )
    };
    assert_eq!(look(20).look_again.map(|wait| wait.as_secs()), Some(40));
    assert!(!look(59).is_expired && look(60).is_expired);
}

/// A pod of an index that has ended with a code, after so many failures.
fn ended(name: &str, index: i32, code: i32, before: i32) -> Arc<Pod> {
    let mut pod = pod(name, &format!("Failed@{index}")).as_ref().clone();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    let key = "batch.kubernetes.io/job-index-failure-count";
    annotations.insert(key.to_owned(), before.to_string());
    let statuses = pod.status.as_mut().unwrap().container_statuses.as_mut();
    let state = statuses.unwrap()[0].state.as_mut().unwrap();
    state.terminated.as_mut().unwrap().exit_code = code;
    Arc::new(pod)
}

fn see(job: &Job, pods: &[Arc<Pod>]) -> Plan {
    let now = Timestamp::from_second(NOW).unwrap();
    plan(job, job.spec.as_ref().unwrap(), pods, now)
}

#[test]
fn a_failure_policy_ignores_counts_or_ends_the_job() {
    let rules = json!([
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"backoffLimit": 0, "podFailurePolicy": {"rules": rules}});
    let work = job(&spec, &json!({}));
    let ignored = see(&work, &[ended("a", 0, 3, 0)]);
    assert!(!is(&ignored, "FailureTarget"));
    assert_eq!((ignored.release.len(), ignored.create.len()), (1, 1));
    let uncounted = ignored.status.uncounted_terminated_pods.unwrap();
    assert_eq!(uncounted.failed, None);
    let counted = see(&work, &[ended("a", 0, 1, 0)]);
    assert!(is(&counted, "FailureTarget"));
    let fatal = see(
        &job(
            &json!({"backoffLimit": 9, "podFailurePolicy": spec["podFailurePolicy"]}),
            &json!({}),
        ),
        &[ended("a", 0, 42, 0)],
    );
    let conditions = fatal.status.conditions.as_deref().unwrap();
    let told = condition::find(conditions, "FailureTarget").unwrap();
    assert_eq!(told.reason.as_deref(), Some("PodFailurePolicy"));
    assert_eq!(
        told.message.as_deref(),
        Some(
            "Container c for pod default/a failed with exit code 42 matching FailJob rule at index 1"
        )
    );
    // A pod on its way out has not failed before it has ended.
    let going = look(&work, &["-Running"]);
    assert!(!is(&going, "FailureTarget") && going.create.is_empty());
}

#[test]
fn an_index_fails_by_itself() {
    let spec = |change: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
            "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1});
        json_patch::merge(&mut spec, &change);
        spec
    };
    let work = job(&spec(json!({})), &json!({}));
    // The first failure: tried again, and told what was before; the failed pod is held meanwhile.
    let first = see(&work, &[ended("a", 0, 1, 0)]);
    assert_eq!(first.create, [Some(0), Some(1), Some(2)]);
    assert_eq!(first.failures[&0].counted, 1);
    assert!(first.release.is_empty());
    assert_eq!(first.status.failed_indexes.as_deref(), Some(""));
    let replaced = see(&work, &[ended("a", 0, 1, 0), pod("b", "Running@0")]);
    assert_eq!(replaced.release.len(), 1);
    assert_eq!(replaced.create, [Some(1), Some(2)]);
    // The second is the last of this index; the others go on.
    let second = see(&work, &[ended("b", 0, 1, 1)]);
    assert_eq!(second.status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(second.create, [Some(1), Some(2)]);
    assert_eq!(second.release.len(), 1);
    assert!(!is(&second, "FailureTarget"));
    let end = |change: Value, status: Value| {
        let plan = see(&job(&spec(change), &status), &[]);
        let conditions = plan.status.conditions.unwrap_or_default();
        let told = condition::find(&conditions, "FailureTarget");
        told.and_then(|told| told.reason.clone())
    };
    let failed = json!({"failedIndexes": "0", "completedIndexes": "1,2"});
    assert_eq!(end(json!({}), failed).as_deref(), Some("FailedIndexes"));
    let failed = json!({"failedIndexes": "0,1"});
    let most = json!({"maxFailedIndexes": 1});
    let reason = end(most, failed.clone());
    assert_eq!(reason.as_deref(), Some("MaxFailedIndexesExceeded"));
    assert_eq!(end(json!({"maxFailedIndexes": 2}), failed), None);
    let rules = json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7]}}]);
    let work = job(
        &spec(json!({"podFailurePolicy": {"rules": rules}})),
        &json!({}),
    );
    let at_once = see(&work, &[ended("a", 2, 7, 0)]);
    assert_eq!(at_once.status.failed_indexes.as_deref(), Some("2"));
    assert_eq!(at_once.create, [Some(0), Some(1)]);
}

#[test]
fn each_index_waits_for_itself() {
    let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 9});
    let work = job(&spec, &json!({}));
    let pods = [ended("a", 0, 1, 2)];
    let at = |seconds: i64| Timestamp::from_second(NOW - 1000 + seconds).unwrap();
    let soon = plan(&work, work.spec.as_ref().unwrap(), &pods, at(10));
    assert_eq!(soon.create, [Some(1)]);
    assert_eq!(soon.look_again.map(|wait| wait.as_secs()), Some(30));
    let late = plan(&work, work.spec.as_ref().unwrap(), &pods, at(40));
    assert_eq!(late.create, [Some(0), Some(1)]);
}

#[test]
fn some_successes_may_be_enough() {
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5,
        "successPolicy": {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}});
    let work = job(&spec, &json!({}));
    let others = look(&work, &["Succeeded@1", "Running@0"]);
    assert!(!is(&others, "SuccessCriteriaMet"));
    let met = look(&work, &["Succeeded@0", "Running@1", "Failed@2"]);
    let conditions = met.status.conditions.as_deref().unwrap();
    let told = condition::find(conditions, "SuccessCriteriaMet").unwrap();
    assert_eq!(told.reason.as_deref(), Some("SuccessPolicy"));
    assert_eq!(told.message.as_deref(), Some("Matched rules at index 0"));
    assert_eq!((met.delete.len(), met.create.len()), (1, 0));
}
