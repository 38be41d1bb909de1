//! PodDisruptionBudgets: how many of some pods may be taken away on purpose at a time.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, deployment, label_selector};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Min Available"),
    Column::text("Max Unavailable"),
    Column::integer("Allowed Disruptions"),
    Column::text("Age"),
];

impl Strategy for PodDisruptionBudget {
    fn prepare_create(&mut self) {
        self.status = Some(PodDisruptionBudgetStatus::default());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let empty = PodDisruptionBudgetSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            errors.invalid_json(
                &path,
                spec,
                "minAvailable and maxUnavailable cannot be both set",
            );
        }
        for (field, share) in [
            ("minAvailable", &spec.min_available),
            ("maxUnavailable", &spec.max_unavailable),
        ] {
            let at = path.field(field);
            let number = deployment::validate_share(&at, share.as_ref(), errors);
            let is_percent = matches!(share, Some(IntOrString::String(_)));
            if is_percent && number.is_some_and(|percent| percent > 100) {
                errors.invalid_json(&at, share, "must not be greater than 100%");
            }
        }
        if let Some(selector) = &spec.selector {
            label_selector::validate(&path.field("selector"), selector, errors);
        }
        errors.one_of(
            &path.field("unhealthyPodEvictionPolicy"),
            spec.unhealthy_pod_eviction_policy.as_deref(),
            &["AlwaysAllow", "IfHealthyBudget"],
        );
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let share = |share: Option<&IntOrString>| match share {
            None => "N/A".to_owned(),
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(text)) => text.clone(),
        };
        let allowed = self.status.as_ref().map(|it| it.disruptions_allowed);
        vec![
            cell::name(&self.metadata),
            share(spec.and_then(|spec| spec.min_available.as_ref())).into(),
            share(spec.and_then(|spec| spec.max_unavailable.as_ref())).into(),
            allowed.unwrap_or(0).into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "sample"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "sample"}}}})
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn one_bound_that_can_be_met() {
        check::<PodDisruptionBudget>("/spec/minAvailable", &json!("50%"), &[]);
        check::<PodDisruptionBudget>(
            "/spec/minAvailable",
            &json!("150%"),
            &["spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%"],
        );
        check::<PodDisruptionBudget>(
            "/spec",
            &json!({"minAvailable": 1, "maxUnavailable": 1}),
            &[
                "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
            ],
        );
    }
}
