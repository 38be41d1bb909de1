//! Affinity to nodes and to other pods: what can be asked for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

use super::super::field_error::Errors;
use super::super::path::Path;
use super::label_selector;
use crate::api::names;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const LABEL_OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
const FIELD_OPERATORS: &[&str] = &["In", "NotIn"];

pub(super) fn validate(path: &Path<'_>, affinity: &Affinity, errors: &mut Errors) {
    if let Some(nodes) = &affinity.node_affinity {
        validate_nodes(&path.field("nodeAffinity"), nodes, errors);
    }
    let near = affinity.pod_affinity.as_ref().map(|pods| {
        let required = &pods.required_during_scheduling_ignored_during_execution;
        let preferred = &pods.preferred_during_scheduling_ignored_during_execution;
        (path.field("podAffinity"), required, preferred)
    });
    let apart = affinity.pod_anti_affinity.as_ref().map(|pods| {
        let required = &pods.required_during_scheduling_ignored_during_execution;
        let preferred = &pods.preferred_during_scheduling_ignored_during_execution;
        (path.field("podAntiAffinity"), required, preferred)
    });
    for (path, required, preferred) in near.into_iter().chain(apart) {
        let list = path.field(REQUIRED);
        for (index, term) in required.iter().flatten().enumerate() {
            validate_pods(&list.index(index), term, errors);
        }
        let list = path.field(PREFERRED);
        for (index, weighted) in preferred.iter().flatten().enumerate() {
            let at = list.index(index);
            validate_weight(&at, weighted.weight, errors);
            let term = at.field("podAffinityTerm");
            validate_pods(&term, &weighted.pod_affinity_term, errors);
        }
    }
}

/// Writes the values that the pod has for `matchLabelKeys` and `mismatchLabelKeys` into the
/// selectors beside them, as Kubernetes does when the pod is made.
pub(super) fn add_label_keys(affinity: &mut Affinity, labels: &BTreeMap<String, String>) {
    let near = affinity.pod_affinity.iter_mut().flat_map(|pods| {
        let preferred = &mut pods.preferred_during_scheduling_ignored_during_execution;
        let preferred = preferred.iter_mut().flatten();
        let required = &mut pods.required_during_scheduling_ignored_during_execution;
        let required = required.iter_mut().flatten();
        required.chain(preferred.map(|it| &mut it.pod_affinity_term))
    });
    let apart = affinity.pod_anti_affinity.iter_mut().flat_map(|pods| {
        let preferred = &mut pods.preferred_during_scheduling_ignored_during_execution;
        let preferred = preferred.iter_mut().flatten();
        let required = &mut pods.required_during_scheduling_ignored_during_execution;
        let required = required.iter_mut().flatten();
        required.chain(preferred.map(|it| &mut it.pod_affinity_term))
    });
    for term in near.chain(apart) {
        let Some(selector) = &mut term.label_selector else {
            continue;
        };
        for (operator, keys) in [
            ("In", &term.match_label_keys),
            ("NotIn", &term.mismatch_label_keys),
        ] {
            for key in keys.iter().flatten() {
                let Some(value) = labels.get(key) else {
                    continue;
                };
                let expression = LabelSelectorRequirement {
                    key: key.clone(),
                    operator: operator.to_owned(),
                    values: Some(vec![value.clone()]),
                };
                let expressions = selector.match_expressions.get_or_insert_default();
                if !expressions.contains(&expression) {
                    expressions.push(expression);
                }
            }
        }
    }
}

fn validate_weight(path: &Path<'_>, weight: i32, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        let rule = "must be in the range 1-100";
        errors.invalid(&path.field("weight"), weight, rule);
    }
}

fn validate_nodes(path: &Path<'_>, nodes: &NodeAffinity, errors: &mut Errors) {
    if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
        let path = path.field(REQUIRED);
        let terms = path.field("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            errors.required(&terms, "must have at least one node selector term");
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            validate_term(&terms.index(index), term, errors);
        }
    }
    let list = path.field(PREFERRED);
    let preferred = &nodes.preferred_during_scheduling_ignored_during_execution;
    for (index, weighted) in preferred.iter().flatten().enumerate() {
        let at = list.index(index);
        validate_weight(&at, weighted.weight, errors);
        validate_term(&at.field("preference"), &weighted.preference, errors);
    }
}

fn validate_term(at: &Path<'_>, term: &NodeSelectorTerm, errors: &mut Errors) {
    let labels = at.field("matchExpressions");
    for (index, wanted) in term.match_expressions.iter().flatten().enumerate() {
        let at = labels.index(index);
        validate_requirement(&at, wanted, LABEL_OPERATORS, errors);
        if !names::is_qualified_name(&wanted.key) {
            errors.invalid(&at.field("key"), &wanted.key, names::QUALIFIED_NAME_RULE);
        }
    }
    let fields = at.field("matchFields");
    for (index, wanted) in term.match_fields.iter().flatten().enumerate() {
        let at = fields.index(index);
        validate_requirement(&at, wanted, FIELD_OPERATORS, errors);
        if wanted.key != "metadata.name" {
            let rule = "not a valid field selector key";
            errors.invalid(&at.field("key"), &wanted.key, rule);
            continue;
        }
        let values = at.field("values");
        for (index, name) in wanted.values.iter().flatten().enumerate() {
            if !names::is_dns_subdomain(name) {
                errors.invalid(&values.index(index), name, names::DNS_SUBDOMAIN_RULE);
            }
        }
    }
}

