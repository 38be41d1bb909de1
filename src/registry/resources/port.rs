//! Ports: numbers, names and protocols, wherever they are written.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::field_error::Errors;
use super::super::path::Path;
use crate::api::names;

/// The protocols that pods and services speak.
pub(super) const PROTOCOLS: &[&str] = &["TCP", "UDP"];

const RANGE: &str = "must be between 1 and 65535, inclusive";
const NAME: &str = "must be an IANA service name: at most 15 characters, lower case alphanumeric or '-', with at least one letter, no '-' at either end and no '--'";

pub(super) fn validate_number(path: &Path<'_>, port: i32, errors: &mut Errors) {
    if !(1..=65_535).contains(&port) {
        errors.invalid(path, port, RANGE);
    }
}

pub(super) fn validate_name(path: &Path<'_>, name: &str, errors: &mut Errors) {
    if !names::is_port_name(name) {
        errors.invalid(path, name, NAME);
    }
}

/// A reference to a port, by number or by the name it has in the pod.
pub(super) fn validate_reference(path: &Path<'_>, port: &IntOrString, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => validate_number(path, *number, errors),
        IntOrString::String(name) => validate_name(path, name, errors),
    }
}
