//! Create: one object, or several that come into being together.

use std::sync::Arc;

use serde_json::Value;

use super::admission::{self, Reservation};
use super::custom;
use super::error::Error;
use super::field_error::Errors;
use super::kinds::ResourceInfo;
use super::managed_fields::{self, Managed, Operation};
use super::options::{Caller, FieldValidation, WriteOptions, Written};
use super::strategy::Draft;
use super::update::Write;
use super::{Registry, key, meta, present};
use crate::api::object;
use crate::store::{ObjectKey, Op, Stored};

/// Kinds with a spec whose changes Kubernetes does not count.
const UNCOUNTED: [&str; 8] = [
    "LimitRange",
    "Lease",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ResourceQuota",
    "Service",
];
/// How often a generated name is thrown away because it is taken.
const NAME_ATTEMPTS: usize = 8;

/// Who owns the fields of a new object.
pub(super) enum Owner<'a> {
    /// It is made by a component of the control plane, which does not take part.
    Nobody,
    Writer(&'a WriteOptions),
    Applier(Managed),
}

impl<'a> Owner<'a> {
    fn of(options: &'a WriteOptions) -> Self {
        match options.field_manager {
            Some(_) => Self::Writer(options),
            None => Self::Nobody,
        }
    }
}

/// An object that has passed everything but the store.
pub(super) struct Prepared {
    res: &'static ResourceInfo,
    key: ObjectKey,
    object: Value,
    warnings: Vec<String>,
    reservation: Reservation,
}

impl Registry {
    pub async fn create(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        object: Value,
        options: &WriteOptions,
        caller: &Caller,
    ) -> Result<Written, Error> {
        let (draft, warnings) = decode_new(res, ns, &object, options)?;
        let owner = Owner::of(options);
        let prepared = self.prepare_create(res, ns, draft, warnings, (caller, owner))?;
        let mut written = self.create_prepared(vec![prepared], options).await?;
        written.pop().ok_or(Error::MethodNotAllowed)
    }

