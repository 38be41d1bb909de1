//! The data of ConfigMaps and Secrets: keys, size, and the promise of `immutable`.

use serde::Serialize;

use super::super::field_error::Errors;
use super::super::path::Path;
use crate::api::names;

/// All values together.
const LIMIT: usize = 1 << 20;

pub(super) fn validate_key(path: &Path<'_>, key: &str, errors: &mut Errors) {
    if !names::is_config_key(key) {
        errors.invalid(
            &path.key(key),
            key,
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        );
    }
}

pub(super) fn validate_size(path: &Path<'_>, size: usize, errors: &mut Errors) {
    if size > LIMIT {
        errors.too_long(path, LIMIT);
    }
}

/// One field of an object that was made immutable.
pub(super) fn validate_frozen<T: PartialEq + Serialize>(
    field: &str,
    new: &T,
    old: &T,
    errors: &mut Errors,
) {
    if new != old {
        errors.forbidden(
            &Path::Root.field(field),
            "field is immutable when `immutable` is set",
        );
    }
}
