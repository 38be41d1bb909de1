//! The garbage collector: what has lost all its owners goes too.
//!
//! An index from owner uid to dependents (`index.rs`) is fed by untyped watches on every kind of
//! the registry's table. It only says whom to look at; the decision reads object and owners live
//! (`plan.rs`), so a stale index can cause a wasted look but never a wrong deletion.
//!
//! - **Background**: an owner disappears → its dependents are looked at → absent owner → deleted.
//! - **Foreground**: the owner stays, with finalizer `foregroundDeletion`, until the dependents
//!   that block it have gone.
//! - **Orphan**: finalizer `orphan` → the references to the owner are removed first.
//!
//! Kinds that come and go while the server runs are followed as they do (`kinds.rs`).
//!
//! An owner of a kind that the table does not have cannot be verified and counts as present.

mod index;
mod kinds;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::runtime::{Controller, Counters, Key, Outcome, Queue};
use super::{Context, Error, doing};
use crate::api::object;
use crate::errors;
use crate::registry;
use crate::registry::{
    Caller, DeleteOptions, Event, Registry, ResourceInfo, WatchOptions, WriteOptions,
};

use index::{Entry, Index};
use plan::{FOREGROUND, ORPHAN, Owner, Verdict};

const COMPONENT: &str = "generic-garbage-collector";

struct GarbageCollector {
    registry: Registry,
    queue: Arc<Queue>,
    index: Index,
}

