//! Secrets. `stringData` is how one is written, `data` how it is kept.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use super::config_data::{validate_frozen, validate_key, validate_size};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Type"),
    Column::integer("Data"),
    Column::text("Age"),
];
pub(crate) const FIELDS: &[Selectable] = &[Selectable::field("type")];

impl Strategy for Secret {
    fn set_defaults(&mut self) {
        if self.type_.as_deref().is_none_or(str::is_empty) {
            self.type_ = Some("Opaque".to_owned());
        }
        if let Some(text) = self.string_data.take() {
            let bytes = text
                .into_iter()
                .map(|(key, value)| (key, ByteString(value.into_bytes())));
            self.data.get_or_insert_default().extend(bytes);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("data");
        for key in self.data.iter().flat_map(|data| data.keys()) {
            validate_key(&path, key, errors);
        }
        let size = self.data.iter().flatten().map(|(_, value)| value.0.len());
        validate_size(&path, size.sum(), errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        errors.immutable(&Path::Root.field("type"), &self.type_, &old.type_);
        if old.immutable == Some(true) {
            validate_frozen("immutable", &self.immutable, &old.immutable, errors);
            validate_frozen("data", &self.data, &old.data, errors);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cell::name(&self.metadata),
            self.type_.clone().unwrap_or_default().into(),
            self.data
                .as_ref()
                .map_or(0, std::collections::BTreeMap::len)
                .into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sample"}, "stringData": {"key": "value"}})
    }
}
