//! ConfigMaps.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use super::config_data::{validate_frozen, validate_key, validate_size};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::integer("Data"),
    Column::text("Age"),
];

impl Strategy for ConfigMap {
    fn validate(&self, errors: &mut Errors) {
        let (data, binary) = (Path::Root.field("data"), Path::Root.field("binaryData"));
        let mut size = 0;
        for (key, value) in self.data.iter().flatten() {
            validate_key(&data, key, errors);
            if self
                .binary_data
                .as_ref()
                .is_some_and(|b| b.contains_key(key))
            {
                errors.invalid(
                    &data.key(key),
                    key,
                    "duplicate of key present in binaryData",
                );
            }
            size += value.len();
        }
        for (key, value) in self.binary_data.iter().flatten() {
            validate_key(&binary, key, errors);
            size += value.0.len();
        }
        validate_size(&Path::Root.field("data"), size, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        if old.immutable == Some(true) {
            validate_frozen("immutable", &self.immutable, &old.immutable, errors);
            validate_frozen("data", &self.data, &old.data, errors);
            validate_frozen("binaryData", &self.binary_data, &old.binary_data, errors);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let count = self
            .data
            .as_ref()
            .map_or(0, std::collections::BTreeMap::len)
            + self
                .binary_data
                .as_ref()
                .map_or(0, std::collections::BTreeMap::len);
        vec![
            cell::name(&self.metadata),
            count.into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sample"}, "data": {"key": "value"}})
    }
}