pub(super) fn start(ctx: &Context) -> (&'static str, Arc<Counters>) {
    let controller = Controller::new("garbagecollector", ctx);
    let this = Arc::new(GarbageCollector {
        registry: ctx.registry.clone(),
        queue: Arc::clone(&controller.queue),
        index: Index::default(),
    });
    kinds::follow(ctx, &this);
    let resync = Arc::clone(&this);
    controller.every(ctx.config.resync, move || Ok(resync.index.keys()));
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl GarbageCollector {
    /// Follows one kind for ever; a broken watch is opened again.
    async fn feed(&self, resource: &'static ResourceInfo) {
        while let Err(error) = self.follow(resource).await {
            tracing::warn!(kind = resource.kind, error = %errors::chain(&error), "watch again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn follow(&self, resource: &'static ResourceInfo) -> Result<(), registry::Error> {
        let options = WatchOptions {
            send_initial_events: true,
            allow_bookmarks: true,
            resource_version_match: Some("NotOlderThan".to_owned()),
            ..WatchOptions::default()
        };
        let mut stream = self.registry.watch(resource, None, &options).await?;
        self.index.begin(resource.storage);
        while let Some(event) = stream.next().await {
            match event? {
                Event::Added(stored) | Event::Modified(stored) => {
                    self.changed(resource, &stored.object);
                }
                Event::Deleted(stored) => self.deleted(resource, &stored.object),
                Event::Bookmark { initial_end, .. } => {
                    if initial_end {
                        // What was known before and was not sent again has gone meanwhile.
                        for uid in self.index.unseen(resource.storage) {
                            self.wake_dependents(&uid);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn changed(&self, resource: &'static ResourceInfo, object: &Value) {
        let key = key_of(resource, object);
        let owners = match references(object) {
            Ok(owners) => owners,
            Err(error) => {
                tracing::warn!(%key, %error, "unreadable owner references");
                return;
            }
        };
        let entry = Entry {
            key: key.clone(),
            owners: owners.iter().map(|owner| owner.uid.clone()).collect(),
        };
        self.index.put(object::uid(object), entry);
        let waits = object::is_terminating(object)
            && [FOREGROUND, ORPHAN]
                .iter()
                .any(|f| plan::has_finalizer(object, f));
        let is_in_danger = || {
            let states = owners.iter().map(|owner| self.owner(&key.namespace, owner));
            states
                .into_iter()
                .any(|state| !matches!(state, Ok(Owner::Solid | Owner::Unverifiable)))
        };
        if waits || is_in_danger() {
            self.queue.add(key);
        }
    }

    fn deleted(&self, resource: &'static ResourceInfo, object: &Value) {
        let key = key_of(resource, object);
        let uid = object::uid(object);
        self.index.remove(uid);
        self.wake_dependents(uid);
        // An owner may wait for this very dependent.
        for owner in references(object).unwrap_or_default() {
            if let Some(resource) = self.registry.find_kind(&owner.api_version, &owner.kind) {
                self.queue.add(owner_key(resource, &key.namespace, &owner));
            }
        }
    }

    fn wake_dependents(&self, uid: &str) {
        for key in self.index.dependents(uid) {
            self.queue.add(key);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(resource) = self.registry.find_stored(key.kind) else {
            return Ok(Outcome::Done);
        };
        let namespace = resource.namespaced.then_some(key.namespace.as_str());
        let stored = match self.registry.get(resource, namespace, &key.name) {
            Ok(stored) => stored,
            Err(registry::Error::NotFound { .. }) => return Ok(Outcome::Done),
            Err(error) => return Err(doing("get", key.to_string())(error)),
        };
        let object = &stored.object;
        if object::is_terminating(object) {
            return self.finish_deletion(resource, key, object).await;
        }
        let owners = references(object).map_err(|source| Error::Encode {
            object: format!("the owner references of {key}"),
            source,
        })?;
        let mut states = Vec::with_capacity(owners.len());
        for owner in &owners {
            let state = self.owner(&key.namespace, owner);
            states.push((
                owner.uid.clone(),
                state.map_err(doing("look up an owner of", key.to_string()))?,
            ));
        }
        let has_dependents = !self.index.dependents(object::uid(object)).is_empty();
        match plan::plan(object, &states, has_dependents) {
            Verdict::Keep => {}
            Verdict::Drop(uids) => {
                let mut updated = object.clone();
                plan::remove_references(&mut updated, &uids);
                self.update(resource, key, updated).await?;
            }
            Verdict::Delete(policy) => {
                let options = DeleteOptions {
                    propagation_policy: Some(policy),
                    uid: Some(object::uid(object).to_owned()),
                    resource_version: object::meta_str(object, "resourceVersion")
                        .map(str::to_owned),
                    ..DeleteOptions::default()
                };
                let caller = Caller::system(COMPONENT);
                let deleted = self
                    .registry
                    .delete(resource, namespace, &key.name, &options, &caller)
                    .await;
                deleted.map_err(doing("collect", key.to_string()))?;
            }
        }
        Ok(Outcome::Done)
    }

    /// An object that waits for this controller before it may go.
    async fn finish_deletion(
        &self,
        resource: &'static ResourceInfo,
        key: &Key,
        object: &Value,
    ) -> Result<Outcome, Error> {
        let uid = object::uid(object);
        if plan::has_finalizer(object, ORPHAN) {
            for dependent in self.index.dependents(uid) {
                self.orphan(&dependent, uid).await?;
            }
            self.without_finalizer(resource, key, object, ORPHAN)
                .await?;
        } else if plan::has_finalizer(object, FOREGROUND) {
            let dependents = self.index.dependents(uid);
            let mut is_blocked = false;
            for dependent in dependents {
                is_blocked |= self.blocks(&dependent, uid)?;
                self.queue.add(dependent);
            }
            if !is_blocked {
                self.without_finalizer(resource, key, object, FOREGROUND)
                    .await?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Whether the dependent is there and asked its owner to wait for it.
    fn blocks(&self, dependent: &Key, owner_uid: &str) -> Result<bool, Error> {
        let Some((_, object)) = self.find(dependent)? else {
            return Ok(false);
        };
        let owners = references(&object).map_err(|source| Error::Encode {
            object: format!("the owner references of {dependent}"),
            source,
        })?;
        let mut owners = owners.iter();
        Ok(owners.any(|owner| owner.uid == owner_uid && owner.block_owner_deletion == Some(true)))
    }

    async fn orphan(&self, dependent: &Key, owner_uid: &str) -> Result<(), Error> {
        let Some((resource, mut object)) = self.find(dependent)? else {
            return Ok(());
        };
        plan::remove_references(&mut object, &[owner_uid.to_owned()]);
        self.update(resource, dependent, object).await
    }

    async fn without_finalizer(
        &self,
        resource: &'static ResourceInfo,
        key: &Key,
        object: &Value,
        finalizer: &str,
    ) -> Result<(), Error> {
        let mut updated = object.clone();
        plan::remove_finalizer(&mut updated, finalizer);
        self.update(resource, key, updated).await
    }

    fn find(&self, key: &Key) -> Result<Option<(&'static ResourceInfo, Value)>, Error> {
        let Some(resource) = self.registry.find_stored(key.kind) else {
            return Ok(None);
        };
        let namespace = resource.namespaced.then_some(key.namespace.as_str());
        match self.registry.get(resource, namespace, &key.name) {
            Ok(stored) => Ok(Some((resource, stored.object.clone()))),
            Err(registry::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(doing("get", key.to_string())(error)),
        }
    }

    async fn update(
        &self,
        resource: &'static ResourceInfo,
        key: &Key,
        object: Value,
    ) -> Result<(), Error> {
        let namespace = resource.namespaced.then_some(key.namespace.as_str());
        let (options, caller) = (WriteOptions::default(), Caller::system(COMPONENT));
        self.registry
            .update(
                resource, namespace, &key.name, None, object, &options, &caller,
            )
            .await
            .map(|_| ())
            .map_err(doing("update the metadata of", key.to_string()))
    }

    /// What became of an owner, read live.
    fn owner(&self, namespace: &str, owner: &OwnerReference) -> Result<Owner, registry::Error> {
        let Some(resource) = self.registry.find_kind(&owner.api_version, &owner.kind) else {
            return Ok(Owner::Unverifiable);
        };
        // A cluster-scoped object cannot have a namespaced owner: nothing says in which namespace.
        if resource.namespaced && namespace.is_empty() {
            return Ok(Owner::Unverifiable);
        }
        let namespace = resource.namespaced.then_some(namespace);
        match self.registry.get(resource, namespace, &owner.name) {
            Ok(stored) => Ok(plan::owner_state(&stored.object, owner)),
            Err(registry::Error::NotFound { .. }) => Ok(Owner::Absent),
            Err(error) => Err(error),
        }
    }
}

fn key_of(resource: &'static ResourceInfo, object: &Value) -> Key {
    Key {
        kind: resource.storage,
        namespace: object::namespace(object).to_owned(),
        name: object::name(object).to_owned(),
    }
}

fn owner_key(resource: &'static ResourceInfo, namespace: &str, owner: &OwnerReference) -> Key {
    Key {
        kind: resource.storage,
        namespace: if resource.namespaced {
            namespace.to_owned()
        } else {
            String::new()
        },
        name: owner.name.clone(),
    }
}

fn references(object: &Value) -> Result<Vec<OwnerReference>, serde_json::Error> {
    match object::at(object, &["metadata", "ownerReferences"]) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(references) => serde::Deserialize::deserialize(references),
    }
}
