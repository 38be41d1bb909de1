//! ResourceQuotas: how much a namespace may hold. `registry/quota.rs` keeps it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::quota::usage;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::quantity;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Request"),
    Column::text("Limit"),
    Column::text("Age"),
];

const SCOPES: &[&str] = &[
    "BestEffort",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
];

impl Strategy for ResourceQuota {
    fn prepare_create(&mut self) {
        self.status = None;
    }

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        let path = Path::Root.field("spec");
        let list = path.field("hard");
        for (name, amount) in spec.hard.iter().flatten() {
            let at = list.key(name);
            if !usage::is_known(name) {
                errors.invalid(&at, name, "must be a standard resource for quota");
            }
            match quantity::parse_nano(&amount.0) {
                Ok(nano) if nano < 0 => {
                    errors.invalid(&at, &amount.0, "must be greater than or equal to 0");
                }
                Ok(_) => {}
                Err(error) => errors.invalid(&at, &amount.0, &error.to_string()),
            }
        }
        validate_scopes(&path, spec, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let scopes = |quota: &Self| {
            let spec = quota.spec.as_ref();
            let mut scopes = spec
                .and_then(|spec| spec.scopes.clone())
                .unwrap_or_default();
            scopes.sort();
            scopes
        };
        let path = Path::Root.field("spec");
        errors.immutable(&path.field("scopes"), &scopes(self), &scopes(old));
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.as_ref();
        let hard = status.and_then(|status| status.hard.as_ref());
        let used = status.and_then(|status| status.used.as_ref());
        let shown = |wants_limits: bool| {
            let chosen = hard
                .into_iter()
                .flatten()
                .filter(|(name, _)| name.starts_with("limits") == wants_limits);
            let one = |(name, hard): (
                &String,
                &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
            )| {
                let used = used.and_then(|used| used.get(name));
                let used = used.map_or("0", |used| used.0.as_str());
                format!("{name}: {used}/{}", hard.0)
            };
            Value::from(chosen.map(one).collect::<Vec<_>>().join(", "))
        };
        vec![
            cell::name(&self.metadata),
            shown(false),
            shown(true),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "sample"},
            "spec": {"hard": {"pods": "100"}}})
    }
}

fn validate_scopes(path: &Path<'_>, spec: &ResourceQuotaSpec, errors: &mut Errors) {
    let at = path.field("scopes");
    let mut scopes: Vec<&str> = Vec::new();
    for scope in spec.scopes.iter().flatten() {
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid_json(&at, &spec.scopes, "unsupported scope");
        }
        scopes.push(scope);
    }
    let selector = path.field("scopeSelector");
    let list = selector.field("matchExpressions");
    let terms = spec.scope_selector.iter();
    let terms = terms.flat_map(|selector| selector.match_expressions.iter().flatten());
    for (index, term) in terms.enumerate() {
        let at = list.index(index);
        if !SCOPES.contains(&term.scope_name.as_str()) {
            errors.invalid(
                &at.field("scopeName"),
                &term.scope_name,
                "unsupported scope",
            );
        }
        let has_values = term
            .values
            .as_ref()
            .is_some_and(|values| !values.is_empty());
        match term.operator.as_str() {
            "In" | "NotIn" if term.scope_name != "PriorityClass" => errors.invalid(
                &at.field("operator"),
                &term.operator,
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            ),
            "In" | "NotIn" if !has_values => errors.required(
                &at.field("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if has_values => errors.invalid_json(
                &at.field("values"),
                &term.values,
                "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector",
            ),
            "Exists" => scopes.push(&term.scope_name),
            "DoesNotExist" => {}
            other => errors.invalid(&at.field("operator"), other, "not a valid selector operator"),
        }
    }
    for pair in [
        ["BestEffort", "NotBestEffort"],
        ["Terminating", "NotTerminating"],
    ] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.invalid_json(&at, &spec.scopes, "conflicting scopes");
        }
    }
    for name in spec.hard.iter().flatten().map(|(name, _)| name.as_str()) {
        let is_of_pods = |name: &str| {
            let asked = name
                .strip_prefix("requests.")
                .or(name.strip_prefix("limits."));
            let plain = asked.unwrap_or(name);
            matches!(plain, "cpu" | "memory" | "ephemeral-storage")
                || matches!(name, "pods" | "count/pods")
        };
        let is_wrong = match scopes.contains(&"BestEffort") {
            true => !matches!(name, "pods" | "count/pods"),
            false => !scopes.is_empty() && !is_of_pods(name),
        };
        if is_wrong {
            errors.invalid_json(&at, &spec.scopes, "unsupported scope applied to resource");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn refuses_what_cannot_be_kept() {
        let check =
            |spec: Value, expected: &[&str]| check::<ResourceQuota>("/spec", &spec, expected);
        check(
            json!({"hard": {"count/deployments.apps": "1", "requests.cpu": "1", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}}),
            &[],
        );
        check(
            json!({"hard": {"hugepages-2Mi": "1", "pods": "-1"}}),
            &[
                "spec.hard[hugepages-2Mi]: Invalid value: \"hugepages-2Mi\": must be a standard resource for quota",
                "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        );
        check(
            json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
            &["spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes"],
        );
        check(
            json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
            &[
                "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
            ],
        );
        check(
            json!({"hard": {"pods": "1"}, "scopes": ["CrossNamespacePodAffinity"]}),
            &["spec.scopes: Invalid value: [\"CrossNamespacePodAffinity\"]: unsupported scope"],
        );
    }
}
