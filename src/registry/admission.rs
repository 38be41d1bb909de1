//! Admission: what the cluster adds to a write, and what it refuses for reasons outside the object.
//!
//! One file per rule. A rule that concerns one kind asks for the draft in that kind's type and
//! lets every other draft pass.

mod image_digest;
pub(super) mod namespace_lifecycle;
pub(super) mod node_restriction;
mod pod_defaults;
mod priority;
pub(super) mod service_addresses;
mod storage_class;

use super::Registry;
use super::error::Error;
use super::kinds::ResourceInfo;
use super::strategy::Draft;

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
    priority::mutate_create(registry, draft)?;
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
