//! The typed in-process client: what controllers, scheduler and admission of the server use.
//!
//! Objects are decoded once per version and shared by everyone who looks at them; a read copies a
//! pointer. A write goes through the same verbs as a request over HTTP.

use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::Value;

use super::error::Error;
use super::kinds::{self, ResourceInfo};
use super::options::{Caller, DeleteOptions, WatchOptions, WriteOptions, Written};
use super::patch::Patch;
use super::strategy::{Draft, Strategy};
use super::watch::{Event, EventStream};
use super::{Registry, key};
use crate::api::object;
use crate::api::selector::Labels;
use crate::store::{ListQuery, Stored};

/// What the typed client needs of a kind: a row in the table (a k8s-openapi type, or `api::module::Module`).
pub trait ApiKind: Strategy {}
impl<K: Strategy> ApiKind for K {}

/// A typed event.
pub enum TypedEvent<K> {
    Added(Arc<K>),
    Modified(Arc<K>),
    Deleted(Arc<K>),
    Bookmark(u64),
}

pub struct TypedStream<K> {
    res: &'static ResourceInfo,
    events: EventStream,
    _kind: PhantomData<fn() -> K>,
}

impl<K: ApiKind> TypedStream<K> {
    /// `None` when the store closes; `Err(Error::Expired)` when too slow: watch anew.
    pub async fn next(&mut self) -> Option<Result<TypedEvent<K>, Error>> {
        let event = match self.events.next().await? {
            Ok(event) => event,
            Err(error) => return Some(Err(error)),
        };
        Some(match event {
            Event::Added(stored) => decoded(self.res, &stored).map(TypedEvent::Added),
            Event::Modified(stored) => decoded(self.res, &stored).map(TypedEvent::Modified),
            Event::Deleted(stored) => decoded(self.res, &stored).map(TypedEvent::Deleted),
            Event::Bookmark { revision, .. } => Ok(TypedEvent::Bookmark(revision)),
        })
    }
}

fn decoded<K: ApiKind>(res: &ResourceInfo, stored: &Stored) -> Result<Arc<K>, Error> {
    super::strategy::decoded(stored).map_err(|source| Error::corrupt(res, &stored.key.name, source))
}

/// The typed in-process client: `Arc`-shared objects, no serialisation on reads.
/// `ns` is `""` for cluster-scoped kinds.
pub struct Api<K> {
    registry: Registry,
    res: &'static ResourceInfo,
    caller: Caller,
    _kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self {
            registry: self.registry.clone(),
            res: self.res,
            caller: self.caller.clone(),
            _kind: PhantomData,
        }
    }
}

impl Registry {
    pub fn api<K: ApiKind>(&self, caller: Caller) -> Api<K> {
        Api {
            registry: self.clone(),
            res: kinds::row_of::<K>(),
            caller,
            _kind: PhantomData,
        }
    }
}

impl<K: ApiKind> Api<K> {
    pub fn get(&self, ns: &str, name: &str) -> Result<Arc<K>, Error> {
        decoded(
            self.res,
            self.registry.stored(self.res, Some(ns), name)?.as_ref(),
        )
    }

    /// `None` instead of `Err(NotFound)`.
    pub fn try_get(&self, ns: &str, name: &str) -> Result<Option<Arc<K>>, Error> {
        let found = self.registry.store().get(&key(self.res, Some(ns), name));
        found.map(|stored| decoded(self.res, &stored)).transpose()
    }

    /// Reads memory; `ns` `None` is all namespaces.
    pub fn list(&self, ns: Option<&str>) -> Result<Vec<Arc<K>>, Error> {
        self.collect(ns, |_| true)
    }

    pub fn list_selected(&self, ns: Option<&str>, labels: &Labels) -> Result<Vec<Arc<K>>, Error> {
        self.collect(ns, |stored| {
            labels.matches_by(|key| object::label(&stored.object, key))
        })
    }

    /// The objects of a namespace whose controller is of this kind and name, whatever its uid.
    pub fn list_controlled(&self, ns: &str, kind: &str, name: &str) -> Result<Vec<Arc<K>>, Error> {
        self.by_controller(ns, Some((kind, name)))
    }

