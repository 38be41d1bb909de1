//! One step of a path into an object, as `fieldsV1` writes it: `f:name`, `k:{"name":"web"}`,
//! `v:"a/b"`, `i:0`.
//!
//! Keys and values are kept as canonical JSON text (keys sorted, no blanks), so that steps compare
//! as text whoever wrote them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use crate::registry::merge_keys::Keys;

/// The order is that of Kubernetes: fields, keys, values, indices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    Field(String),
    Key(String),
    Value(String),
    Index(u64),
}

impl Element {
    /// `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Self::Key(canonical(&keys)))
            }
            "v" => {
                let value: Value = serde_json::from_str(rest).ok()?;
                Some(Self::Value(value.to_string()))
            }
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    pub(super) fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// The step to an item of a list with keys; `None` if the item lacks one.
    pub(super) fn of_item(keys: Keys<'_>, item: &Value) -> Option<Self> {
        let mut found = Map::new();
        for key in keys.names() {
            found.insert(key.to_owned(), keys.value(item, key)?);
        }
        Some(Self::Key(canonical(&found)))
    }

    /// The step to an item of a set.
    pub(super) fn of_value(value: &Value) -> Self {
        Self::Value(value.to_string())
    }
}

/// As a path shows it: `.image`, `[name="web"]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(keys) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                f.write_char('[')?;
                for (index, (key, value)) in keys.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{key}={value}")?;
                }
                f.write_char(']')
            }
        }
    }
}

fn canonical(keys: &Map<String, Value>) -> String {
    let sorted: BTreeMap<&String, &Value> = keys.iter().collect();
    serde_json::to_string(&sorted).expect("a map of JSON values always encodes")
}
