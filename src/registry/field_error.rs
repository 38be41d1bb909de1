//! Field errors: what is wrong with which field, in Kubernetes' words.
//!
//! Validation collects them all (`k8s.io/apimachinery/pkg/util/validation/field`): a user who has
//! made three mistakes reads three sentences, each with its path, and not one per attempt.

use std::fmt;

use serde::Serialize;

use super::path::Path;

/// One wrong field; Kubernetes' `field.Error`. `reason` is a `Status` cause's reason.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub reason: &'static str,
    pub field: String,
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub struct Errors(pub(crate) Vec<FieldError>);

impl Errors {
    fn push(&mut self, reason: &'static str, path: &Path<'_>, message: String) {
        self.0.push(FieldError {
            reason,
            field: path.to_string(),
            message,
        });
    }

    /// `detail` may be empty.
    pub(crate) fn required(&mut self, path: &Path<'_>, detail: &str) {
        let message = with_detail("Required value".to_owned(), detail);
        self.push("FieldValueRequired", path, message);
    }

    /// A value of any printable kind; texts are quoted, numbers are not.
    pub(crate) fn invalid(&mut self, path: &Path<'_>, value: impl fmt::Debug, detail: &str) {
        let message = with_detail(format!("Invalid value: {value:?}"), detail);
        self.push("FieldValueInvalid", path, message);
    }

    pub(crate) fn not_supported(&mut self, path: &Path<'_>, value: &str, supported: &[&str]) {
        let words: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
        let message = format!(
            "Unsupported value: {value:?}: supported values: {}",
            words.join(", ")
        );
        self.push("FieldValueNotSupported", path, message);
    }

    pub(crate) fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        let message = with_detail("Forbidden".to_owned(), detail);
        self.push("FieldValueForbidden", path, message);
    }

    pub(crate) fn duplicate(&mut self, path: &Path<'_>, value: &str) {
        let message = format!("Duplicate value: {value:?}");
        self.push("FieldValueDuplicate", path, message);
    }

    pub(crate) fn too_long(&mut self, path: &Path<'_>, limit: usize) {
        let message = format!("Too long: may not be more than {limit} bytes");
        self.push("FieldValueTooLong", path, message);
    }

    /// Forbids a value that wasmorch does not honour; `hint` says what to do instead.
    pub(crate) fn not_honoured(&mut self, path: &Path<'_>, present: bool, hint: &str) {
        if present {
            self.forbidden(
                path,
                &format!("wasmorch does not honour this field: {hint}"),
            );
        }
    }

    /// A wrong value that is more than a word: shown as JSON.
    pub(crate) fn invalid_json<T: Serialize>(&mut self, path: &Path<'_>, value: &T, detail: &str) {
        let text = serde_json::to_string(value).unwrap_or_else(|error| format!("<{error}>"));
        let message = with_detail(format!("Invalid value: {text}"), detail);
        self.push("FieldValueInvalid", path, message);
    }

    /// A wrong value that is not shown, since it is a whole structure.
    pub(crate) fn invalid_whole(&mut self, path: &Path<'_>, detail: &str) {
        self.push(
            "FieldValueInvalid",
            path,
            format!("Invalid value: {detail}"),
        );
    }

    /// A value of the wrong JSON type, named by its type or shown.
    pub(crate) fn type_invalid(&mut self, path: &Path<'_>, value: &str, detail: &str) {
        let message = with_detail(format!("Invalid value: {value:?}"), detail);
        self.push("FieldValueTypeInvalid", path, message);
    }

    /// The same as `not_supported`, for values that need not be texts.
    pub(crate) fn not_supported_json(
        &mut self,
        path: &Path<'_>,
        value: &serde_json::Value,
        supported: &[&str],
    ) {
        let words: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            words.join(", ")
        );
        self.push("FieldValueNotSupported", path, message);
    }

    /// The same as `duplicate`, for values that need not be texts.
    pub(crate) fn duplicate_json(&mut self, path: &Path<'_>, value: &serde_json::Value) {
        let message = format!("Duplicate value: {value}");
        self.push("FieldValueDuplicate", path, message);
    }

    pub(crate) fn too_many(&mut self, path: &Path<'_>, count: usize, limit: u64) {
        let message = format!("Too many: {count}: must have at most {limit} items");
        self.push("FieldValueTooMany", path, message);
    }

    /// A complaint that Kubernetes gives no field's path.
    pub(crate) fn nowhere(&mut self, field: &str, detail: &str) {
        self.0.push(FieldError {
            reason: "FieldValueInvalid",
            field: field.to_owned(),
            message: format!("Invalid value: \"\": {detail}"),
        });
    }

    /// A name that refers to nothing.
    pub(crate) fn missing(&mut self, path: &Path<'_>, value: &str) {
        let message = format!("Not found: {value:?}");
        self.push("FieldValueNotFound", path, message);
    }

    /// Complains if a field that must stay has changed.
    pub(crate) fn immutable<T: PartialEq + Serialize>(
        &mut self,
        path: &Path<'_>,
        new: &T,
        old: &T,
    ) {
        if new != old {
            self.invalid_json(path, new, "field is immutable");
        }
    }

    /// Complains about a value outside `supported`; absent values are not checked.
    pub(crate) fn one_of(&mut self, path: &Path<'_>, value: Option<&str>, supported: &[&str]) {
        if let Some(value) = value
            && !supported.contains(&value)
        {
            self.not_supported(path, value, supported);
        }
    }

    /// Complains about a negative number; absent values are not checked.
    pub(crate) fn non_negative(&mut self, path: &Path<'_>, value: Option<i64>) {
        if let Some(value) = value
            && value < 0
        {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }
}

fn with_detail(message: String, detail: &str) -> String {
    if detail.is_empty() {
        message
    } else {
        format!("{message}: {detail}")
    }
}
