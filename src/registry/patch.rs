//! Patches: three ways to say what shall be different, and one to say what shall be.

mod json;
mod merge;
mod strategic;

use serde_json::Value;

use super::error::Error;
use super::field_error::FieldError;
use super::kinds::ResourceInfo;

#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902, a list of operations.
    Json(Value),
    /// RFC 7386, an object laid over the other.
    Merge(Value),
    /// Kubernetes' own: the same, with lists merged by key.
    Strategic(Value),
    /// Server-side apply: a manifest that its manager stands for.
    Apply {
        object: Value,
        /// Takes fields from others.
        force: bool,
        /// Whether the caller may create what is not there: a right of its own.
        may_create: bool,
    },
}

/// A patch that has been read.
pub(super) enum Compiled {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

/// Why a patch cannot be applied to an object.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// The patch itself is wrong.
    Malformed(String),
    /// It does not fit the object.
    Unfit(String),
}

impl Refusal {
    pub(super) fn on(self, res: &ResourceInfo, name: &str) -> Error {
        match self {
            Self::Malformed(message) => Error::BadRequest(message),
            Self::Unfit(message) => Error::invalid(
                res,
                name,
                vec![FieldError {
                    reason: "FieldValueInvalid",
                    field: "patch".to_owned(),
                    message: format!("Invalid value: {message}"),
                }],
            ),
        }
    }
}

impl Compiled {
    pub(super) fn new(patch: Patch) -> Result<Self, Error> {
        let object = |value: Value| {
            if value.is_object() {
                Ok(value)
            } else {
                Err(Error::BadRequest("a patch must be an object".to_owned()))
            }
        };
        match patch {
            Patch::Json(value) => Ok(Self::Json(json::parse(value)?)),
            Patch::Merge(value) => Ok(Self::Merge(object(value)?)),
            Patch::Strategic(value) => Ok(Self::Strategic(object(value)?)),
            // It is no patch of what is there; a verb of its own takes it.
            Patch::Apply { .. } => Err(Error::MethodNotAllowed),
        }
    }

    /// The patched object.
    pub(super) fn apply(&self, kind: &str, object: Value) -> Result<Value, Refusal> {
        match self {
            Self::Json(patch) => json::apply(object, patch),
            Self::Merge(patch) => Ok(merge::apply(object, patch)),
            Self::Strategic(patch) => strategic::apply(kind, object, patch),
        }
    }

    /// Whether the patch means one version of the object only.
    pub(super) fn names_a_revision(&self) -> bool {
        match self {
            Self::Json(patch) => patch
                .iter()
                .any(|operation| operation.path().as_str() == "/metadata/resourceVersion"),
            Self::Merge(patch) | Self::Strategic(patch) => {
                patch.pointer("/metadata/resourceVersion").is_some()
            }
        }
    }
}
