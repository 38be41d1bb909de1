//! Leases: heartbeats and elections. The store keeps them in memory only.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Holder"),
    Column::text("Age"),
];

impl Strategy for Lease {
    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let Some(spec) = &self.spec else { return };
        if let Some(seconds) = spec.lease_duration_seconds
            && seconds <= 0
        {
            errors.invalid(
                &path.field("leaseDurationSeconds"),
                seconds,
                "must be greater than 0",
            );
        }
        errors.non_negative(
            &path.field("leaseTransitions"),
            spec.lease_transitions.map(i64::from),
        );
        errors.not_honoured(
            &path.field("strategy"),
            spec.strategy.is_some(),
            "there are no coordinated elections; remove it",
        );
        errors.not_honoured(
            &path.field("preferredHolder"),
            spec.preferred_holder.is_some(),
            "there are no coordinated elections; remove it",
        );
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let holder = self
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone());
        vec![
            cell::name(&self.metadata),
            holder.unwrap_or_default().into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "sample"},
            "spec": {"holderIdentity": "someone", "leaseDurationSeconds": 40}})
    }
}
