//! What a row says differently when its kind is a custom one.

use std::sync::Arc;

use serde_json::Value;

use super::{Version, columns};
use crate::registry::kinds::ResourceInfo;
use crate::registry::merge_keys::Root;

/// How the fields of a kind merge, held for the length of a write.
pub(crate) enum Merging {
    BuiltIn(&'static str),
    Custom(Arc<Version>),
}

impl Merging {
    pub(crate) fn root(&self) -> Root<'_> {
        match self {
            Self::BuiltIn(kind) => Root::Kind(kind),
            Self::Custom(version) => Root::Schema(&version.schema),
        }
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

impl ResourceInfo {
    /// Whether a definition brought it.
    pub fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// What may be said for its name.
    pub fn short_names(&self) -> Vec<String> {
        match self.custom {
            Some(custom) => custom.version().short_names.clone(),
            None => owned(self.short_names),
        }
    }

    /// The groups of kinds that it belongs to, as `all`.
    pub fn categories(&self) -> Vec<String> {
        match self.custom {
            Some(custom) => custom.version().categories.clone(),
            None => owned(self.categories),
        }
    }

    /// What whoever uses it is told, if it is deprecated.
    pub fn deprecation(&self) -> Option<String> {
        self.custom?.version().deprecation.clone()
    }

    /// The schema that its definition has.
    pub fn custom_schema(&self) -> Option<Value> {
        self.custom?.version().schema_text().cloned()
    }

    /// The columns of a custom kind, as a table announces them.
    pub fn custom_columns(&self) -> Option<Vec<Value>> {
        Some(columns::definitions(&self.custom?.version().columns))
    }

    /// How its fields merge.
    pub(crate) fn merging(&self) -> Merging {
        match self.custom {
            None => Merging::BuiltIn(self.kind),
            Some(custom) => Merging::Custom(custom.version()),
        }
    }

    /// Whether its status is written through its subresource alone, or is none.
    pub(crate) fn splits_status(&self) -> bool {
        self.custom.is_none_or(|custom| custom.version().has_status)
    }
}
