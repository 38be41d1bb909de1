//! What a quota bounds, and which objects it is about.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceQuota, ScopedResourceSelectorRequirement};

use super::usage::{Amounts, Traits};
use crate::api::quantity;

/// The bounds, in billionths. An unreadable one bounds to nothing.
pub(in super::super) fn hard(quota: &ResourceQuota) -> Amounts {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let empty = BTreeMap::new();
    hard.unwrap_or(&empty)
        .iter()
        .map(|(name, most)| (name.clone(), quantity::parse_nano(&most.0).unwrap_or(0)))
        .collect()
}

/// Whether an object with these traits is in all of the quota's scopes.
pub(super) fn matches(quota: &ResourceQuota, traits: &Traits) -> bool {
    let Some(spec) = &quota.spec else {
        return true;
    };
    let plain = spec.scopes.iter().flatten();
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    plain.into_iter().all(|scope| is_in(scope, traits))
        && selected.into_iter().all(|term| is_selected(term, traits))
}

fn is_in(scope: &str, traits: &Traits) -> bool {
    // What is no pod is in no scope.
    let Traits::Pod(pod) = traits else {
        return false;
    };
    match scope {
        "Terminating" => pod.has_deadline,
        "NotTerminating" => !pod.has_deadline,
        "BestEffort" => pod.is_best_effort,
        "NotBestEffort" => !pod.is_best_effort,
        "PriorityClass" => pod.priority_class.is_some(),
        _ => false,
    }
}

fn is_selected(term: &ScopedResourceSelectorRequirement, traits: &Traits) -> bool {
    let Traits::Pod(pod) = traits else {
        return false;
    };
    let class = pod.priority_class.as_deref().unwrap_or_default();
    let values = term.values.as_deref().unwrap_or_default();
    let is_listed = values.iter().any(|value| value == class);
    match term.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "DoesNotExist" => !is_in(&term.scope_name, traits),
        _ => is_in(&term.scope_name, traits),
    }
}