    /// The objects of a namespace without a controller.
    pub fn list_orphans(&self, ns: &str) -> Result<Vec<Arc<K>>, Error> {
        self.by_controller(ns, None)
    }

    fn by_controller(
        &self,
        ns: &str,
        controller: Option<(&str, &str)>,
    ) -> Result<Vec<Arc<K>>, Error> {
        let index = &self.registry.shared.controlled;
        let found = index.by(self.res.storage, ns, controller);
        let found = found.map_err(|error| Error::from_store(self.res, "", error))?;
        found
            .iter()
            .map(|stored| decoded(self.res, stored))
            .collect()
    }

    fn collect(
        &self,
        ns: Option<&str>,
        is_wanted: impl Fn(&Stored) -> bool,
    ) -> Result<Vec<Arc<K>>, Error> {
        let query = ListQuery {
            resource: self.res.storage.to_owned(),
            namespace: ns.filter(|_| self.res.namespaced).map(str::to_owned),
            ..ListQuery::default()
        };
        let scan = self
            .registry
            .store()
            .scan(&query)
            .map_err(|error| Error::from_store(self.res, "", error))?;
        scan.filter(|stored| is_wanted(stored))
            .map(|stored| decoded(self.res, &stored))
            .collect()
    }

    /// Current objects as `Added`, then changes.
    pub async fn watch(&self, ns: Option<&str>) -> Result<TypedStream<K>, Error> {
        let options = WatchOptions::default();
        Ok(TypedStream {
            res: self.res,
            events: self.registry.watch(self.res, ns, &options).await?,
            _kind: PhantomData,
        })
    }

    /// All objects there are, and the changes after them.
    pub async fn list_and_watch(
        &self,
        ns: Option<&str>,
    ) -> Result<(Vec<Arc<K>>, TypedStream<K>), Error> {
        let mut stream = self.watch(ns).await?;
        let all = stream.events.take_initial();
        let all: Result<_, Error> = all.map(|stored| decoded(self.res, &stored)).collect();
        Ok((all?, stream))
    }

    pub async fn create(&self, ns: &str, object: &K) -> Result<Arc<K>, Error> {
        let draft: Box<dyn Draft> = Box::new(object.clone());
        let written = self
            .registry
            .create_draft(self.res, Some(ns), draft, &self.caller)
            .await?;
        self.written(&written)
    }

    /// Optimistic: `metadata.resourceVersion` of `object` must be current.
    pub async fn update(&self, ns: &str, object: &K) -> Result<Arc<K>, Error> {
        self.put(ns, None, object).await
    }

    pub async fn update_status(&self, ns: &str, object: &K) -> Result<Arc<K>, Error> {
        self.put(ns, Some("status"), object).await
    }

    async fn put(&self, ns: &str, subresource: Option<&str>, object: &K) -> Result<Arc<K>, Error> {
        let name = object.metadata().name.clone().unwrap_or_default();
        let value: Value = object
            .to_value()
            .map_err(|source| Error::corrupt(self.res, &name, source))?;
        let written = self
            .registry
            .update(
                self.res,
                Some(ns),
                &name,
                subresource,
                value,
                &WriteOptions::default(),
                &self.caller,
            )
            .await?;
        self.written(&written)
    }

    pub async fn patch(
        &self,
        ns: &str,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
    ) -> Result<Arc<K>, Error> {
        let written = self
            .registry
            .patch(
                self.res,
                Some(ns),
                name,
                subresource,
                patch,
                &WriteOptions::default(),
                &self.caller,
            )
            .await?;
        self.written(&written)
    }

    pub async fn delete(&self, ns: &str, name: &str, options: &DeleteOptions) -> Result<(), Error> {
        self.registry
            .delete(self.res, Some(ns), name, options, &self.caller)
            .await
            .map(drop)
    }

    fn written(&self, written: &Written) -> Result<Arc<K>, Error> {
        decoded(self.res, &written.object)
    }
}
