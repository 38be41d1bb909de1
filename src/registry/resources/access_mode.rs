//! Access modes and capacities: the same words on volumes and claims.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::field_error::Errors;
use super::super::path::Path;
use crate::api::quantity;

const MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

pub(super) fn validate(path: &Path<'_>, modes: Option<&[String]>, errors: &mut Errors) {
    let modes = modes.unwrap_or_default();
    if modes.is_empty() {
        errors.required(path, "at least 1 access mode is required");
    }
    for (index, mode) in modes.iter().enumerate() {
        errors.one_of(
            &path.index(index),
            Some(mode),
            &[
                "ReadOnlyMany",
                "ReadWriteMany",
                "ReadWriteOnce",
                "ReadWriteOncePod",
            ],
        );
        errors.not_honoured(
            &path.index(index),
            mode == "ReadWriteOncePod",
            "use ReadWriteOnce; pods of the same node are not kept apart",
        );
    }
}

/// `RWO,ROX`, in Kubernetes' order.
pub(super) fn short(modes: Option<&[String]>) -> String {
    let modes = modes.unwrap_or_default();
    let known = MODES
        .iter()
        .filter(|(mode, _)| modes.iter().any(|m| m == mode));
    known.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The amount of storage, which must be more than nothing.
pub(super) fn validate_amount(
    path: &Path<'_>,
    amounts: Option<&BTreeMap<String, Quantity>>,
    errors: &mut Errors,
) {
    let at = path.key("storage");
    match amounts.and_then(|amounts| amounts.get("storage")) {
        None => errors.required(&at, ""),
        Some(amount) if quantity::units(amount).map_or(true, |units| units <= 0) => {
            errors.invalid(&at, &amount.0, "must be greater than zero");
        }
        Some(_) => {}
    }
}

pub(super) fn amount(amounts: Option<&BTreeMap<String, Quantity>>) -> String {
    let amount = amounts.and_then(|amounts| amounts.get("storage"));
    amount.map(|amount| amount.0.clone()).unwrap_or_default()
}
