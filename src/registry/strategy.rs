//! The strategy of a kind: the rules that the generic verbs ask for.
//!
//! A kind implements [`Strategy`] on its Rust type, in `resources/<kind>.rs`, and stands in the
//! table; both are all there is to adding a kind. Validation never changes an object, and what
//! changes an object (defaults, preparation, admission) never judges it.
//!
//! Verbs handle objects of every kind through [`Draft`], the same rules behind a pointer that does
//! not name the type, so no verb is compiled once per kind and none can mention one.

use std::any::{Any, TypeId};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use super::decode::{self, WrongType};
use super::field_error::Errors;
use crate::api::names;
use crate::store::Stored;

/// Which names a kind's objects may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, most kinds.
    Subdomain,
    /// RFC 1123 label: namespaces, modules.
    Label,
    /// RFC 1035 label: services, whose names are host names.
    Label1035,
    /// Whatever can stand in a URL: roles and their bindings, `system:basic-user`.
    PathSegment,
}

impl NameRule {
    /// Why `name` is refused, if it is.
    pub(crate) fn complaint(self, name: &str) -> Option<&'static str> {
        let (is_good, rule): (fn(&str) -> bool, _) = match self {
            Self::Subdomain => (names::is_dns_subdomain, names::DNS_SUBDOMAIN_RULE),
            Self::Label => (names::is_dns_label, names::DNS_LABEL_RULE),
            Self::Label1035 => (names::is_dns_1035_label, names::DNS_1035_RULE),
            Self::PathSegment => return names::path_segment_complaint(name),
        };
        (!is_good(name)).then_some(rule)
    }

    /// The longest name.
    pub(crate) fn limit(self) -> usize {
        match self {
            Self::Subdomain => 253,
            Self::Label | Self::Label1035 => 63,
            Self::PathSegment => 1024,
        }
    }
}

/// The rules of one kind.
pub trait Strategy:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + serde::Serialize
    + serde::de::DeserializeOwned
    + schemars::JsonSchema
    + Clone
    + Send
    + Sync
    + 'static
{
    /// Which names are allowed.
    const NAMES: NameRule = NameRule::Subdomain;

    /// Whether a stored object keeps its decoded form. What is large and seldom looked at does not.
    const IS_KEPT_DECODED: bool = true;
    /// Whether it has floating numbers, which Kubernetes writes without a point where they are whole.
    const HAS_FLOATS: bool = false;

    /// Fills what the user left out, on create and on update.
    fn set_defaults(&mut self) {}
    /// Drops what a user may not set on create (status), and sets what a new object starts with.
    fn prepare_create(&mut self) {}
    /// Sets what depends on the uid that a new object has been given.
    fn prepare_identified(&mut self) {}
    /// Carries over what an update may leave out (allocated addresses).
    fn prepare_update(&mut self, old: &Self) {
        let _ = old;
    }
    /// Judges the object by itself.
    fn validate(&self, errors: &mut Errors);
    /// Judges what only a new object may not have.
    fn validate_create(&self, errors: &mut Errors) {
        let _ = errors;
    }
    /// Judges a change of it.
    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let _ = (old, errors);
    }
    /// How many seconds a deletion waits for whoever runs the object; 0 removes it at once.
    fn grace(&self, requested: Option<i64>) -> i64 {
        let _ = requested;
        0
    }
    /// Marks a deletion that has to wait.
    fn prepare_delete(&mut self) {}
    /// Whether something other than `metadata.finalizers` keeps a deleted object in place.
    fn is_held(&self) -> bool {
        false
    }
    /// One row's cells, in the order of the kind's columns.
    fn cells(&self, now: Timestamp) -> Vec<Value>;
    /// A minimal valid object, for the conformance suite and for examples.
    fn sample() -> Value;
}

/// An object of some kind on its way into the store.
pub(crate) trait Draft: Any + Send + Sync {
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    fn set_defaults(&mut self);
    fn prepare_create(&mut self);
    fn prepare_identified(&mut self);
    fn prepare_update(&mut self, old: &dyn Draft);
    fn validate(&self, errors: &mut Errors);
    fn validate_create(&self, errors: &mut Errors);
    fn validate_update(&self, old: &dyn Draft, errors: &mut Errors);
    fn grace(&self, requested: Option<i64>) -> i64;
    fn prepare_delete(&mut self);
    fn is_held(&self) -> bool;
    fn cells(&self, now: Timestamp) -> Vec<Value>;
    fn to_value(&self) -> Result<Value, serde_json::Error>;
    fn boxed(&self) -> Box<dyn Draft>;
}

