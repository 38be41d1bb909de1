//! What a job's own policies say of its pods' ends: how a failure counts, and which successes are
//! enough. Pure; the first rule that matches decides.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::Indexes;

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Counted towards the back-off limits.
    Counts,
    /// As if it had never run.
    Ignored,
    /// Its index is not tried again.
    FailsIndex,
    /// The whole job ends, with these words.
    FailsJob(String),
}

pub(super) fn meaning(spec: &JobSpec, pod: &Pod) -> Meaning {
    let rules = spec.pod_failure_policy.iter().flat_map(|it| &it.rules);
    for (place, rule) in rules.enumerate() {
        let Some(cause) = cause(rule, pod) else {
            continue;
        };
        return match rule.action.as_str() {
            "Ignore" => Meaning::Ignored,
            "FailIndex" => Meaning::FailsIndex,
            "FailJob" => {
                Meaning::FailsJob(format!("{cause} matching FailJob rule at index {place}"))
            }
            // Validation lets only `Count` be another.
            _ => Meaning::Counts,
        };
    }
    Meaning::Counts
}

/// Why a rule holds for a pod, in Kubernetes' words.
fn cause(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let (meta, status) = (&pod.metadata, pod.status.as_ref()?);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    if let Some(wanted) = &rule.on_exit_codes {
        let containers = status.container_statuses.iter().flatten();
        let mut all = containers.chain(status.init_container_statuses.iter().flatten());
        let (container, code) = all.find_map(|container| exit(wanted, container))?;
        return Some(format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code}"
        ));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let found = conditions.find(|condition| {
        patterns.iter().any(|pattern| {
            let is_true = pattern.status.is_empty() && condition.status == "True";
            pattern.type_ == condition.type_ && (is_true || pattern.status == condition.status)
        })
    })?;
    let kind = &found.type_;
    Some(format!("Pod {namespace}/{name} has condition {kind}"))
}

/// A container that has failed as the rule wants it; success is no failure under any rule.
fn exit<'a>(
    wanted: &PodFailurePolicyOnExitCodesRequirement,
    container: &'a ContainerStatus,
) -> Option<(&'a str, i32)> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    let name = wanted.container_name.as_ref();
    let is_meant = name.is_none_or(|name| *name == container.name);
    let is_among = wanted.values.contains(&ended.exit_code);
    let matches = match wanted.operator.as_str() {
        "In" => is_among,
        "NotIn" => !is_among,
        _ => false,
    };
    (is_meant && matches && ended.exit_code != 0).then_some((&container.name, ended.exit_code))
}

/// The words of the first rule of the success policy that is met.
pub(super) fn is_success(spec: &JobSpec, completed: &Indexes) -> Option<String> {
    let completions = spec.completions.unwrap_or(0);
    let rules = spec.success_policy.iter().flat_map(|it| &it.rules);
    for (place, rule) in rules.enumerate() {
        let (done, all) = match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                (completed.common(&wanted), wanted.len())
            }
            None => (completed.len(), completions),
        };
        if done >= rule.succeeded_count.unwrap_or(all) {
            return Some(format!("Matched rules at index {place}"));
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(change: Value) -> JobSpec {
        let mut spec = json!({"completions": 5, "template": {}});
        json_patch::merge(&mut spec, &change);
        serde_json::from_value(spec).unwrap()
    }

    /// A pod whose containers ended so, with one condition.
    fn pod(main: i32, init: Option<i32>, condition: &str) -> Pod {
        let ended = |name: &str, code: i32| {
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}})
        };
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns"}, "status": {
            "containerStatuses": [ended("main", main)],
            "initContainerStatuses": init.map(|code| vec![ended("init", code)]),
            "conditions": [{"type": condition, "status": "True"}]}}),
        )
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let check = |rules: Value, pod: Pod, expected: Meaning| {
            let spec = spec(json!({"podFailurePolicy": {"rules": rules}}));
            assert_eq!(meaning(&spec, &pod), expected, "{rules}");
        };
        let codes = |action: &str, operator: &str, values: Value| json!({"action": action, "onExitCodes": {"operator": operator, "values": values}});
        let disrupted = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
        check(json!([]), pod(1, None, "Ready"), Meaning::Counts);
        let words =
            "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 0";
        check(
            json!([codes("FailJob", "In", json!([1, 42]))]),
            pod(42, None, "Ready"),
            Meaning::FailsJob(words.into()),
        );
        check(
            json!([codes("FailJob", "In", json!([42]))]),
            pod(1, None, "Ready"),
            Meaning::Counts,
        );
        check(
            json!([codes("FailIndex", "NotIn", json!([42]))]),
            pod(1, None, "Ready"),
            Meaning::FailsIndex,
        );
        check(
            json!([codes("FailIndex", "NotIn", json!([42]))]),
            pod(0, None, "Ready"),
            Meaning::Counts,
        );
        check(
            json!([codes("Ignore", "In", json!([7]))]),
            pod(0, Some(7), "Ready"),
            Meaning::Ignored,
        );
        let only_main = json!({"action": "Ignore", "onExitCodes": {"containerName": "main", "operator": "In", "values": [7]}});
        check(
            json!([only_main]),
            pod(1, Some(7), "Ready"),
            Meaning::Counts,
        );
        check(
            json!([disrupted, codes("FailJob", "NotIn", json!([9]))]),
            pod(137, None, "DisruptionTarget"),
            Meaning::Ignored,
        );
        let words = "Pod ns/p has condition ConfigIssue matching FailJob rule at index 1";
        check(
            json!([disrupted, {"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue"}]}]),
            pod(1, None, "ConfigIssue"),
            Meaning::FailsJob(words.into()),
        );
    }

    #[test]
    fn enough_is_what_a_rule_says() {
        let check = |rules: Value, completed: &str, expected: Option<&str>| {
            let spec = spec(json!({"successPolicy": {"rules": rules}}));
            let found = is_success(&spec, &Indexes::parse(completed, 5));
            assert_eq!(found.as_deref(), expected, "{rules} {completed}");
        };
        let first = Some("Matched rules at index 0");
        check(json!([{"succeededIndexes": "0,2-3"}]), "0,2", None);
        check(json!([{"succeededIndexes": "0,2-3"}]), "0,2-4", first);
        check(json!([{"succeededCount": 2}]), "4", None);
        check(json!([{"succeededCount": 2}]), "1,4", first);
        let both = json!([{"succeededIndexes": "0-2", "succeededCount": 1}]);
        check(both.clone(), "3,4", None);
        check(both, "1", first);
        let two = json!([{"succeededIndexes": "0"}, {"succeededCount": 1}]);
        check(two, "3", Some("Matched rules at index 1"));
    }
}
