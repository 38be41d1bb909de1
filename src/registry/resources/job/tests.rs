//! What a job gets, and what it is refused for.

use super::*;

fn created(change: Value) -> Result<Job, Vec<String>> {
    let mut object = Job::sample();
    json_patch::merge(&mut object, &change);
    let mut job: Job = serde_json::from_value(object).unwrap();
    job.metadata.uid = Some("u".into());
    job.set_defaults();
    job.prepare_create();
    job.prepare_identified();
    let mut errors = Errors::default();
    job.validate(&mut errors);
    job.validate_create(&mut errors);
    if errors.0.is_empty() {
        return Ok(job);
    }
    Err(errors.0.iter().map(ToString::to_string).collect())
}

#[test]
fn a_job_selects_its_own_pods() {
    let job = created(json!({})).unwrap();
    let spec = job.spec.as_ref().unwrap();
    assert_eq!((spec.completions, spec.parallelism), (Some(1), Some(1)));
    let labels = spec.template.metadata.as_ref().unwrap().labels.as_ref();
    assert_eq!(labels.unwrap()["batch.kubernetes.io/job-name"], "sample");
    assert_eq!(labels.unwrap()["controller-uid"], "u");
    let work_queue = created(json!({"spec": {"parallelism": 3}})).unwrap();
    assert_eq!(work_queue.spec.unwrap().completions, None);
    // The manifest, sent again, changes nothing.
    let mut again = created(json!({})).unwrap();
    again.spec.as_mut().unwrap().selector = None;
    again.spec.as_mut().unwrap().template.metadata = None;
    again.prepare_update(&job);
    let mut errors = Errors::default();
    again.validate_update(&job, &mut errors);
    assert!(errors.0.is_empty(), "{errors:?}");
}

#[test]
fn mistakes_are_named() {
    let check = |change: Value, expected: &[&str]| {
        assert_eq!(created(change.clone()).unwrap_err(), expected, "{change}");
    };
    check(
        json!({"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}),
        &[
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
    check(
        json!({"spec": {"completionMode": "Indexed", "parallelism": 2}}),
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    check(
        json!({"spec": {"backoffLimit": -1, "managedBy": "example.com/other"}}),
        &[
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
            "spec.managedBy: Forbidden: wasmorch does not honour this field: jobs are managed by the built-in controller; remove it",
        ],
    );
    let chosen = json!({"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}}}});
    assert!(created(chosen).is_ok(), "the uid is added to it");
}

#[test]
fn only_indexed_jobs_grow() {
    let judge = |mode: &str, change: Value| {
        let base = json!({"spec": {"completionMode": mode, "completions": 2, "parallelism": 2}});
        let old = created(base).unwrap();
        let mut new = serde_json::to_value(&old).unwrap();
        json_patch::merge(&mut new, &json!({"spec": change}));
        let new: Job = serde_json::from_value(new).unwrap();
        let mut errors = Errors::default();
        new.validate_update(&old, &mut errors);
        errors.0.len()
    };
    assert_eq!(judge("NonIndexed", json!({"parallelism": 5})), 0);
    assert_eq!(
        judge("NonIndexed", json!({"completions": 5, "parallelism": 5})),
        1
    );
    assert_eq!(
        judge("Indexed", json!({"completions": 5, "parallelism": 5})),
        0
    );
    assert_eq!(judge("Indexed", json!({"completions": 5})), 1);
}

#[test]
fn policies_are_completed_and_judged() {
    let with = |change: Value| {
        let mut base = json!({"completionMode": "Indexed", "completions": 3});
        json_patch::merge(&mut base, &change);
        created(json!({"spec": base}))
    };
    let rule = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": ""}]});
    let job =
        with(json!({"backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": [rule.clone()]}}));
    let spec = job.unwrap().spec.unwrap();
    assert_eq!(spec.backoff_limit, Some(i32::MAX));
    assert_eq!(spec.pod_replacement_policy.as_deref(), Some("Failed"));
    let rules = spec.pod_failure_policy.unwrap().rules;
    assert_eq!(
        rules[0].on_pod_conditions.as_ref().unwrap()[0].status,
        "True"
    );
    let check = |change: Value, expected: &[&str]| {
        let found = with(change.clone()).map(drop);
        let found = found.err().unwrap_or_default();
        let expected: Vec<String> = expected.iter().map(|one| format!("spec.{one}")).collect();
        assert_eq!(found, expected, "{change}");
    };
    let failure = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let success = |rule: Value| json!({"successPolicy": {"rules": [rule]}});
    check(
        success(json!({"succeededIndexes": "0-1", "succeededCount": 1})),
        &[],
    );
    check(
        json!({"maxFailedIndexes": 4}),
        &[
            "backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            "maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
        ],
    );
    check(
        json!({"completionMode": "NonIndexed", "backoffLimitPerIndex": 1, "successPolicy": {"rules": []}}),
        &[
            "backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            "successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode",
        ],
    );
    check(
        failure(
            json!({"action": "FailIndex", "onExitCodes": {"containerName": "x", "operator": "In", "values": [2, 0, 2]}}),
        ),
        &[
            "podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
            "podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template",
            "podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2",
            "podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
        ],
    );
    check(
        failure(json!({"action": "Explode"})),
        &[
            "podFailurePolicy.rules[0].action: Unsupported value: \"Explode\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
            "podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ],
    );
    let mut replaced = failure(rule);
    replaced["podReplacementPolicy"] = json!("TerminatingOrFailed");
    replaced["template"] = json!({"spec": {"restartPolicy": "OnFailure"}});
    check(
        replaced,
        &[
            "podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
            "template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
        ],
    );
    check(
        success(json!({})),
        &[
            "successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
        ],
    );
    check(
        success(json!({"succeededIndexes": "0,2", "succeededCount": 3})),
        &[
            "successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
        ],
    );
    for (text, why) in [
        ("x", "cannot convert string to integer for index: \"x\""),
        ("5", "too large index: \"5\""),
        ("2,1", "non-increasing order, previous: 2, current: 1"),
    ] {
        let field = "successPolicy.rules[0].succeededIndexes: Invalid value";
        let words = format!("{field}: {text:?}: error parsing succeededIndexes: {why}");
        check(success(json!({"succeededIndexes": text})), &[&words]);
    }
}
