//! Update: a whole object, or its status, takes the place of what is there.
//!
//! The main resource and each subresource own their part: a write of the one never touches the
//! other. Server-owned metadata is copied from the stored object. A write that changes nothing is
//! answered with what is there, and nobody hears of it.

mod parts;

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

pub(super) use self::parts::bump_generation;
use self::parts::{is_spec_changed, merge_parts};
use super::admission::{self, Reservation};
use super::create::{check_namespace, check_type, decode};
use super::error::{Error, MODIFIED};
use super::field_error::Errors;
use super::kinds::ResourceInfo;
use super::managed_fields::{self, Managed, Manager, Operation, Sent};
use super::options::{Caller, WriteOptions, Written};
use super::strategy::Draft;
use super::{Registry, meta, present, resources, typed};
use crate::api::object;
use crate::store::{self, Stored};

/// How often a write that names no revision is computed anew because another came first.
pub(super) const ATTEMPTS: usize = 64;

/// Which part of an object a write owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All but the status.
    Main,
    /// All, on a kind whose status is like any field.
    Whole,
    /// The status alone.
    Status,
    /// `spec.finalizers` alone.
    Finalize,
    /// `spec.ephemeralContainers` alone.
    EphemeralContainers,
}

impl Part {
    pub(super) fn of(res: &ResourceInfo, subresource: Option<&str>) -> Result<Self, Error> {
        let part = match subresource {
            None if res.splits_status() => return Ok(Self::Main),
            None => return Ok(Self::Whole),
            Some("status") => Self::Status,
            Some("finalize") => Self::Finalize,
            Some("ephemeralcontainers") => Self::EphemeralContainers,
            Some(_) => return Err(Error::MethodNotAllowed),
        };
        match subresource.and_then(|name| res.subresource(name)) {
            Some(_) => Ok(part),
            None => Err(Error::MethodNotAllowed),
        }
    }
}

impl Part {
    /// Whether the object itself is written, and not through a subresource.
    pub(super) fn is_object(self) -> bool {
        matches!(self, Self::Main | Self::Whole)
    }
}

/// What a write is about, the same for every attempt.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) res: &'static ResourceInfo,
    pub(super) part: Part,
    /// Through which subresource, for the record of who owns what.
    pub(super) subresource: Option<&'static str>,
    pub(super) options: &'a WriteOptions,
    pub(super) caller: &'a Caller,
}

impl<'a> Write<'a> {
    /// A write to the object or to one of its subresources; `scale` writes the object.
    pub(super) fn of(
        res: &'static ResourceInfo,
        subresource: Option<&str>,
        options: &'a WriteOptions,
        caller: &'a Caller,
    ) -> Result<Self, Error> {
        let announced = subresource.and_then(|name| res.subresource(name));
        let part = match announced {
            Some(scale) if scale.name == "scale" => Part::of(res, None)?,
            _ => Part::of(res, subresource)?,
        };
        Ok(Self {
            res,
            part,
            subresource: announced.map(|subresource| subresource.name),
            options,
            caller,
        })
    }
}

/// How one attempt ended.
pub(super) enum Attempt {
    Done(Written),
    /// Somebody else wrote in between.
    Lost,
}

/// What an attempt is going to do.
enum Plan {
    Nothing,
    Replace(Value),
    /// The last thing that held a deleted object has gone.
    Remove,
}

