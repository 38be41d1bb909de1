//! The registry: THE TABLE of kinds, and the typed and untyped verbs on it.
//!
//! (CONTRACT — the signatures below are what the other rooms compile against; the room is being built.)
//!
//! The only door to the store. Order of a write: decode strictly → default → mutating admission →
//! system metadata → validate (all field errors at once) → validating admission → store.

use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::Value;

use crate::api::table::Column;
use crate::clock::Clock;
use crate::store::{Store, Stored};

/// A row of the table: everything that is particular to one kind.
pub struct ResourceInfo {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// `status`, `scale`, `binding`, `log`, …: what discovery announces (name, kind, group, version, verbs).
    pub subresources: &'static [SubresourceInfo],
    pub columns: &'static [Column],
    // … strategy function pointers, private to the registry.
}

pub struct SubresourceInfo {
    pub name: &'static str,
    pub kind: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub verbs: &'static [&'static str],
}

/// Who asks and how; handed to admission. In-process controllers use `Caller::system("deployment-controller")`.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user: String,
    pub groups: Vec<String>,
}

impl Caller {
    pub fn system(_component: &str) -> Self {
        todo!()
    }
}

#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    #[default]
    Warn,
    Strict,
    Ignore,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub limit: Option<usize>,
    pub continue_token: Option<String>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<String>,
}

pub struct List {
    pub revision: u64,
    pub items: Vec<Arc<Stored>>,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<String>,
    pub send_initial_events: bool,
    pub allow_bookmarks: bool,
}

#[derive(Clone)]
pub enum Event {
    Added(Arc<Stored>),
    Modified(Arc<Stored>),
    Deleted(Arc<Stored>),
    /// All matching changes up to this revision have been sent; `initial_end` marks the end of the initial events.
    Bookmark {
        revision: u64,
        initial_end: bool,
    },
}

/// A filtered watch; an object that leaves the selector is `Deleted`, one that enters is `Added`.
pub struct EventStream {
    _private: (),
}
impl EventStream {
    /// `None` when the store closes; `Err(Error::Expired)` when too slow or compacted.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        todo!()
    }
    /// See `store::Watch::progress`.
    pub fn progress(&self) -> u64 {
        todo!()
    }
}

pub enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

/// What a write answers: the object, the warnings for the client (`Warning: 299`), and whether it was created.
pub struct Written {
    pub object: Arc<Stored>,
    pub warnings: Vec<String>,
    pub created: bool,
}

/// What a deletion answers: gone at once, or waiting (finalizers, grace).
pub enum Deleted {
    Gone(Arc<Stored>),
    Pending(Arc<Stored>),
}

/// One wrong field; Kubernetes' `field.Error`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub reason: &'static str,
    pub field: String,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{resource} \"{name}\" not found")]
    NotFound { resource: String, name: String },
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists { resource: String, name: String },
    #[error("Operation cannot be fulfilled on {resource} \"{name}\": {message}")]
    Conflict {
        resource: String,
        name: String,
        message: String,
    },
    #[error("{kind} \"{name}\" is invalid")]
    Invalid {
        group: String,
        kind: String,
        name: String,
        errors: Vec<FieldError>,
    },
    #[error("{0}")]
    BadRequest(String),
    #[error("{resource} \"{name}\" is forbidden: {message}")]
    Forbidden {
        resource: String,
        name: String,
        message: String,
        cause: Option<&'static str>,
    },
    #[error("The resourceVersion for the provided watch is too old.")]
    Expired,
    #[error("Too large resource version")]
    FutureRevision { requested: u64, current: u64 },
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("{0}")]
    UnsupportedPatch(String),
    #[error("{0}")]
    TooManyRequests(String),
    #[error("store")]
    Store(#[source] crate::store::Error),
    #[error("decode stored {resource} \"{name}\"")]
    Corrupt {
        resource: String,
        name: String,
        #[source]
        source: serde_json::Error,
    },
}

pub struct Config {
    pub service_cidr: String,
    pub node_port_range: (u16, u16),
}

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    _private: (),
}

