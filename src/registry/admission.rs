//! Admission: what the cluster adds to a write, and what it refuses for reasons outside the object.
//!
//! One file per rule. A rule that concerns one kind asks for the draft in that kind's type and
//! lets every other draft pass.

mod image_digest;
pub(super) mod limit_range;
pub(super) mod namespace_lifecycle;
mod node_restriction;
mod pod_defaults;
mod priority;
mod service_account;
pub(super) mod service_addresses;
mod storage_class;

use super::Registry;
use super::error::Error;
use super::kinds::ResourceInfo;
use super::options::Caller;
use super::quota::Charge;
use super::rbac::escalation;
use super::strategy::Draft;
use super::update::{Part, Write};

/// What a write that is under way holds. Settle it when the write has ended.
#[derive(Default)]
pub(super) struct Reservation {
    addresses: service_addresses::Reservation,
    charge: Charge,
}

impl Reservation {
    /// Says how the write ended.
    pub(super) fn settle(self, is_written: bool) {
        self.addresses.settle(is_written);
        self.charge.settle();
    }
}

/// What a new object gets from the cluster. The reservation must be settled when the write is.
pub(super) fn mutate_create(
    registry: &Registry,
    res: &ResourceInfo,
    draft: &mut dyn Draft,
) -> Result<Reservation, Error> {
    pod_defaults::mutate(draft, registry.config().default_toleration_seconds);
    service_account::mutate(registry, res, draft)?;
    image_digest::mutate(registry.store(), draft, None)?;
    storage_class::mutate(registry, draft)?;
    priority::mutate_create(registry, draft)?;
    limit_range::mutate(registry, draft)?;
    reserve(registry, res, draft)
}

/// The same for a change.
pub(super) fn mutate_update(
    registry: &Registry,
    res: &ResourceInfo,
    draft: &mut dyn Draft,
    old: &dyn Draft,
) -> Result<Reservation, Error> {
    image_digest::mutate(registry.store(), draft, Some(old))?;
    priority::mutate_update(registry, draft)?;
    reserve(registry, res, draft)
}

/// The same for containers that a pod gets for debugging.
pub(super) fn mutate_ephemeral(
    registry: &Registry,
    draft: &mut dyn Draft,
    old: &dyn Draft,
) -> Result<(), Error> {
    image_digest::mutate(registry.store(), draft, Some(old))
}

fn reserve(
    registry: &Registry,
    res: &ResourceInfo,
    draft: &mut dyn Draft,
) -> Result<Reservation, Error> {
    Ok(Reservation {
        addresses: registry.shared.addresses.reserve(res, draft)?,
        charge: Charge::default(),
    })
}

/// What the caller may not do to a new object, whatever its rights say.
pub(super) fn validate_create(
    registry: &Registry,
    caller: &Caller,
    res: &ResourceInfo,
    draft: &dyn Draft,
    reservation: &mut Reservation,
) -> Result<(), Error> {
    node_restriction::admit_create(caller, res, draft)?;
    escalation::admit(registry, caller, res, draft, None)?;
    limit_range::validate(registry, res, draft)?;
    // Last: what is charged is going to be written.
    reservation.charge = registry.shared.quotas.charge(res, draft, None)?;
    Ok(())
}

/// The same for a change.
pub(super) fn validate_update(
    registry: &Registry,
    write: Write<'_>,
    draft: &dyn Draft,
    old: &dyn Draft,
    reservation: &mut Reservation,
) -> Result<(), Error> {
    node_restriction::admit_update(write.caller, write.res, write.part, old)?;
    escalation::admit(registry, write.caller, write.res, draft, Some(old))?;
    if write.part == Part::Main {
        let quotas = &registry.shared.quotas;
        reservation.charge = quotas.charge(write.res, draft, Some(old))?;
    }
    Ok(())
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