impl Registry {
    /// `subresource`: `None` is the object itself, `Some("status")` writes only status,
    /// `Some("scale")` takes a Scale (and answers the object that was scaled).
    #[expect(clippy::too_many_arguments, reason = "a URL, a body and its options")]
    pub async fn update(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: Value,
        options: &WriteOptions,
        caller: &Caller,
    ) -> Result<Written, Error> {
        let given = object::name(&object);
        if !given.is_empty() && given != name {
            return Err(Error::BadRequest(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        if subresource == Some("scale") {
            return self
                .update_scale((res, ns, name), object, options, caller)
                .await;
        }
        let write = Write::of(res, subresource, options, caller)?;
        check_type(res, &object)?;
        if object::name(&object).is_empty() {
            return Err(Error::BadRequest(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        let required = required_revision(&object).map(str::to_owned);
        if required.is_some() {
            let current = self.stored(res, ns, name)?;
            check_revision(res, &current, required.as_deref())?;
            return match self.replace(write, &current, object, None).await? {
                Attempt::Done(written) => Ok(written),
                Attempt::Lost => Err(Error::conflict(res, name, MODIFIED)),
            };
        }
        for _ in 0..ATTEMPTS {
            let current = self.stored(res, ns, name)?;
            match self.replace(write, &current, object.clone(), None).await? {
                Attempt::Done(written) => return Ok(written),
                Attempt::Lost => {}
            }
        }
        Err(Error::conflict(res, name, MODIFIED))
    }

    /// One attempt to put `wanted` in the place of `current`. An apply knows already who will own
    /// what; any other write takes what it changes.
    pub(super) async fn replace(
        &self,
        write: Write<'_>,
        current: &Arc<Stored>,
        wanted: Value,
        applied: Option<Managed>,
    ) -> Result<Attempt, Error> {
        let (plan, warnings, reservation) = self.plan_update(write, current, wanted, applied)?;
        let key = current.key.clone();
        let expected = Some(current.revision);
        let result = match plan {
            Plan::Nothing => Ok(Arc::clone(current)),
            Plan::Replace(object) if write.options.dry_run => {
                Ok(Arc::new(Stored::new(key, current.revision, object)))
            }
            Plan::Remove if write.options.dry_run => Ok(Arc::clone(current)),
            Plan::Replace(object) => self.store().update(key, expected, object).await,
            Plan::Remove => self.store().delete(key, expected).await,
        };
        reservation.settle(result.is_ok() && !write.options.dry_run);
        match result {
            Ok(stored) => Ok(Attempt::Done(Written {
                object: present(write.res, stored)?,
                warnings,
                created: false,
            })),
            Err(store::Error::Conflict { .. }) => Ok(Attempt::Lost),
            Err(error) => Err(Error::from_store(write.res, &current.key.name, error)),
        }
    }

    /// Who makes this write. A component of the control plane is known by its user.
    pub(super) fn manager(&self, write: &Write<'_>, operation: Operation) -> Manager {
        let user = &write.caller.user;
        let name = write.options.field_manager.as_deref();
        let name = name.unwrap_or_else(|| user.strip_prefix("system:").unwrap_or(user));
        Manager {
            name: name.to_owned(),
            operation,
            api_version: write.res.api_version(),
            subresource: write.subresource,
            part: write.part,
            time: json!(Time(self.clock().now())),
        }
    }

    fn plan_update(
        &self,
        write: Write<'_>,
        current: &Stored,
        wanted: Value,
        applied: Option<Managed>,
    ) -> Result<(Plan, Vec<String>, Reservation), Error> {
        let res = write.res;
        let name = &*current.key.name;
        check_identity(res, current, &wanted)?;
        let old = typed(res, current)?;
        let sent = match write.subresource {
            None => managed_fields::sent(&wanted),
            Some(_) => Sent::Nothing,
        };
        if let Sent::These(managed) = &sent
            && managed.len() > managed_fields::SENT
        {
            return Err(Error::BadRequest(format!(
                "metadata.managedFields: Too many: must have at most {} items",
                managed_fields::SENT
            )));
        }
        let shown = shown(res, current)?;
        let merged = merge_parts(write.part, &shown, wanted);
        let (mut draft, warnings) = decode(res, &merged, write.options)?;
        meta::prepare_update(draft.meta_mut(), old.meta());
        let mut reservation = Reservation::default();
        if write.part == Part::EphemeralContainers {
            draft.set_defaults();
            admission::mutate_ephemeral(self, draft.as_mut(), old.as_ref())?;
        }
        if write.part.is_object() {
            draft.set_defaults();
            draft.prepare_update(old.as_ref());
            reservation = admission::mutate_update(self, res, draft.as_mut(), old.as_ref())?;
        }
        let judged = judge(write, draft.as_ref(), old.as_ref()).and_then(|()| {
            admission::validate_update(self, write, draft.as_ref(), old.as_ref(), &mut reservation)
        });
        if let Err(error) = judged {
            reservation.settle(false);
            return Err(error);
        }
        let mut object = draft
            .to_value()
            .map_err(|source| Error::corrupt(res, name, source))?;
        let owns_spec = write.part.is_object() || write.part == Part::EphemeralContainers;
        if owns_spec && is_spec_changed(write.part, &object, &current.object) {
            bump_generation(&mut object);
        }
        let managed = applied.unwrap_or_else(|| {
            let me = self.manager(&write, Operation::Update);
            managed_fields::updated(res.merging().root(), &current.object, &object, sent, &me)
        });
        managed_fields::put(&mut object, managed, &current.object);
        let plan = if is_released(draft.as_ref()) {
            Plan::Remove
        } else if object == current.object {
            Plan::Nothing
        } else {
            Plan::Replace(object)
        };
        Ok((plan, warnings, reservation))
    }
}

/// Validation; a status is its writer's own business.
fn judge(write: Write<'_>, new: &dyn Draft, old: &dyn Draft) -> Result<(), Error> {
    let mut errors = Errors::default();
    if write.part == Part::Status && write.res.is_custom() {
        // No type judges the status of a custom resource before.
        new.validate(&mut errors);
    }
    if write.part.is_object() {
        meta::validate(new.meta(), write.res.hooks.names, &mut errors);
        meta::validate_update(new.meta(), old.meta(), &mut errors);
        new.validate(&mut errors);
        new.validate_update(old, &mut errors);
    }
    if write.part == Part::EphemeralContainers {
        new.validate(&mut errors);
        resources::ephemeral::validate_update(new, old, &mut errors);
    }
    if !errors.0.is_empty() {
        let name = old.meta().name.as_deref().unwrap_or_default();
        return Err(Error::invalid(write.res, name, errors.0));
    }
    Ok(())
}

/// The revision that the writer says it has seen.
pub(super) fn required_revision(object: &Value) -> Option<&str> {
    object::meta_str(object, "resourceVersion").filter(|rv| !rv.is_empty())
}

pub(super) fn check_revision(
    res: &ResourceInfo,
    current: &Stored,
    required: Option<&str>,
) -> Result<(), Error> {
    match required {
        Some(required) if required != current.revision.0.to_string() => {
            Err(Error::conflict(res, &current.key.name, MODIFIED))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_identity(
    res: &ResourceInfo,
    current: &Stored,
    wanted: &Value,
) -> Result<(), Error> {
    let name = &*current.key.name;
    check_namespace(res, Some(&current.key.namespace), wanted)?;
    let (given, uid) = (object::uid(wanted), object::uid(&current.object));
    if !given.is_empty() && given != uid {
        return Err(Error::conflict(
            res,
            name,
            format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}"),
        ));
    }
    Ok(())
}

/// The stored object in the form in which this row is written.
fn shown<'a>(res: &ResourceInfo, current: &'a Stored) -> Result<Cow<'a, Value>, Error> {
    let Some(present) = res.hooks.present else {
        return Ok(Cow::Borrowed(&current.object));
    };
    present(&current.object)
        .map(Cow::Owned)
        .map_err(|source| Error::corrupt(res, &current.key.name, source))
}

/// Whether a deletion was asked for and nothing holds the object any more.
fn is_released(draft: &dyn Draft) -> bool {
    let meta = draft.meta();
    meta.deletion_timestamp.is_some()
        && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
        && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
        && !draft.is_held()
}
