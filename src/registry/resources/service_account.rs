//! ServiceAccounts: who a pod is. They are stored and named; no tokens are issued yet.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::integer("Secrets"),
    Column::text("Age"),
];

impl Strategy for ServiceAccount {
    fn validate(&self, _errors: &mut Errors) {}

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cell::name(&self.metadata),
            self.secrets.as_ref().map_or(0, Vec::len).into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sample"}})
    }
}
