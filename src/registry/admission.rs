//! Admission: what the cluster adds to a write, and what it refuses for reasons outside the object.
//!
//! One file per rule. A rule that concerns one kind asks for the draft in that kind's type and
//! lets every other draft pass.

mod image_digest;
pub(super) mod namespace_lifecycle;
mod node_restriction;
mod pod_defaults;
pub(super) mod service_addresses;
mod storage_class;

use super::Registry;
use super::error::Error;
use super::kinds::ResourceInfo;
use super::options::Caller;
use super::rbac::escalation;
use super::strategy::Draft;
use super::update::Write;

pub(super) use service_addresses::Reservation;

/// What a new object gets from the cluster. The reservation must be settled when the write is.
pub(super) fn mutate_create(
    registry: &Registry,
    res: &ResourceInfo,
    draft: &mut dyn Draft,
) -> Result<Reservation, Error> {
    pod_defaults::mutate(draft, registry.config().default_toleration_seconds);
    image_digest::mutate(registry.store(), draft, None)?;
    storage_class::mutate(registry, draft)?;
    registry.shared.addresses.reserve(res, draft)
}

/// The same for a change.
pub(super) fn mutate_update(
    registry: &Registry,
    res: &ResourceInfo,
    draft: &mut dyn Draft,
    old: &dyn Draft,
) -> Result<Reservation, Error> {
    image_digest::mutate(registry.store(), draft, Some(old))?;
    registry.shared.addresses.reserve(res, draft)
}

/// What the caller may not do to a new object, whatever its rights say.
pub(super) fn validate_create(
    registry: &Registry,
    caller: &Caller,
    res: &ResourceInfo,
    draft: &dyn Draft,
) -> Result<(), Error> {
    node_restriction::admit_create(caller, res, draft)?;
    escalation::admit(registry, caller, res, draft, None)
}

/// The same for a change.
pub(super) fn validate_update(
    registry: &Registry,
    write: Write<'_>,
    draft: &dyn Draft,
    old: &dyn Draft,
) -> Result<(), Error> {
    node_restriction::admit_update(write.caller, write.res, write.part, old)?;
    escalation::admit(registry, write.caller, write.res, draft, Some(old))
}

/// The same for a deletion.
pub(super) fn validate_delete(
    caller: &Caller,
    res: &ResourceInfo,
    name: &str,
    old: &dyn Draft,
) -> Result<(), Error> {
    namespace_lifecycle::admit_delete(res, name)?;
    node_restriction::admit_delete(caller, res, old)
}
