//! A custom resource on its way: fields as they are, metadata typed, rules by the schema.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::{Custom, Version, columns, prune, validate};
use crate::registry::decode::{self, WrongType};
use crate::registry::field_error::Errors;
use crate::registry::strategy::{Decoded, Draft};
use crate::store::Stored;

/// An object of some custom kind.
#[derive(Clone)]
pub(crate) struct Object {
    version: Arc<Version>,
    meta: ObjectMeta,
    /// All but `apiVersion`, `kind` and `metadata`.
    fields: Map<String, Value>,
}

/// From a request's body: pruned and defaulted, with the paths of what was dropped.
pub(crate) fn decode(custom: &Custom, value: &Value) -> Result<Decoded, WrongType> {
    let version = custom.version();
    let mut fields = value.as_object().cloned().unwrap_or_default();
    let mut unknown = Vec::new();
    let metadata = fields.remove("metadata").unwrap_or_default();
    let meta = if metadata.is_null() {
        ObjectMeta::default()
    } else {
        let decoded = decode::decode::<ObjectMeta>(&metadata).map_err(WrongType::in_metadata)?;
        unknown.extend(
            decoded
                .unknown
                .iter()
                .map(|path| format!("metadata.{path}")),
        );
        decoded.object
    };
    fields.remove("apiVersion");
    fields.remove("kind");
    prune::prune(&version.schema, &mut fields, &mut unknown);
    fill(&version, &mut fields);
    let object = Object {
        version,
        meta,
        fields,
    };
    Ok((Box::new(object), unknown))
}

/// Defaults, but not those of what every object has.
fn fill(version: &Version, fields: &mut Map<String, Value>) {
    prune::default(&version.schema, fields);
    for name in ["apiVersion", "kind", "metadata"] {
        fields.remove(name);
    }
}

/// From the store.
pub(crate) fn typed(custom: &Custom, stored: &Stored) -> Result<Arc<dyn Draft>, serde_json::Error> {
    let mut fields = stored.object.as_object().cloned().unwrap_or_default();
    let meta = serde_json::from_value(fields.remove("metadata").unwrap_or_default())?;
    fields.remove("apiVersion");
    fields.remove("kind");
    Ok(Arc::new(Object {
        version: custom.version(),
        meta,
        fields,
    }))
}

/// The stored object as this version shows it; `None` if that is how it is stored.
pub(crate) fn shown(custom: &Custom, object: &Value) -> Option<Value> {
    let version = custom.version();
    if object["apiVersion"] == *version.shown_as {
        return None;
    }
    let mut shown = object.clone();
    shown["apiVersion"] = version.shown_as.as_str().into();
    Some(shown)
}

impl Draft for Object {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }

    fn set_defaults(&mut self) {
        fill(&self.version, &mut self.fields);
    }

    fn prepare_create(&mut self) {
        if self.version.has_status {
            self.fields.remove("status");
        }
    }

    fn prepare_identified(&mut self) {}

    fn prepare_update(&mut self, _old: &dyn Draft) {}

    fn validate(&self, errors: &mut Errors) {
        let metadata = serde_json::json!({
            "name": self.meta.name, "generateName": self.meta.generate_name,
        });
        validate::validate_object(&self.version.schema, &self.fields, &metadata, errors);
    }

    fn validate_create(&self, _errors: &mut Errors) {}

    fn validate_update(&self, _old: &dyn Draft, _errors: &mut Errors) {}

    fn grace(&self, _requested: Option<i64>) -> i64 {
        0
    }

    fn prepare_delete(&mut self) {}

    fn is_held(&self) -> bool {
        false
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        match self.to_value() {
            Ok(object) => columns::cells(&self.version.columns, &object, now),
            Err(_) => Vec::new(),
        }
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        let mut object = self.fields.clone();
        object.insert("metadata".to_owned(), serde_json::to_value(&self.meta)?);
        object.insert(
            "apiVersion".to_owned(),
            self.version.stored_as.as_str().into(),
        );
        object.insert("kind".to_owned(), self.version.kind.as_str().into());
        Ok(Value::Object(object))
    }

    fn boxed(&self) -> Box<dyn Draft> {
        Box::new(self.clone())
    }
}
