//! Affinity: the required kind for nodes is honoured, all others are refused by name.

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorRequirement};

use super::super::field_error::Errors;
use super::super::path::Path;
use crate::api::names;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const LABEL_OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
const FIELD_OPERATORS: &[&str] = &["In", "NotIn"];

pub(super) fn validate(path: &Path<'_>, affinity: &Affinity, errors: &mut Errors) {
    let hint = "replicas are spread over the nodes already; use nodeAffinity, nodeSelector, taints and tolerations";
    let pods = path.field("podAffinity");
    errors.not_honoured(&pods, affinity.pod_affinity.is_some(), hint);
    let pods = path.field("podAntiAffinity");
    errors.not_honoured(&pods, affinity.pod_anti_affinity.is_some(), hint);
    let Some(nodes) = &affinity.node_affinity else {
        return;
    };
    let path = path.field("nodeAffinity");
    let preferred = &nodes.preferred_during_scheduling_ignored_during_execution;
    errors.not_honoured(
        &path.field("preferredDuringSchedulingIgnoredDuringExecution"),
        preferred.as_ref().is_some_and(|terms| !terms.is_empty()),
        "nodes are chosen by what is free on them; use requiredDuringSchedulingIgnoredDuringExecution",
    );
    let Some(required) = &nodes.required_during_scheduling_ignored_during_execution else {
        return;
    };
    let path = path.field(REQUIRED);
    let terms = path.field("nodeSelectorTerms");
    if required.node_selector_terms.is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for (index, term) in required.node_selector_terms.iter().enumerate() {
        let at = terms.index(index);
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
            }
        }
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
    use super::super::check;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    #[test]
    fn node_affinity_is_judged_and_the_rest_refused() {
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
        check::<Pod>(
            "/spec/affinity",
            &json!({"podAntiAffinity": {}}),
            &[
                "spec.affinity.podAntiAffinity: Forbidden: wasmorch does not honour this field: replicas are spread over the nodes already; use nodeAffinity, nodeSelector, taints and tolerations",
            ],
        );
    }
}
