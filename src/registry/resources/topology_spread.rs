//! Topology spread constraints: what can be asked for.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::super::field_error::Errors;
use super::super::path::Path;
use super::{affinity, label_selector};

pub(super) fn validate(
    path: &Path<'_>,
    constraints: &[TopologySpreadConstraint],
    errors: &mut Errors,
) {
    for (index, constraint) in constraints.iter().enumerate() {
        let at = path.index(index);
        validate_one(&at, constraint, errors);
        let is_same = |other: &TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key
                && other.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if constraints[index + 1..].iter().any(is_same) {
            let (key, when) = (&constraint.topology_key, &constraint.when_unsatisfiable);
            let pair = at.field("{topologyKey, whenUnsatisfiable}");
            errors.duplicate(&pair, &format!("{{{key}, {when}}}"));
        }
    }
}

fn validate_one(path: &Path<'_>, constraint: &TopologySpreadConstraint, errors: &mut Errors) {
    let positive = "must be greater than zero";
    if constraint.max_skew <= 0 {
        errors.invalid(&path.field("maxSkew"), constraint.max_skew, positive);
    }
    affinity::validate_key(path, &constraint.topology_key, errors);
    let when = constraint.when_unsatisfiable.as_str();
    errors.one_of(
        &path.field("whenUnsatisfiable"),
        Some(when),
        &["DoNotSchedule", "ScheduleAnyway"],
    );
    if let Some(domains) = constraint.min_domains {
        let at = path.field("minDomains");
        if domains <= 0 {
            errors.invalid(&at, domains, positive);
        }
        if when != "DoNotSchedule" {
            let rule =
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
            errors.invalid(&at, domains, &rule);
        }
    }
    for (field, policy) in [
        ("nodeAffinityPolicy", &constraint.node_affinity_policy),
        ("nodeTaintsPolicy", &constraint.node_taints_policy),
    ] {
        errors.one_of(&path.field(field), policy.as_deref(), &["Honor", "Ignore"]);
    }
    let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
    let at = path.field("matchLabelKeys");
    let selector = constraint.label_selector.as_ref();
    label_selector::validate_keys(&at, keys, selector.is_some(), errors);
    let Some(selector) = selector else { return };
    for (index, key) in keys.iter().enumerate() {
        let mut expressions = selector.match_expressions.iter().flatten();
        let labels = selector.match_labels.as_ref();
        if labels.is_some_and(|labels| labels.contains_key(key))
            || expressions.any(|expression| expression.key == *key)
        {
            let rule = "exists in both matchLabelKeys and labelSelector";
            errors.invalid(&at.index(index), key, rule);
        }
    }
    label_selector::validate(&path.field("labelSelector"), selector, errors);
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    #[test]
    fn constraints_are_judged() {
        let judge = |change: &Value, expected: &[&str]| {
            let mut one = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}}});
            json_patch::merge(&mut one, change);
            let other =
                json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
            let expected: Vec<String> = expected
                .iter()
                .map(|one| format!("spec.topologySpreadConstraints[0].{one}"))
                .collect();
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            check::<Pod>(
                "/spec/topologySpreadConstraints",
                &json!([one, other]),
                &expected,
            );
        };
        judge(
            &json!({"minDomains": 2, "nodeTaintsPolicy": "Honor", "matchLabelKeys": ["v"]}),
            &[],
        );
        judge(
            &json!({"maxSkew": 0, "topologyKey": ""}),
            &[
                "maxSkew: Invalid value: 0: must be greater than zero",
                "topologyKey: Required value: can not be empty",
            ],
        );
        judge(
            &json!({"whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2}),
            &[
                "minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                "{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, ScheduleAnyway}\"",
            ],
        );
        judge(
            &json!({"nodeAffinityPolicy": "Maybe", "matchLabelKeys": ["app"]}),
            &[
                "nodeAffinityPolicy: Unsupported value: \"Maybe\": supported values: \"Honor\", \"Ignore\"",
                "matchLabelKeys[0]: Invalid value: \"app\": exists in both matchLabelKeys and labelSelector",
            ],
        );
    }
}
