//! Roles and ClusterRoles: lists of what may be done.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::rbac::rule;
use super::super::strategy::{NameRule, Strategy};
use super::{cell, label_selector};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[Column::text("Name"), Column::text("Created At")];

impl Strategy for Role {
    const NAMES: NameRule = NameRule::PathSegment;

    fn validate(&self, errors: &mut Errors) {
        let rules = self.rules.as_deref().unwrap_or_default();
        validate_rules(rules, true, errors);
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        cells(&self.metadata)
    }

    fn sample() -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "sample"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})
    }
}

impl Strategy for ClusterRole {
    const NAMES: NameRule = NameRule::PathSegment;

    fn validate(&self, errors: &mut Errors) {
        let rules = self.rules.as_deref().unwrap_or_default();
        validate_rules(rules, false, errors);
        let Some(aggregation) = &self.aggregation_rule else {
            return;
        };
        let path = Path::Root.field("aggregationRule");
        let path = path.field("clusterRoleSelectors");
        let selectors = aggregation
            .cluster_role_selectors
            .as_deref()
            .unwrap_or_default();
        if selectors.is_empty() {
            errors.required(
                &path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (index, selector) in selectors.iter().enumerate() {
            label_selector::validate(&path.index(index), selector, errors);
        }
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        cells(&self.metadata)
    }

    fn sample() -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "sample"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]})
    }
}

fn cells(meta: &ObjectMeta) -> Vec<Value> {
    let created = meta.creation_timestamp.as_ref().map(|time| time.0);
    let created = created.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    vec![cell::name(meta), created.unwrap_or_default().into()]
}

fn validate_rules(rules: &[PolicyRule], is_namespaced: bool, errors: &mut Errors) {
    let path = Path::Root.field("rules");
    let pieces = rule::count_pieces(rules);
    if pieces > rule::PIECES {
        errors.forbidden(
            &path,
            &format!(
                "verbs, groups, resources and names of all rules come to {pieces} combinations; a role may have {}",
                rule::PIECES
            ),
        );
    }
    for (index, rule) in rules.iter().enumerate() {
        validate_rule(&path.index(index), rule, is_namespaced, errors);
    }
}

fn validate_rule(path: &Path<'_>, rule: &PolicyRule, is_namespaced: bool, errors: &mut Errors) {
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if rule.verbs.is_empty() {
        errors.required(
            &path.field("verbs"),
            "verbs must contain at least one value",
        );
    }
    if !is_empty(&rule.non_resource_urls) {
        let path = path.field("nonResourceURLs");
        if is_namespaced {
            errors.invalid_json(
                &path,
                &rule.non_resource_urls,
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        let has_resources = !is_empty(&rule.api_groups)
            || !is_empty(&rule.resources)
            || !is_empty(&rule.resource_names);
        if has_resources {
            errors.invalid_json(
                &path,
                &rule.non_resource_urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if is_empty(&rule.api_groups) {
        errors.required(
            &path.field("apiGroups"),
            "resource rules must supply at least one api group",
        );
    }
    if is_empty(&rule.resources) {
        errors.required(
            &path.field("resources"),
            "resource rules must supply at least one resource",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn refuses_in_kubernetes_words() {
        check::<Role>(
            "/rules",
            &json!([{"verbs": []}]),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ],
        );
        check::<Role>(
            "/rules",
            &json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]),
            &[
                "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to non-resource URLs",
            ],
        );
        check::<ClusterRole>(
            "/rules",
            &json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]),
            &[],
        );
        check::<ClusterRole>(
            "/rules",
            &json!([{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]),
            &[
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
            ],
        );
        check::<ClusterRole>(
            "/aggregationRule",
            &json!({}),
            &[
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
            ],
        );
        check::<ClusterRole>("/metadata", &json!({"name": "system:basic-user"}), &[]);
        let many = |count: usize| {
            (0..count)
                .map(|number| number.to_string())
                .collect::<Vec<_>>()
        };
        check::<Role>(
            "/rules",
            &json!([{"verbs": many(51), "apiGroups": many(10), "resources": many(100)}]),
            &[
                "rules: Forbidden: verbs, groups, resources and names of all rules come to 51000 combinations; a role may have 50000",
            ],
        );
    }
}
