//! Selectors and template of a workload: they must select the pods that they make.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::super::field_error::Errors;
use super::super::meta;
use super::super::path::Path;
use crate::api::names;
use crate::api::selector::Labels;

/// A selector by itself.
pub(super) fn validate(path: &Path<'_>, selector: &LabelSelector, errors: &mut Errors) {
    if let Some(labels) = &selector.match_labels {
        meta::validate_labels(&path.field("matchLabels"), labels, errors);
    }
    let expressions = path.field("matchExpressions");
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = expressions.index(index);
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &at.field("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if values.is_empty() => {}
            "Exists" | "DoesNotExist" => errors.forbidden(
                &at.field("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            other => errors.not_supported(
                &at.field("operator"),
                other,
                &["In", "NotIn", "Exists", "DoesNotExist"],
            ),
        }
        if !names::is_qualified_name(&expression.key) {
            errors.invalid(
                &at.field("key"),
                &expression.key,
                names::QUALIFIED_NAME_RULE,
            );
        }
    }
}

/// Keys whose values of the pod itself are added to a selector.
pub(super) fn validate_keys(
    path: &Path<'_>,
    keys: &[String],
    has_selector: bool,
    errors: &mut Errors,
) {
    if !keys.is_empty() && !has_selector {
        let rule = "must not be specified when labelSelector is not set";
        errors.forbidden(path, rule);
    }
    for (index, key) in keys.iter().enumerate() {
        if !names::is_qualified_name(key) {
            errors.invalid(&path.index(index), key, names::QUALIFIED_NAME_RULE);
        }
    }
}

/// A workload's selector and the labels of its template, with `spec` the path of both.
pub(super) fn validate_workload(
    spec: &Path<'_>,
    selector: &LabelSelector,
    template_labels: Option<&BTreeMap<String, String>>,
    errors: &mut Errors,
) {
    let path = spec.field("selector");
    let is_empty = selector
        .match_labels
        .as_ref()
        .is_none_or(BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty);
    if is_empty {
        errors.required(&path, "an empty selector would select every pod");
        return;
    }
    validate(&path, selector, errors);
    let selects =
        Labels::from_selector(selector).is_ok_and(|labels| labels.matches(template_labels));
    if !selects {
        let template = spec.field("template");
        let metadata = template.field("metadata");
        errors.invalid_json(
            &metadata.field("labels"),
            &template_labels,
            "`selector` does not match template `labels`",
        );
    }
}