impl Registry {
    pub fn new(_store: Store, _clock: Clock, _config: Config) -> Self {
        todo!()
    }
    pub fn store(&self) -> &Store {
        todo!()
    }
    pub fn clock(&self) -> &Clock {
        todo!()
    }
    /// Creates what every cluster has: namespaces default, kube-system, kube-public, kube-node-lease;
    /// service kubernetes; default service accounts.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        todo!()
    }
    pub fn resources(&self) -> &'static [ResourceInfo] {
        todo!()
    }
    pub fn find(
        &self,
        _group: &str,
        _version: &str,
        _plural: &str,
    ) -> Option<&'static ResourceInfo> {
        todo!()
    }
    pub fn find_kind(&self, _api_version: &str, _kind: &str) -> Option<&'static ResourceInfo> {
        todo!()
    }

    pub fn get(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _name: &str,
    ) -> Result<Arc<Stored>, Error> {
        todo!()
    }
    pub async fn list(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _options: &ListOptions,
    ) -> Result<List, Error> {
        todo!()
    }
    pub async fn watch(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _options: &WatchOptions,
    ) -> Result<EventStream, Error> {
        todo!()
    }
    pub async fn create(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _object: Value,
        _options: &WriteOptions,
        _caller: &Caller,
    ) -> Result<Written, Error> {
        todo!()
    }
    /// Creates several objects, or none of them.
    pub async fn create_all(
        &self,
        _objects: Vec<(&'static ResourceInfo, Option<String>, Value)>,
        _options: &WriteOptions,
        _caller: &Caller,
    ) -> Result<Vec<Written>, Error> {
        todo!()
    }
    /// `subresource`: `None` is the object itself, `Some("status")` writes only status, `Some("scale")` takes a Scale.
    pub async fn update(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _name: &str,
        _subresource: Option<&str>,
        _object: Value,
        _options: &WriteOptions,
        _caller: &Caller,
    ) -> Result<Written, Error> {
        todo!()
    }
    pub async fn patch(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _name: &str,
        _subresource: Option<&str>,
        _patch: Patch,
        _options: &WriteOptions,
        _caller: &Caller,
    ) -> Result<Written, Error> {
        todo!()
    }
    pub async fn delete(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _name: &str,
        _options: &DeleteOptions,
        _caller: &Caller,
    ) -> Result<Deleted, Error> {
        todo!()
    }
    pub async fn delete_collection(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _list: &ListOptions,
        _options: &DeleteOptions,
        _caller: &Caller,
    ) -> Result<Vec<Arc<Stored>>, Error> {
        todo!()
    }
    /// The autoscaling/v1 Scale of a scalable object.
    pub fn scale(
        &self,
        _res: &'static ResourceInfo,
        _ns: Option<&str>,
        _name: &str,
    ) -> Result<Value, Error> {
        todo!()
    }
    /// POST pods/{name}/binding.
    pub async fn bind(
        &self,
        _ns: &str,
        _pod: &str,
        _uid: Option<&str>,
        _node: &str,
    ) -> Result<(), Error> {
        todo!()
    }
    /// Binds many pods in one commit; one result each (a failing one fails alone).
    pub async fn bind_all(
        &self,
        _bindings: Vec<(String, String, String)>,
    ) -> Vec<Result<(), Error>> {
        todo!()
    }
    /// One table row's cells, in the order of `columns`.
    pub fn cells(&self, _res: &'static ResourceInfo, _object: &Stored) -> Vec<Value> {
        todo!()
    }

    pub fn api<K: ApiKind>(&self, _caller: Caller) -> Api<K> {
        todo!()
    }
}

/// What the typed client needs of a kind: a k8s-openapi type (or `api::module::Module`).
pub trait ApiKind:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>
    + serde::Serialize
    + serde::de::DeserializeOwned
    + Clone
    + Send
    + Sync
    + 'static
{
}
impl<K> ApiKind for K where
    K: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A typed event.
pub enum TypedEvent<K> {
    Added(Arc<K>),
    Modified(Arc<K>),
    Deleted(Arc<K>),
    Bookmark(u64),
}

pub struct TypedStream<K> {
    _kind: PhantomData<K>,
}
impl<K: ApiKind> TypedStream<K> {
    pub async fn next(&mut self) -> Option<Result<TypedEvent<K>, Error>> {
        todo!()
    }
}

/// The typed in-process client: `Arc`-shared objects, no serialisation on reads.
/// `ns` is `""` for cluster-scoped kinds.
#[derive(Clone)]
pub struct Api<K> {
    _kind: PhantomData<K>,
}

impl<K: ApiKind> Api<K> {
    pub fn get(&self, _ns: &str, _name: &str) -> Result<Arc<K>, Error> {
        todo!()
    }
    /// `None` instead of `Err(NotFound)`.
    pub fn try_get(&self, _ns: &str, _name: &str) -> Result<Option<Arc<K>>, Error> {
        todo!()
    }
    /// Reads memory; `ns` `None` is all namespaces.
    pub fn list(&self, _ns: Option<&str>) -> Result<Vec<Arc<K>>, Error> {
        todo!()
    }
    pub fn list_selected(
        &self,
        _ns: Option<&str>,
        _labels: &crate::api::selector::Labels,
    ) -> Result<Vec<Arc<K>>, Error> {
        todo!()
    }
    /// Current objects as `Added`, then changes.
    pub async fn watch(&self, _ns: Option<&str>) -> Result<TypedStream<K>, Error> {
        todo!()
    }
    pub async fn create(&self, _ns: &str, _object: &K) -> Result<Arc<K>, Error> {
        todo!()
    }
    /// Optimistic: `metadata.resourceVersion` of `object` must be current.
    pub async fn update(&self, _ns: &str, _object: &K) -> Result<Arc<K>, Error> {
        todo!()
    }
    pub async fn update_status(&self, _ns: &str, _object: &K) -> Result<Arc<K>, Error> {
        todo!()
    }
    pub async fn patch(
        &self,
        _ns: &str,
        _name: &str,
        _subresource: Option<&str>,
        _patch: Patch,
    ) -> Result<Arc<K>, Error> {
        todo!()
    }
    pub async fn delete(
        &self,
        _ns: &str,
        _name: &str,
        _options: &DeleteOptions,
    ) -> Result<(), Error> {
        todo!()
    }
}