    /// Creates several objects, or none of them.
    pub async fn create_all(
        &self,
        objects: Vec<(&'static ResourceInfo, Option<String>, Value)>,
        options: &WriteOptions,
        caller: &Caller,
    ) -> Result<Vec<Written>, Error> {
        let mut prepared = Vec::with_capacity(objects.len());
        for (res, ns, object) in objects {
            let ns = ns.as_deref();
            let one = decode_new(res, ns, &object, options).and_then(|(draft, warnings)| {
                let owner = Owner::of(options);
                self.prepare_create(res, ns, draft, warnings, (caller, owner))
            });
            match one {
                Ok(one) => prepared.push(one),
                Err(error) => {
                    // None of them is going to be written: nothing is held for them.
                    for one in prepared {
                        one.reservation.settle(false);
                    }
                    return Err(error);
                }
            }
        }
        self.create_prepared(prepared, options).await
    }

    /// The same from a Rust type, without a detour through JSON.
    pub(super) async fn create_draft(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        draft: Box<dyn Draft>,
        caller: &Caller,
    ) -> Result<Written, Error> {
        let who = (caller, Owner::Nobody);
        let prepared = self.prepare_create(res, ns, draft, Vec::new(), who)?;
        let options = WriteOptions::default();
        let mut written = self.create_prepared(vec![prepared], &options).await?;
        written.pop().ok_or(Error::MethodNotAllowed)
    }

    pub(super) fn prepare_create(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        mut draft: Box<dyn Draft>,
        warnings: Vec<String>,
        (caller, owner): (&Caller, Owner<'_>),
    ) -> Result<Prepared, Error> {
        if res
            .custom
            .is_some_and(|custom| custom.version().is_terminating)
        {
            return Err(Error::CreateNotAllowed);
        }
        let ns = ns.filter(|_| res.namespaced);
        draft.meta_mut().namespace = ns.map(str::to_owned);
        self.choose_name(res, ns, draft.as_mut());
        let name = draft.meta().name.clone().unwrap_or_default();
        if let Some(ns) = ns {
            admission::namespace_lifecycle::admit_create(self.store(), res, ns, &name)?;
        }
        draft.set_defaults();
        let managed = self.owned_at_birth(res, draft.as_ref(), caller, owner)?;
        draft.prepare_create();
        let mut reservation = admission::mutate_create(self, res, draft.as_mut())?;
        let now = self.clock().now();
        meta::prepare_create(draft.meta_mut(), now, false);
        draft.prepare_identified();
        let mut errors = Errors::default();
        meta::validate(draft.meta(), res.hooks.names, &mut errors);
        draft.validate(&mut errors);
        draft.validate_create(&mut errors);
        if !errors.0.is_empty() {
            reservation.settle(false);
            return Err(Error::invalid(res, &name, errors.0));
        }
        let admitted =
            admission::validate_create(self, caller, res, draft.as_ref(), &mut reservation);
        if let Err(error) = admitted {
            reservation.settle(false);
            return Err(error);
        }
        let mut object = draft
            .to_value()
            .map_err(|source| Error::corrupt(res, &name, source))?;
        let counts = res.is_custom() || !UNCOUNTED.contains(&res.kind);
        if counts && (res.is_custom() || object.get("spec").is_some()) {
            object::metadata_mut(&mut object).insert("generation".to_owned(), 1.into());
        }
        managed_fields::put(&mut object, managed, &Value::Null);
        Ok(Prepared {
            key: key(res, ns, &name),
            res,
            object,
            warnings,
            reservation,
        })
    }

    /// The writer owns what it has sent and the defaults, not what the cluster adds after.
    fn owned_at_birth(
        &self,
        res: &'static ResourceInfo,
        draft: &dyn Draft,
        caller: &Caller,
        owner: Owner<'_>,
    ) -> Result<Managed, Error> {
        match owner {
            Owner::Nobody => Ok(Managed::default()),
            Owner::Applier(managed) => Ok(managed),
            Owner::Writer(options) => {
                let write = Write::of(res, None, options, caller)?;
                let object = draft.to_value().map_err(|source| {
                    let name = draft.meta().name.as_deref().unwrap_or_default();
                    Error::corrupt(res, name, source)
                })?;
                let me = self.manager(&write, Operation::Update);
                Ok(managed_fields::created(res.merging().root(), &object, &me))
            }
        }
    }

    /// Completes `generateName`; a name that is taken is thrown away.
    fn choose_name(&self, res: &ResourceInfo, ns: Option<&str>, draft: &mut dyn Draft) {
        let has_name = draft.meta().name.as_deref().is_some_and(|n| !n.is_empty());
        let base = draft.meta().generate_name.clone().unwrap_or_default();
        if has_name || base.is_empty() {
            return;
        }
        for _ in 0..NAME_ATTEMPTS {
            let name = meta::generated_name(&base);
            let is_free = self.store().get(&key(res, ns, &name)).is_none();
            draft.meta_mut().name = Some(name);
            if is_free {
                return;
            }
        }
    }

    pub(super) async fn create_prepared(
        &self,
        prepared: Vec<Prepared>,
        options: &WriteOptions,
    ) -> Result<Vec<Written>, Error> {
        let mut ops = Vec::with_capacity(prepared.len());
        let mut rest = Vec::with_capacity(prepared.len());
        for one in prepared {
            rest.push((one.res, one.warnings, one.reservation, one.key.clone()));
            ops.push(Op::Create {
                key: one.key,
                object: one.object,
            });
        }
        let result = if options.dry_run {
            self.pretend(ops)
        } else {
            self.store().commit(ops).await
        };
        let is_kept = result.is_ok() && !options.dry_run;
        let mut written = Vec::with_capacity(rest.len());
        let mut stored = match result {
            Ok(stored) => stored.into_iter(),
            Err(error) => {
                let culprit = rest.iter().find(|(_, _, _, key)| {
                    matches!(&error, crate::store::Error::AlreadyExists(taken) if taken == key)
                });
                let refused = match culprit.or(rest.first()) {
                    Some((res, _, _, key)) => Error::from_store(res, &key.name, error),
                    None => Error::Store(error),
                };
                for (_, _, reservation, _) in rest {
                    reservation.settle(false);
                }
                return Err(refused);
            }
        };
        for (res, warnings, reservation, _) in rest {
            reservation.settle(is_kept);
            if let Some(object) = stored.next() {
                written.push(Written {
                    object: present(res, object)?,
                    warnings,
                    created: true,
                });
            }
        }
        Ok(written)
    }

    /// What the store would answer, without asking it.
    fn pretend(&self, ops: Vec<Op>) -> Result<Vec<Arc<Stored>>, crate::store::Error> {
        let revision = self.store().revision();
        let mut stored = Vec::with_capacity(ops.len());
        for op in ops {
            if let Op::Create { key, object } = op {
                if self.store().get(&key).is_some() {
                    return Err(crate::store::Error::AlreadyExists(key));
                }
                stored.push(Arc::new(Stored::new(key, revision, object)));
            }
        }
        Ok(stored)
    }
}

/// Refuses an object that says it is of another namespace than the request.
pub fn check_namespace(res: &ResourceInfo, ns: Option<&str>, object: &Value) -> Result<(), Error> {
    let given = object::namespace(object);
    if res.namespaced && !given.is_empty() && Some(given) != ns {
        return Err(Error::BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Decodes the body of a create, which must fit the URL.
pub(super) fn decode_new(
    res: &'static ResourceInfo,
    ns: Option<&str>,
    object: &Value,
    options: &WriteOptions,
) -> Result<(Box<dyn Draft>, Vec<String>), Error> {
    check_namespace(res, ns, object)?;
    if object::meta_str(object, "resourceVersion").is_some_and(|rv| !rv.is_empty()) {
        return Err(Error::BadRequest(
            "resourceVersion should not be set on objects to be created".to_owned(),
        ));
    }
    decode(res, object, options)
}

/// Decodes a body strictly; says in warnings what got lost, or refuses it.
pub(super) fn decode(
    res: &'static ResourceInfo,
    object: &Value,
    options: &WriteOptions,
) -> Result<(Box<dyn Draft>, Vec<String>), Error> {
    check_type(res, object)?;
    let decoded = match res.custom {
        Some(custom) => custom::object::decode(custom, object),
        None => (res.hooks.decode)(object),
    };
    let (draft, unknown) = decoded.map_err(|error| {
        Error::BadRequest(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {error}",
            kind = res.kind,
            version = res.version,
        ))
    })?;
    if options.field_validation == FieldValidation::Ignore {
        return Ok((draft, Vec::new()));
    }
    let unknown = unknown
        .iter()
        .map(|path| format!("unknown field \"{path}\""));
    let duplicates = options.duplicate_fields.iter();
    let lost: Vec<String> = duplicates
        .map(|path| format!("duplicate field \"{path}\""))
        .chain(unknown)
        .collect();
    if options.field_validation == FieldValidation::Strict && !lost.is_empty() {
        return Err(Error::BadRequest(format!(
            "strict decoding error: {}",
            lost.join(", ")
        )));
    }
    Ok((draft, lost))
}

/// The body must be of the URL's kind; a body that does not say its kind is taken to be.
pub(super) fn check_type(res: &ResourceInfo, object: &Value) -> Result<(), Error> {
    if !object.is_object() {
        return Err(Error::BadRequest("the body must be an object".to_owned()));
    }
    let kind = object["kind"].as_str().unwrap_or(res.kind);
    let expected = res.api_version();
    let api_version = object["apiVersion"].as_str().unwrap_or(&expected);
    if kind != res.kind || api_version != expected {
        return Err(Error::BadRequest(format!(
            "{kind} in version {api_version:?} cannot be handled as a {} in version {expected:?}",
            res.kind,
        )));
    }
    Ok(())
}
