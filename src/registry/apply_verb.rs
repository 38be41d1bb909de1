//! Apply: the server brings an object to what a manifest says, and remembers who said it.
//!
//! An object that is not there is created. One that is there gets the manifest laid over it, again
//! if somebody else wrote in between. What a manifest may hold is stricter than what a patch may:
//! each of its fields becomes somebody's property, so a field that does not exist is refused
//! whatever `fieldValidation` says, and an item of a list must be told apart from the others.

use std::sync::Arc;

use serde_json::{Value, json};

use super::create::{Owner, decode, decode_new};
use super::error::{Error, MODIFIED};
use super::kinds::ResourceInfo;
use super::managed_fields::{self, Operation};
use super::options::{Caller, FieldValidation, WriteOptions, Written};
use super::patch::Patch;
use super::update::{ATTEMPTS, Attempt, Part, Write};
use super::{Registry, key, present};
use crate::api::object;
use crate::store::Stored;

/// What an apply is about, the same for every attempt.
struct Apply<'a> {
    write: Write<'a>,
    ns: Option<&'a str>,
    name: &'a str,
    object: Value,
    force: bool,
}

impl Registry {
    #[expect(clippy::too_many_arguments, reason = "a URL, a body and its options")]
    pub(super) async fn apply(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
        options: &WriteOptions,
        caller: &Caller,
    ) -> Result<Written, Error> {
        let Patch::Apply {
            object,
            force,
            may_create,
        } = patch
        else {
            return Err(Error::MethodNotAllowed);
        };
        let write = Write::of(res, subresource, options, caller)?;
        let object = accepted(&write, ns, name, object)?;
        let apply = Apply {
            write,
            ns,
            name,
            object,
            force,
        };
        for _ in 0..ATTEMPTS {
            let attempt = match self.store().get(&key(res, ns, name)) {
                Some(current) => self.apply_over(&apply, &current).await?,
                None if subresource.is_some() => return Err(Error::not_found(res, name)),
                None if !may_create => {
                    let message = "it does not exist, and the caller may not create it";
                    return Err(Error::forbidden(res, name, message));
                }
                None => self.apply_new(&apply).await?,
            };
            match attempt {
                Attempt::Done(written) => return Ok(written),
                Attempt::Lost if object::meta_str(&apply.object, "resourceVersion").is_some() => {
                    break;
                }
                Attempt::Lost => {}
            }
        }
        Err(Error::conflict(res, name, MODIFIED))
    }

    async fn apply_new(&self, apply: &Apply<'_>) -> Result<Attempt, Error> {
        let write = &apply.write;
        let uid = object::uid(&apply.object);
        if !uid.is_empty() {
            let message = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Error::conflict(write.res, apply.name, message));
        }
        let me = self.manager(write, Operation::Apply);
        let managed = managed_fields::created(write.res.merging().root(), &apply.object, &me);
        let (draft, warnings) = decode_new(write.res, apply.ns, &apply.object, write.options)?;
        let owner = Owner::Applier(managed);
        let prepared =
            self.prepare_create(write.res, apply.ns, draft, warnings, (write.caller, owner))?;
        match self.create_prepared(vec![prepared], write.options).await {
            Ok(mut written) => {
                let written = written.pop().ok_or(Error::MethodNotAllowed)?;
                Ok(Attempt::Done(written))
            }
            Err(Error::AlreadyExists { .. }) => Ok(Attempt::Lost),
            Err(error) => Err(error),
        }
    }

    async fn apply_over(&self, apply: &Apply<'_>, current: &Arc<Stored>) -> Result<Attempt, Error> {
        let write = apply.write;
        let me = self.manager(&write, Operation::Apply);
        let shown = present(write.res, Arc::clone(current))?;
        let applied = managed_fields::apply(
            write.res.merging().root(),
            &shown.object,
            &apply.object,
            &me,
            apply.force,
        )
        .map_err(Error::ApplyConflict)?;
        if applied.managed.len() > managed_fields::ENTRIES {
            return Err(Error::BadRequest(format!(
                "metadata.managedFields: Too many: must have at most {} items",
                managed_fields::ENTRIES
            )));
        }
        let given = object::meta_str(&apply.object, "resourceVersion");
        if given.is_some_and(|given| given != current.revision.0.to_string()) {
            return Ok(Attempt::Lost);
        }
        self.replace(write, current, applied.object, Some(applied.managed))
            .await
    }
}

