//! Delete: at once if nothing holds the object, else a mark that whoever holds it will see.
//!
//! What holds an object: a finalizer (also those of propagation: `orphan`, `foregroundDeletion`),
//! its strategy (a namespace's contents), and a grace period (the worker that runs a pod).

use std::sync::Arc;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;

use super::admission;
use super::error::{Error, MODIFIED};
use super::kinds::ResourceInfo;
use super::options::{Caller, DeleteOptions, Deleted, ListOptions, Propagation};
use super::strategy::Draft;
use super::update::{ATTEMPTS, bump_generation};
use super::{Registry, present, typed};
use crate::store::{self, Stored};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// How many deletions of a collection are under way together; the store commits them as one.
const CONCURRENCY: usize = 64;

/// What a deletion comes to.
enum Plan {
    Remove,
    Mark(Box<dyn Draft>),
    /// Marked already.
    Wait,
}

impl Registry {
    pub async fn delete(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        name: &str,
        options: &DeleteOptions,
        caller: &Caller,
    ) -> Result<Deleted, Error> {
        for _ in 0..ATTEMPTS {
            let current = self.stored(res, ns, name)?;
            let old = typed(res, &current)?;
            check_preconditions(res, old.meta(), options)?;
            admission::validate_delete(caller, res, name, old.as_ref())?;
            let plan = plan(old.as_ref(), options, self.clock().now());
            if let Some(deleted) = self.carry_out(res, &current, plan, options.dry_run).await? {
                return Ok(deleted);
            }
        }
        Err(Error::conflict(res, name, MODIFIED))
    }

    /// `None` if somebody else wrote in between.
    async fn carry_out(
        &self,
        res: &'static ResourceInfo,
        current: &Arc<Stored>,
        plan: Plan,
        dry_run: bool,
    ) -> Result<Option<Deleted>, Error> {
        let key = current.key.clone();
        let expected = Some(current.revision);
        let result = match plan {
            Plan::Wait => return Ok(Some(Deleted::Pending(present(res, Arc::clone(current))?))),
            Plan::Remove if dry_run => Ok(Deleted::Gone(Arc::clone(current))),
            Plan::Remove => self.store().delete(key, expected).await.map(Deleted::Gone),
            Plan::Mark(draft) => {
                let object = marked(draft.as_ref())
                    .map_err(|source| Error::corrupt(res, &current.key.name, source))?;
                if dry_run {
                    let stored = Stored::new(key, current.revision, object);
                    Ok(Deleted::Pending(Arc::new(stored)))
                } else {
                    let stored = self.store().update(key, expected, object).await;
                    stored.map(Deleted::Pending)
                }
            }
        };
        match result {
            Ok(Deleted::Gone(stored)) => Ok(Some(Deleted::Gone(present(res, stored)?))),
            Ok(Deleted::Pending(stored)) => Ok(Some(Deleted::Pending(present(res, stored)?))),
            Err(store::Error::Conflict { .. }) => Ok(None),
            Err(error) => Err(Error::from_store(res, &current.key.name, error)),
        }
    }

    pub async fn delete_collection(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        list: &ListOptions,
        options: &DeleteOptions,
        caller: &Caller,
    ) -> Result<Vec<Arc<Stored>>, Error> {
        if !res.verbs.contains(&"deletecollection") {
            return Err(Error::MethodNotAllowed);
        }
        let found = self.list(res, ns, list).await?;
        let deletions = found.items.into_iter().map(|item| async move {
            let ns = Some(&*item.key.namespace);
            match self.delete(res, ns, &item.key.name, options, caller).await {
                Ok(Deleted::Gone(stored) | Deleted::Pending(stored)) => Ok(Some(stored)),
                // Somebody else was faster; it is gone, as asked.
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let results: Vec<Result<_, Error>> = futures::stream::iter(deletions)
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let deleted: Result<Vec<Option<_>>, Error> = results.into_iter().collect();
        Ok(deleted?.into_iter().flatten().collect())
    }
}

pub(super) fn check_preconditions(
    res: &ResourceInfo,
    current: &ObjectMeta,
    options: &DeleteOptions,
) -> Result<(), Error> {
    for (what, wanted, found) in [
        ("UID", &options.uid, &current.uid),
        (
            "ResourceVersion",
            &options.resource_version,
            &current.resource_version,
        ),
    ] {
        let found = found.as_deref().unwrap_or_default();
        if let Some(wanted) = wanted.as_deref().filter(|wanted| !wanted.is_empty())
            && wanted != found
        {
            return Err(Error::conflict(
                res,
                current.name.as_deref().unwrap_or_default(),
                format!(
                    "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
                ),
            ));
        }
    }
    Ok(())
}

fn plan(old: &dyn Draft, options: &DeleteOptions, now: Timestamp) -> Plan {
    let meta = old.meta();
    let had = meta.finalizers.as_deref().unwrap_or_default();
    let finalizers = finalizers_for(had, options.propagation_policy);
    let is_blocked = !finalizers.is_empty() || old.is_held();
    let grace = if meta.deletion_timestamp.is_none() {
        old.grace(options.grace_period_seconds)
    } else {
        // A second deletion may only shorten what the first one granted.
        let granted = meta.deletion_grace_period_seconds.unwrap_or(0);
        let wanted = options.grace_period_seconds.unwrap_or(granted);
        granted.min(if wanted < 0 { 1 } else { wanted })
    };
    if grace == 0 && !is_blocked {
        return Plan::Remove;
    }
    let is_marked = meta.deletion_timestamp.is_some()
        && meta.deletion_grace_period_seconds.unwrap_or(0) == grace
        && had == finalizers.as_slice();
    if is_marked {
        return Plan::Wait;
    }
    let mut draft = old.boxed();
    mark(draft.meta_mut(), grace, finalizers, now);
    draft.prepare_delete();
    Plan::Mark(draft)
}

fn mark(meta: &mut ObjectMeta, grace: i64, finalizers: Vec<String>, now: Timestamp) {
    let granted = meta.deletion_grace_period_seconds.unwrap_or(0);
    let asked = match &meta.deletion_timestamp {
        Some(at) => at.0.saturating_sub(SignedDuration::from_secs(granted)),
        None => Ok(now),
    };
    let until = asked
        .unwrap_or(now)
        .saturating_add(SignedDuration::from_secs(grace));
    meta.deletion_timestamp = Some(Time(until.unwrap_or(now)));
    meta.deletion_grace_period_seconds = Some(grace);
    meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
}

/// The encoded mark; the first one counts as a change of what is wanted.
fn marked(draft: &dyn Draft) -> Result<Value, serde_json::Error> {
    let mut object = draft.to_value()?;
    bump_generation(&mut object);
    Ok(object)
}

/// The finalizers that make the garbage collector do as the policy says.
fn finalizers_for(had: &[String], policy: Option<Propagation>) -> Vec<String> {
    let wanted = match policy {
        None => return had.to_vec(),
        Some(Propagation::Background) => None,
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Orphan) => Some(ORPHAN),
    };
    let others = had
        .iter()
        .filter(|finalizer| *finalizer != ORPHAN && *finalizer != FOREGROUND);
    others.cloned().chain(wanted.map(str::to_owned)).collect()
}
