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
        json!({"spec": {"backoffLimit": -1, "successPolicy": {"rules": []}}}),
        &[
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
            "spec.successPolicy: Forbidden: wasmorch does not honour this field: a job is complete with all its completions; remove it",
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