fn validate_pods(path: &Path<'_>, term: &PodAffinityTerm, errors: &mut Errors) {
    for (field, selector) in [
        ("labelSelector", &term.label_selector),
        ("namespaceSelector", &term.namespace_selector),
    ] {
        if let Some(selector) = selector {
            label_selector::validate(&path.field(field), selector, errors);
        }
    }
    for name in term.namespaces.iter().flatten() {
        if !names::is_dns_label(name) {
            errors.invalid(&path.field("namespace"), name, names::DNS_LABEL_RULE);
        }
    }
    let same = term.match_label_keys.as_deref().unwrap_or_default();
    let other = term.mismatch_label_keys.as_deref().unwrap_or_default();
    for (field, keys) in [("matchLabelKeys", same), ("mismatchLabelKeys", other)] {
        let has_selector = term.label_selector.is_some();
        label_selector::validate_keys(&path.field(field), keys, has_selector, errors);
    }
    for (index, key) in same.iter().enumerate() {
        if other.contains(key) {
            let list = path.field("matchLabelKeys");
            let rule = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&list.index(index), key, rule);
        }
    }
    validate_key(path, &term.topology_key, errors);
}

/// The label of nodes that makes the domains of a topology.
pub(super) fn validate_key(path: &Path<'_>, key: &str, errors: &mut Errors) {
    let at = path.field("topologyKey");
    if key.is_empty() {
        errors.required(&at, "can not be empty");
    } else if !names::is_qualified_name(key) {
        errors.invalid(&at, key, names::QUALIFIED_NAME_RULE);
    }
}

fn validate_requirement(
    path: &Path<'_>,
    wanted: &NodeSelectorRequirement,
    operators: &[&str],
    errors: &mut Errors,
) {
    let values = wanted.values.as_deref().unwrap_or_default();
    let operator = wanted.operator.as_str();
    errors.one_of(&path.field("operator"), Some(operator), operators);
    let at = path.field("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &at,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => errors.required(
            &at,
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::strategy::Strategy as _;
    use super::super::check;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    #[test]
    fn affinity_to_nodes_is_judged() {
        let of_nodes = |term: Value, expected: &[&str]| {
            let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
            check::<Pod>("/spec/affinity", &affinity, expected);
        };
        of_nodes(
            json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}),
            &[],
        );
        of_nodes(
            json!({"matchFields": [{"key": "spec.x", "operator": "In", "values": ["a"]}]}),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key: Invalid value: \"spec.x\": not a valid field selector key",
            ],
        );
        of_nodes(
            json!({"matchExpressions": [{"key": "disk", "operator": "Near"}]}),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Unsupported value: \"Near\": supported values: \"In\", \"NotIn\", \"Exists\", \"DoesNotExist\", \"Gt\", \"Lt\"",
            ],
        );
    }

    #[test]
    fn label_keys_become_part_of_the_selector() {
        let term = json!({"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["v", "none"], "mismatchLabelKeys": ["w"]});
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {"labels": {"v": "1", "w": "2"}},
            "spec": {"containers": [], "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 1, "podAffinityTerm": term}]}}}}))
        .unwrap();
        pod.prepare_create();
        let pod = serde_json::to_value(&pod).unwrap();
        let list =
            "/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0";
        assert_eq!(
            pod.pointer(list).unwrap()["podAffinityTerm"]["labelSelector"]["matchExpressions"],
            json!([{"key": "v", "operator": "In", "values": ["1"]}, {"key": "w", "operator": "NotIn", "values": ["2"]}])
        );
    }

    #[test]
    fn affinity_to_pods_is_judged() {
        let of_pods = |kind: &str, change: Value, expected: &[&str]| {
            let mut term =
                json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
            json_patch::merge(&mut term, &change);
            let affinity = json!({kind: {
                "requiredDuringSchedulingIgnoredDuringExecution": [term],
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "podAffinityTerm": {"topologyKey": "zone"}}]}});
            let path =
                format!("spec.affinity.{kind}.requiredDuringSchedulingIgnoredDuringExecution[0]");
            let expected: Vec<String> =
                expected.iter().map(|one| format!("{path}.{one}")).collect();
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            check::<Pod>("/spec/affinity", &affinity, &expected);
        };
        for kind in ["podAffinity", "podAntiAffinity"] {
            of_pods(
                kind,
                json!({"namespaces": ["a"], "namespaceSelector": {}, "matchLabelKeys": ["v"]}),
                &[],
            );
            of_pods(
                kind,
                json!({"topologyKey": ""}),
                &["topologyKey: Required value: can not be empty"],
            );
            of_pods(
                kind,
                json!({"labelSelector": null, "mismatchLabelKeys": ["v"]}),
                &[
                    "mismatchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
                ],
            );
            of_pods(
                kind,
                json!({"matchLabelKeys": ["v"], "mismatchLabelKeys": ["v"]}),
                &[
                    "matchLabelKeys[0]: Invalid value: \"v\": exists in both matchLabelKeys and mismatchLabelKeys",
                ],
            );
            of_pods(
                kind,
                json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
                &[
                    "namespaceSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                ],
            );
        }
        let heavy = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "preference": {}}]}});
        check::<Pod>(
            "/spec/affinity",
            &heavy,
            &[
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100",
            ],
        );
    }
}
