//! Scale: the replicas of a workload and nothing else of it (`autoscaling/v1`).
//!
//! Any kind whose row announces the subresource is scalable; its spec has `replicas` and
//! `selector` where every workload has them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::custom::scale::ScalePaths;
use super::error::{Error, MODIFIED};
use super::field_error::Errors;
use super::kinds::ResourceInfo;
use super::options::{Caller, WriteOptions, Written};
use super::path::Path;
use super::update::{ATTEMPTS, Attempt, Write, check_identity, check_revision, required_revision};
use super::{Registry, present};
use crate::api::object;
use crate::api::selector::{Labels, Requirement};
use crate::store::Stored;

/// The object that is scaled: row, namespace, name.
pub(super) type Target<'a> = (&'static ResourceInfo, Option<&'a str>, &'a str);

impl Registry {
    /// The autoscaling/v1 Scale of a scalable object.
    pub fn scale(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        name: &str,
    ) -> Result<Value, Error> {
        scale_of(res, self.stored(res, ns, name)?.as_ref())
    }

    /// The Scale of an object that a write has answered.
    pub fn scale_of(&self, res: &'static ResourceInfo, object: &Stored) -> Result<Value, Error> {
        scale_of(res, object)
    }

    /// Takes a Scale and answers the scaled object.
    pub(super) async fn update_scale(
        &self,
        (res, ns, name): Target<'_>,
        scale: Value,
        options: &WriteOptions,
        caller: &Caller,
    ) -> Result<Written, Error> {
        let required = required_revision(&scale).map(str::to_owned);
        for _ in 0..ATTEMPTS {
            let current = self.stored(res, ns, name)?;
            check_scalable(res)?;
            check_identity(res, &current, &scale)?;
            check_revision(res, &current, required.as_deref())?;
            match self
                .replace_scale(res, &current, &scale, options, caller)
                .await?
            {
                Attempt::Done(written) => return Ok(written),
                Attempt::Lost if required.is_some() => break,
                Attempt::Lost => {}
            }
        }
        Err(Error::conflict(res, name, MODIFIED))
    }

    /// One attempt to give `current` the replicas of `scale`.
    pub(super) async fn replace_scale(
        &self,
        res: &'static ResourceInfo,
        current: &std::sync::Arc<Stored>,
        scale: &Value,
        options: &WriteOptions,
        caller: &Caller,
    ) -> Result<Attempt, Error> {
        let replicas = match object::at(scale, &["spec", "replicas"]) {
            // Go leaves a zero out.
            None | Some(Value::Null) => 0,
            Some(value) => value
                .as_i64()
                .and_then(|count| i32::try_from(count).ok())
                .ok_or_else(|| {
                    Error::BadRequest(format!(
                        "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas: {value} is not a 32-bit integer"
                    ))
                })?,
        };
        check_replicas(&current.key.name, replicas)?;
        let shown = present(res, std::sync::Arc::clone(current))?;
        let mut wanted = shown.object.clone();
        if let Some(paths) = custom_paths(res) {
            wanted = paths.with(wanted, replicas);
        } else {
            wanted["spec"]["replicas"] = replicas.into();
        }
        let write = Write::of(res, Some("scale"), options, caller)?;
        self.replace(write, current, wanted, None).await
    }
}

/// Kubernetes judges the Scale before the object, whose kind may have no opinion.
fn check_replicas(name: &str, replicas: i32) -> Result<(), Error> {
    let mut errors = Errors::default();
    let spec = Path::Root.field("spec");
    errors.non_negative(&spec.field("replicas"), Some(replicas.into()));
    if errors.0.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        group: "autoscaling".to_owned(),
        kind: "Scale".to_owned(),
        name: name.to_owned(),
        errors: errors.0,
    })
}

fn check_scalable(res: &ResourceInfo) -> Result<(), Error> {
    match res.subresource("scale") {
        Some(_) => Ok(()),
        None => Err(Error::MethodNotAllowed),
    }
}

/// Where a custom kind has its numbers.
fn custom_paths(res: &ResourceInfo) -> Option<ScalePaths> {
    res.custom?.version().scale.clone()
}

/// The Scale of this version of an object.
pub(super) fn scale_of(res: &ResourceInfo, stored: &Stored) -> Result<Value, Error> {
    check_scalable(res)?;
    let object = &stored.object;
    let metadata = |field: &str| object["metadata"][field].clone();
    let number = |path: &[&str]| object::at(object, path).and_then(Value::as_i64);
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata("name"),
            "namespace": metadata("namespace"),
            "uid": metadata("uid"),
            "resourceVersion": stored.revision.0.to_string(),
            "creationTimestamp": metadata("creationTimestamp"),
        },
        "spec": {"replicas": number(&["spec", "replicas"]).unwrap_or(0)},
        "status": {"replicas": number(&["status", "replicas"]).unwrap_or(0)},
    });
    if let Some(paths) = custom_paths(res) {
        let path = paths.spec_replicas.join(".");
        let wanted = paths.wanted(object).ok_or_else(|| {
            Error::BadRequest(format!(
                "the spec replicas field \".{path}\" does not exist"
            ))
        })?;
        scale["spec"]["replicas"] = wanted.into();
        scale["status"]["replicas"] = paths.there(object).into();
        if let Some(selector) = paths.selector(object) {
            scale["status"]["selector"] = selector.into();
        }
    } else if let Some(selector) = object::at(object, &["spec", "selector"]) {
        let corrupt = |source| Error::corrupt(res, &stored.key.name, source);
        // Labels alone are the form that a ReplicationController has, as a Service.
        let labels = match BTreeMap::deserialize(selector) {
            Ok(labels) => Labels::from_map(&labels),
            Err(_) => Labels::from_selector(&Deserialize::deserialize(selector).map_err(corrupt)?)
                .map_err(|error| Error::BadRequest(error.to_string()))?,
        };
        scale["status"]["selector"] = words(&labels).into();
    }
    Ok(scale)
}

/// The selector in the syntax of `labelSelector=`.
fn words(labels: &Labels) -> String {
    let word = |requirement: &Requirement| match requirement {
        Requirement::Exists(key) => key.clone(),
        Requirement::DoesNotExist(key) => format!("!{key}"),
        Requirement::In(key, values) if values.len() == 1 => format!("{key}={}", values[0]),
        Requirement::In(key, values) => format!("{key} in ({})", values.join(",")),
        Requirement::NotIn(key, values) => format!("{key} notin ({})", values.join(",")),
        Requirement::Above(key, bound) => format!("{key}>{bound}"),
        Requirement::Below(key, bound) => format!("{key}<{bound}"),
    };
    labels.0.iter().map(word).collect::<Vec<_>>().join(",")
}
