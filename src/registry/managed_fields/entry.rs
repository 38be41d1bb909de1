//! One entry: a manager, how it writes, and what it owns.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::element::Element;
use super::set::Set;
use crate::registry::update::Part;

/// Metadata that nobody owns but the server.
const SYSTEM: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// Who writes, and how.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: Option<&'static str>,
    pub(crate) part: Part,
    /// When, in the wire's form.
    pub(crate) time: Value,
}

impl Manager {
    pub(super) fn entry(&self, fields: Set) -> Entry {
        Entry {
            manager: self.name.clone(),
            operation: self.operation,
            api_version: self.api_version.clone(),
            subresource: self.subresource.unwrap_or_default().to_owned(),
            time: self.time.clone(),
            fields,
        }
    }

    /// Of these fields, those that this manager may own.
    pub(super) fn claim(&self, mut fields: Set) -> Set {
        strip(&mut fields);
        match self.part {
            Part::Main | Part::Finalize => {
                fields.take_field("status");
                fields
            }
            Part::Whole => fields,
            Part::Status => only(&mut fields, &["status"]),
            Part::EphemeralContainers => only(&mut fields, &["spec", "ephemeralContainers"]),
        }
    }

    /// An applier's entry is its own whatever the version; a writer has one for each.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        entry.manager == self.name
            && entry.operation == self.operation
            && entry.subresource == self.subresource.unwrap_or_default()
            && (self.operation == Operation::Apply || entry.api_version == self.api_version)
    }
}

/// The subtree at this path alone.
fn only(fields: &mut Set, path: &[&str]) -> Set {
    let Some((first, rest)) = path.split_first() else {
        return std::mem::take(fields);
    };
    let mut set = Set::default();
    if let Some(mut child) = fields.take_field(first) {
        let child = only(&mut child, rest);
        set.put(Element::Field((*first).to_owned()), child);
    }
    set
}

/// Takes out what nobody owns.
pub(super) fn strip(fields: &mut Set) {
    fields.take_field("apiVersion");
    fields.take_field("kind");
    if let Some(mut metadata) = fields.take_field("metadata") {
        metadata.owned = false;
        for name in SYSTEM {
            metadata.take_field(name);
        }
        fields.put(Element::Field("metadata".to_owned()), metadata);
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Value,
    pub(super) fields: Set,
}

impl Entry {
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            let _ = write!(text, " with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            let _ = write!(text, " using {}", self.api_version);
        }
        text
    }

    pub(super) fn encode(&self) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("manager", self.manager.as_str().into());
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        put("operation", operation.into());
        put("apiVersion", self.api_version.as_str().into());
        put("time", self.time.clone());
        put("fieldsType", "FieldsV1".into());
        put("fieldsV1", self.fields.encode());
        if !self.subresource.is_empty() {
            put("subresource", self.subresource.as_str().into());
        }
        Value::Object(fields)
    }

    pub(super) fn decode(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("fieldsType") != "FieldsV1" {
            return None;
        }
        Some(Self {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: value.get("time").cloned().unwrap_or_default(),
            fields: Set::decode(value.get("fieldsV1")?)?,
        })
    }

    pub(super) fn same_but_time(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.api_version == other.api_version
            && self.subresource == other.subresource
            && self.fields == other.fields
    }
}