/// The manifest as it is applied: checked, and reduced to what the part of the write may hold.
fn accepted(
    write: &Write<'_>,
    ns: Option<&str>,
    name: &str,
    mut object: Value,
) -> Result<Value, Error> {
    let res = write.res;
    if !object.is_object() {
        return Err(Error::BadRequest("the body must be an object".to_owned()));
    }
    object::prune_nulls(&mut object);
    if write.subresource == Some("scale") {
        object = of_scale(res, &object)?;
    }
    check_version(res, &object)?;
    let given = object::name(&object);
    if !given.is_empty() && given != name {
        return Err(Error::BadRequest(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let metadata = object::metadata_mut(&mut object);
    let has_entries = metadata
        .remove("managedFields")
        .is_some_and(|entries| entries.as_array().is_none_or(|list| !list.is_empty()));
    if has_entries {
        return Err(Error::BadRequest(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    metadata.insert("name".to_owned(), name.into());
    check_fields(res, ns, name, &object)?;
    keep_part(write.part, &mut object);
    Ok(object)
}

fn check_version(res: &ResourceInfo, object: &Value) -> Result<(), Error> {
    let given = object["apiVersion"].as_str().unwrap_or_default();
    let expected = res.api_version();
    if given == expected {
        return Ok(());
    }
    Err(Error::BadRequest(format!(
        "Incorrect version specified in apply patch. Specified patch version: {given}, expected: {expected}"
    )))
}

/// Fields that do not exist, and items that cannot be told apart.
fn check_fields(
    res: &'static ResourceInfo,
    ns: Option<&str>,
    name: &str,
    object: &Value,
) -> Result<(), Error> {
    let options = WriteOptions {
        field_validation: FieldValidation::Warn,
        ..WriteOptions::default()
    };
    let (_, unknown) = decode(res, object, &options)?;
    let unknown = unknown.first().map(|text| {
        let path = text.trim_start_matches("unknown field ").trim_matches('"');
        format!(".{path}: field not declared in schema")
    });
    match unknown.or_else(|| managed_fields::complaint(res.merging().root(), object)) {
        None => Ok(()),
        Some(complaint) => Err(Error::BadRequest(format!(
            "failed to create typed patch object ({}/{name}; {}, Kind={}): {complaint}",
            ns.unwrap_or_default(),
            res.api_version(),
            res.kind,
        ))),
    }
}

/// A Scale says one thing of the object that is scaled.
fn of_scale(res: &ResourceInfo, scale: &Value) -> Result<Value, Error> {
    if scale["apiVersion"] != "autoscaling/v1" || scale["kind"] != "Scale" {
        return Err(Error::BadRequest(
            "the body of an apply to scale must be a Scale of autoscaling/v1".to_owned(),
        ));
    }
    Ok(json!({
        "apiVersion": res.api_version(),
        "kind": res.kind,
        "metadata": scale.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "spec": scale.get("spec").cloned().unwrap_or_else(|| json!({})),
    }))
}

/// Takes out what the write does not own: it is neither merged nor claimed.
fn keep_part(part: Part, object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    match part {
        Part::Main | Part::Finalize => {
            fields.remove("status");
        }
        Part::Whole => {}
        Part::Status => {
            fields.retain(|name, _| {
                matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")
            });
        }
        Part::EphemeralContainers => {
            fields.remove("status");
            if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) {
                spec.retain(|name, _| name == "ephemeralContainers");
            }
        }
    }
    if !part.is_object()
        && let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.retain(|name, _| matches!(name.as_str(), "name" | "uid" | "resourceVersion"));
    }
}
