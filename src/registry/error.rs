//! What a verb may answer instead of an object.
//!
//! Each variant is one reason of `Status` (or one that a client treats alike); the code and the
//! body are made in one place, by the API server. Texts are Kubernetes' own: clients show them,
//! and some read them.

use super::field_error::FieldError;
use super::kinds::ResourceInfo;
use super::managed_fields::FieldConflict;
use crate::store;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{resource} \"{name}\" not found")]
    NotFound { resource: String, name: String },
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists { resource: String, name: String },
    #[error("Operation cannot be fulfilled on {resource} \"{name}\": {message}")]
    Conflict {
        resource: String,
        name: String,
        message: String,
    },
    /// Fields that other managers own; Kubernetes' text.
    #[error("{}", conflict_text(.0))]
    ApplyConflict(Vec<FieldConflict>),
    /// With every mistake: events of controllers say no more than this.
    #[error("{}", invalid_text(group, kind, name, errors))]
    Invalid {
        group: String,
        kind: String,
        name: String,
        errors: Vec<FieldError>,
    },
    #[error("{0}")]
    BadRequest(String),
    #[error("{resource} \"{name}\" is forbidden: {message}")]
    Forbidden {
        resource: String,
        name: String,
        message: String,
        cause: Option<&'static str>,
    },
    /// An eviction that the pod's disruption budget does not allow now.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    DisruptionBudget {
        cause: String,
        retry_after: Option<u32>,
    },
    #[error(
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    )]
    SeveralBudgets,
    #[error("The resourceVersion for the provided watch is too old.")]
    Expired,
    #[error("Too large resource version")]
    FutureRevision { requested: u64, current: u64 },
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("create not allowed while custom resource definition is terminating")]
    CreateNotAllowed,
    /// A custom resource has no strategic merge patch.
    #[error(
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )]
    NoStrategicPatch,
    #[error("store")]
    Store(#[source] store::Error),
    #[error("decode stored {resource} \"{name}\"")]
    Corrupt {
        resource: String,
        name: String,
        #[source]
        source: serde_json::Error,
    },
}

/// What Kubernetes says when somebody else wrote in between.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

fn invalid_text(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> String {
    // The message tells a mistake once, the causes each time.
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let list = match &texts[..] {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group} \"{name}\" is invalid: {list}")
}

fn conflict_text(conflicts: &[FieldConflict]) -> String {
    if let [one] = conflicts {
        let FieldConflict { manager, field } = one;
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let mut lines = Vec::new();
    for (index, conflict) in conflicts.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| &conflicts[index].manager);
        if before != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
        }
        lines.push(format!("- {}", conflict.field));
    }
    let count = conflicts.len();
    format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
}

impl Error {
    pub(crate) fn not_found(res: &ResourceInfo, name: &str) -> Self {
        Self::NotFound {
            resource: res.qualified.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn conflict(res: &ResourceInfo, name: &str, message: impl Into<String>) -> Self {
        Self::Conflict {
            resource: res.qualified.to_owned(),
            name: name.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn invalid(res: &ResourceInfo, name: &str, errors: Vec<FieldError>) -> Self {
        Self::Invalid {
            group: res.group.to_owned(),
            kind: res.kind.to_owned(),
            name: name.to_owned(),
            errors,
        }
    }

    pub(crate) fn forbidden(res: &ResourceInfo, name: &str, message: impl Into<String>) -> Self {
        Self::Forbidden {
            resource: res.qualified.to_owned(),
            name: name.to_owned(),
            message: message.into(),
            cause: None,
        }
    }

    pub(crate) fn corrupt(res: &ResourceInfo, name: &str, source: serde_json::Error) -> Self {
        Self::Corrupt {
            resource: res.qualified.to_owned(),
            name: name.to_owned(),
            source,
        }
    }

    /// What the store refused, in the API's words.
    pub(crate) fn from_store(res: &ResourceInfo, name: &str, error: store::Error) -> Self {
        match error {
            store::Error::AlreadyExists(_) => Self::AlreadyExists {
                resource: res.qualified.to_owned(),
                name: name.to_owned(),
            },
            store::Error::NotFound(_) => Self::not_found(res, name),
            store::Error::Conflict { .. } => Self::conflict(res, name, MODIFIED),
            store::Error::Compacted { .. } => Self::Expired,
            store::Error::Closed
            | store::Error::Open { .. }
            | store::Error::Locked { .. }
            | store::Error::Commit(_) => Self::Store(error),
        }
    }
}
