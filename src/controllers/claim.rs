//! Whose children are these: adoption and release by selector.
//!
//! A controller owns what carries its uid as controller **and** matches its selector. An orphan
//! that matches is adopted; a child that no longer matches is released. An object that somebody
//! else controls is never touched, and one that is being deleted is never adopted.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::api::owner;
use crate::api::selector::Labels;
use crate::errors;
use crate::registry::{Api, ApiKind};

use super::runtime::Key;
use super::{Context, Error, doing, path};

/// The children that `owner` has afterwards, listed live: what names it as its controller, and
/// orphans. Only what `may_be` allows comes into question, whatever its labels say.
pub(super) async fn observe<K: ApiKind, O: ApiKind>(
    ctx: &Context,
    component: &str,
    owner: &O,
    selector: &LabelSelector,
    may_be: impl Fn(&K) -> bool,
) -> Result<Vec<Arc<K>>, Error> {
    let meta = owner.metadata();
    let selector = Labels::from_selector(selector).map_err(|source| Error::Selector {
        object: path(meta),
        source,
    })?;
    let api = ctx.api::<K>(component);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let failed = || doing("list the children of", path(meta));
    let mut candidates = api
        .list_controlled(namespace, O::KIND, name)
        .map_err(failed())?;
    candidates.extend(api.list_orphans(namespace).map_err(failed())?);
    candidates.retain(|object| may_be(object));
    let claim = claim(meta, &selector, candidates);
    claim.settle(ctx, component, owner).await
}

/// Whom a change of a child concerns: the owner that controls it or, for an orphan, those that
/// might adopt it.
pub(super) fn owners<K: ApiKind, O: ApiKind>(
    api: &Api<O>,
    child: &K,
    selector: fn(&O) -> Option<Labels>,
) -> Vec<Key> {
    let meta = child.metadata();
    if owner::controller_of(meta).is_some() {
        return Key::of_controller(meta, O::KIND).into_iter().collect();
    }
    if meta.labels.as_ref().is_none_or(BTreeMap::is_empty) {
        return Vec::new();
    }
    // A failed list loses a wake-up, not the adoption: the periodic resync will see the orphan.
    let candidates = api.list(meta.namespace.as_deref()).unwrap_or_else(|error| {
        tracing::debug!(error = %errors::chain(&error), "who might adopt an orphan");
        Vec::new()
    });
    let adopts = |owner: &&Arc<O>| {
        selector(owner).is_some_and(|selector| selector.matches(meta.labels.as_ref()))
    };
    let adopting = candidates.iter().filter(adopts);
    adopting.map(|owner| Key::of(owner.metadata())).collect()
}

/// What a look at the possible children gave.
struct Claim<K> {
    owned: Vec<Arc<K>>,
    adopt: Vec<Arc<K>>,
    release: Vec<Arc<K>>,
}

/// Sorts `candidates`, which may hold others' children: of an owner that had this name before.
fn claim<K: ApiKind>(owner: &ObjectMeta, selector: &Labels, candidates: Vec<Arc<K>>) -> Claim<K> {
    let mut claim = Claim {
        owned: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    let owner_uid = owner.uid.as_deref().unwrap_or_default();
    let owner_lives = owner.deletion_timestamp.is_none();
    for object in candidates {
        let meta = object.metadata();
        // An empty selector would select the whole namespace; a workload never means that.
        let matches = !selector.is_empty() && selector.matches(meta.labels.as_ref());
        let dying = meta.deletion_timestamp.is_some();
        match owner::controller_of(meta).map(|reference| reference.uid == owner_uid) {
            Some(true) if matches => claim.owned.push(object),
            Some(true) if owner_lives => claim.release.push(object),
            None if matches && owner_lives && !dying => claim.adopt.push(object),
            Some(_) | None => {}
        }
    }
    claim
}

impl<K: ApiKind> Claim<K> {
    /// Writes adoptions and releases; returns what is owned afterwards.
    async fn settle<O: ApiKind>(
        self,
        ctx: &Context,
        component: &str,
        owner: &O,
    ) -> Result<Vec<Arc<K>>, Error> {
        let mut owned = self.owned;
        if self.adopt.is_empty() && self.release.is_empty() {
            return Ok(owned);
        }
        // The owner may have gone, or another of its name come, since it was read.
        let meta = owner.metadata();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let live = ctx
            .api::<O>(component)
            .get(namespace, meta.name.as_deref().unwrap_or_default())
            .map_err(doing("verify", path(meta)))?;
        if live.metadata().uid != meta.uid {
            return Err(Error::Incomplete(format!("{} is another now", path(meta))));
        }
        let api = ctx.api::<K>(component);
        for object in self.adopt {
            let mut adopted = object.as_ref().clone();
            adopted
                .metadata_mut()
                .owner_references
                .get_or_insert_default()
                .push(owner::controller_reference::<O>(meta));
            let what = path(object.metadata());
            owned.push(
                api.update(namespace, &adopted)
                    .await
                    .map_err(doing("adopt", what))?,
            );
        }
        for object in self.release {
            let mut released = object.as_ref().clone();
            if let Some(references) = &mut released.metadata_mut().owner_references {
                references.retain(|reference| Some(&reference.uid) != meta.uid.as_ref());
            }
            let what = path(object.metadata());
            api.update(namespace, &released)
                .await
                .map_err(doing("release", what))?;
        }
        Ok(owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pod(name: &str, app: &str, owner: Option<&str>, dying: bool) -> Arc<Pod> {
        let references = owner.map(|uid| {
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}])
        });
        Arc::new(
            serde_json::from_value(json!({"metadata": {
                "name": name, "labels": {"app": app}, "ownerReferences": references,
                "deletionTimestamp": dying.then_some("2026-01-01T00:00:00Z"),
            }}))
            .unwrap(),
        )
    }

    #[test]
    fn sorts_children_orphans_and_strangers() {
        let owner = ObjectMeta {
            uid: Some("me".into()),
            ..ObjectMeta::default()
        };
        let selector = Labels::parse("app=web").unwrap();
        let candidates = vec![
            pod("mine", "web", Some("me"), false),
            pod("mine-dying", "web", Some("me"), true),
            pod("relabelled", "db", Some("me"), false),
            pod("orphan", "web", None, false),
            pod("dying-orphan", "web", None, true),
            pod("theirs", "web", Some("them"), false),
            pod("other", "db", None, false),
        ];
        let names = |pods: &[Arc<Pod>]| -> Vec<String> {
            pods.iter()
                .map(|pod| pod.metadata.name.clone().unwrap())
                .collect()
        };
        let sorted = claim(&owner, &selector, candidates.clone());
        assert_eq!(names(&sorted.owned), ["mine", "mine-dying"]);
        assert_eq!(names(&sorted.adopt), ["orphan"]);
        assert_eq!(names(&sorted.release), ["relabelled"]);
        let everything = claim(&owner, &Labels::default(), candidates);
        assert!(everything.adopt.is_empty() && everything.owned.is_empty());
    }
}
