//! The history of a pod template: a ControllerRevision for each template that a StatefulSet or
//! DaemonSet has had.
//!
//! A revision's data is the patch that brings its template back, which is what `kubectl rollout
//! undo` sends. The template decides whether two revisions are the same; one that is used again is
//! the newest again.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use super::{Context, Error, claim, doing, path, stable_hash};
use crate::api::{object, owner};
use crate::registry::{self, ApiKind, DeleteOptions};

/// On pods: the revision that they are of.
pub(super) const POD_LABEL: &str = "controller-revision-hash";
/// On revisions of a StatefulSet: the hash in their name.
pub(super) const HASH_LABEL: &str = "controller.kubernetes.io/hash";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Other names that are tried when a name is taken by another template.
const COLLISIONS: i32 = 16;

/// All revisions of an owner, the oldest first, and the one that its template is.
pub(super) struct History {
    pub(super) all: Vec<Arc<ControllerRevision>>,
    pub(super) update: Arc<ControllerRevision>,
}

impl History {
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<ControllerRevision>> {
        let is_it = |one: &&Arc<ControllerRevision>| one.metadata.name.as_deref() == Some(name);
        self.all.iter().find(is_it)
    }
}

/// What a revision keeps.
fn data(template: &PodTemplateSpec) -> Result<Value, serde_json::Error> {
    let mut template = serde_json::to_value(template)?;
    object::prune_nulls(&mut template);
    template["$patch"] = "replace".into();
    Ok(json!({"spec": {"template": template}}))
}

/// The template that a revision keeps.
pub(super) fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Error> {
    let template = revision
        .data
        .as_ref()
        .map(|data| data.0["spec"]["template"].clone());
    let mut template = template.unwrap_or_default();
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    serde_json::from_value(template).map_err(|source| Error::Encode {
        object: format!("the template of {}", path(&revision.metadata)),
        source,
    })
}

/// The hash in a revision's name.
pub(super) fn hash(revision: &ControllerRevision) -> &str {
    let name = revision.metadata.name.as_deref().unwrap_or_default();
    name.rsplit_once('-').map_or(name, |(_, hash)| hash)
}

/// Finds or makes the revision of the owner's template, after adoption and release.
pub(super) async fn settle<K: ApiKind>(
    ctx: &Context,
    component: &str,
    owner: &K,
    (selector, wanted): (&LabelSelector, &PodTemplateSpec),
) -> Result<History, Error> {
    let meta = owner.metadata();
    let owned = claim::observe(ctx, component, owner, selector, |_| true);
    let mut all: Vec<Arc<ControllerRevision>> = owned.await?;
    all.sort_by_key(|one| (one.revision, one.metadata.name.clone()));
    let data = data(wanted).map_err(|source| Error::Encode {
        object: format!("the template of {}", path(meta)),
        source,
    })?;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let next = all.last().map_or(1, |last| last.revision + 1);
    let same = |one: &Arc<ControllerRevision>| one.data.as_ref().map(|it| &it.0) == Some(&data);
    let update = match all.iter().rposition(same) {
        Some(place) if place + 1 == all.len() => Arc::clone(&all[place]),
        Some(place) => {
            let mut again = all.remove(place).as_ref().clone();
            again.revision = next;
            let api = ctx.api::<ControllerRevision>(component);
            let again = api.update(namespace, &again).await;
            let again = again.map_err(doing("renew a revision of", path(meta)))?;
            all.push(Arc::clone(&again));
            again
        }
        None => {
            let made = make::<K>(ctx, component, meta, (wanted, data, next)).await?;
            all.push(Arc::clone(&made));
            made
        }
    };
    Ok(History { all, update })
}

async fn make<K: ApiKind>(
    ctx: &Context,
    component: &str,
    meta: &ObjectMeta,
    (wanted, data, revision): (&PodTemplateSpec, Value, i64),
) -> Result<Arc<ControllerRevision>, Error> {
    let api = ctx.api::<ControllerRevision>(component);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let labels = wanted
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    let annotations = meta.annotations.clone().unwrap_or_default();
    let annotations: BTreeMap<String, String> = annotations
        .into_iter()
        .filter(|(key, _)| key != LAST_APPLIED)
        .collect();
    let mut failed = None;
    for collision in 0..COLLISIONS {
        let hash = stable_hash::of(&data, collision);
        let mut labels = labels.clone().unwrap_or_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let wanted = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{hash}")),
                namespace: meta.namespace.clone(),
                labels: Some(labels),
                annotations: (!annotations.is_empty()).then(|| annotations.clone()),
                owner_references: Some(vec![owner::controller_reference::<K>(meta)]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data.clone())),
            revision,
        };
        match api.create(namespace, &wanted).await {
            Ok(made) => return Ok(made),
            Err(error @ registry::Error::AlreadyExists { .. }) => failed = Some(error),
            Err(error) => return Err(doing("make a revision of", path(meta))(error)),
        }
    }
    Err(match failed {
        Some(error) => doing("make a revision of", path(meta))(error),
        None => Error::Incomplete(format!("{} has no revision", path(meta))),
    })
}

/// Deletes the oldest revisions that are neither in use nor within the limit.
pub(super) async fn truncate(
    ctx: &Context,
    component: &str,
    history: &History,
    (limit, live): (i32, &[&str]),
) -> Result<(), Error> {
    let api = ctx.api::<ControllerRevision>(component);
    for old in surplus(&history.all, limit, live) {
        let meta = &old.metadata;
        let options = DeleteOptions {
            uid: meta.uid.clone(),
            ..DeleteOptions::default()
        };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        match api.delete(namespace, name, &options).await {
            Ok(()) | Err(registry::Error::NotFound { .. }) => {}
            Err(error) => return Err(doing("delete", path(meta))(error)),
        }
    }
    Ok(())
}

/// `live` are names, or hashes, of revisions in use.
fn surplus<'a>(
    all: &'a [Arc<ControllerRevision>],
    limit: i32,
    live: &[&str],
) -> &'a [Arc<ControllerRevision>] {
    let is_live = |one: &Arc<ControllerRevision>| {
        let name = one.metadata.name.as_deref().unwrap_or_default();
        live.iter().any(|live| *live == name || *live == hash(one))
    };
    let idle = all.iter().filter(|one| !is_live(one)).count();
    let count = idle.saturating_sub(usize::try_from(limit).unwrap_or(0));
    // A live one among the oldest stays and keeps what is younger.
    let end = all.iter().take(count).position(is_live).unwrap_or(count);
    &all[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str) -> Arc<ControllerRevision> {
        Arc::new(ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..ControllerRevision::default()
        })
    }

    #[test]
    fn a_revision_gives_its_template_back() {
        let wanted: PodTemplateSpec = serde_json::from_value(json!({
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "hello"}]},
        }))
        .unwrap();
        let kept = data(&wanted).unwrap();
        assert_eq!(kept["spec"]["template"]["$patch"], "replace");
        let revision = ControllerRevision {
            data: Some(RawExtension(kept)),
            ..ControllerRevision::default()
        };
        assert_eq!(template(&revision).unwrap(), wanted);
    }

    #[test]
    fn old_revisions_go_and_live_ones_stay() {
        let all = ["w-a", "w-b", "w-c", "w-d"].map(revision);
        let check = |limit, live: &[&str], gone: usize| {
            assert_eq!(surplus(&all, limit, live).len(), gone, "{limit} {live:?}");
        };
        check(10, &["w-d"], 0);
        check(1, &["w-d"], 2);
        check(0, &["d"], 3);
        check(0, &["w-a", "w-d"], 0);
        check(0, &["w-b", "w-d"], 1);
    }
}