impl<K: Strategy> Draft for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
    fn set_defaults(&mut self) {
        Strategy::set_defaults(self);
    }
    fn prepare_create(&mut self) {
        Strategy::prepare_create(self);
    }
    fn prepare_identified(&mut self) {
        Strategy::prepare_identified(self);
    }
    fn prepare_update(&mut self, old: &dyn Draft) {
        if let Some(old) = get(old) {
            Strategy::prepare_update(self, old);
        }
    }
    fn validate(&self, errors: &mut Errors) {
        Strategy::validate(self, errors);
    }
    fn validate_create(&self, errors: &mut Errors) {
        Strategy::validate_create(self, errors);
    }
    fn validate_update(&self, old: &dyn Draft, errors: &mut Errors) {
        if let Some(old) = get(old) {
            Strategy::validate_update(self, old, errors);
        }
    }
    fn grace(&self, requested: Option<i64>) -> i64 {
        Strategy::grace(self, requested)
    }
    fn prepare_delete(&mut self) {
        Strategy::prepare_delete(self);
    }
    fn is_held(&self) -> bool {
        Strategy::is_held(self)
    }
    fn cells(&self, now: Timestamp) -> Vec<Value> {
        Strategy::cells(self, now)
    }
    fn to_value(&self) -> Result<Value, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        // Types that are not Kubernetes' own leave the type's name to us.
        value["apiVersion"] = K::API_VERSION.into();
        value["kind"] = K::KIND.into();
        if K::HAS_FLOATS {
            write_whole_numbers(&mut value);
        }
        Ok(value)
    }
    fn boxed(&self) -> Box<dyn Draft> {
        Box::new(self.clone())
    }
}

/// The draft as the type of one kind, for admission that concerns that kind.
pub(crate) fn get<K: 'static>(draft: &dyn Draft) -> Option<&K> {
    (draft as &dyn Any).downcast_ref()
}

/// The same for changing it.
pub(crate) fn get_mut<K: 'static>(draft: &mut dyn Draft) -> Option<&mut K> {
    (draft as &mut dyn Any).downcast_mut()
}

/// From the stored form of an object to the form that a row shows.
pub(crate) type Present = fn(&Value) -> Result<Value, serde_json::Error>;

/// A type's schema, see `schemas`.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A draft and the paths of the fields that its type does not know.
pub(crate) type Decoded = (Box<dyn Draft>, Vec<String>);

/// The entry points into one kind's type, as the table holds them.
pub(crate) struct Hooks {
    pub(crate) type_id: fn() -> TypeId,
    pub(crate) names: NameRule,
    /// From a request's body.
    pub(crate) decode: fn(&Value) -> Result<Decoded, WrongType>,
    /// From the store, decoded once per version.
    pub(crate) typed: fn(&Stored) -> Result<Arc<dyn Draft>, serde_json::Error>,
    /// The form that this row shows, where it differs from the stored one.
    pub(crate) present: Option<Present>,
    /// A reference to the type's schema, which the generator then holds.
    pub(crate) schema: SchemaOf,
}

impl Hooks {
    /// The hooks of a kind whose stored form is its own.
    pub(crate) const fn of<K: Strategy>() -> Self {
        Self {
            type_id: TypeId::of::<K>,
            names: K::NAMES,
            decode: decode_as::<K>,
            typed: typed_as::<K>,
            present: None,
            schema: schema_of::<K>,
        }
    }

    /// The hooks of a kind whose rules are its schema (`custom`); they are not called.
    pub(crate) const fn custom(names: NameRule) -> Self {
        Self {
            type_id: TypeId::of::<super::custom::object::Object>,
            names,
            decode: no_type,
            typed: no_stored_type,
            present: None,
            schema: schema_of::<Value>,
        }
    }
}

pub(crate) fn schema_of<K: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<K>()
}

fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number
                .as_f64()
                .filter(|it| it.fract() == 0.0 && it.abs() < 1e15);
            if let Some(whole) = whole {
                *value = Value::from(whole as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A row of a custom kind answers these itself.
fn no_type(_: &Value) -> Result<Decoded, WrongType> {
    Err(serde::de::Error::custom("a custom kind has no type"))
}

fn no_stored_type(_: &Stored) -> Result<Arc<dyn Draft>, serde_json::Error> {
    Err(serde::de::Error::custom("a custom kind has no type"))
}

fn decode_as<K: Strategy>(value: &Value) -> Result<Decoded, WrongType> {
    let decoded = decode::decode::<K>(value)?;
    Ok((Box::new(decoded.object), decoded.unknown))
}

/// A stored object as the kind's type.
pub(super) fn decoded<K: Strategy>(stored: &Stored) -> Result<Arc<K>, serde_json::Error> {
    if K::IS_KEPT_DECODED {
        return stored.typed();
    }
    K::deserialize(&stored.object).map(Arc::new)
}

fn typed_as<K: Strategy>(stored: &Stored) -> Result<Arc<dyn Draft>, serde_json::Error> {
    Ok(decoded::<K>(stored)?)
}
