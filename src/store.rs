//! The store: every object of the cluster, its order of changes, and who wants to hear of them.
//!
//! (CONTRACT — the signatures below are what the other rooms compile against; the room is being built.)

use std::any::Any;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::tasks::TaskGroup;

/// A point in the one total order of changes; never reused, also after compaction and restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// Where an object lives. `resource` is the plural with its group, `pods` or `deployments.apps`;
/// `namespace` is empty for cluster-scoped objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub resource: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// One version of one object; immutable and shared by everyone who looks at it.
/// `metadata.resourceVersion` of `object` is the revision: the store writes it.
pub struct Stored {
    pub key: ObjectKey,
    pub revision: Revision,
    pub object: Value,
    json: OnceLock<Bytes>,
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Stored {
    /// The encoded object, made once and shared by all readers and watchers.
    pub fn json(&self) -> &Bytes {
        let _ = &self.json;
        todo!()
    }
    /// The object as `T`, decoded once per version and shared. A version is asked for one `T` only
    /// (the kind's type); another `T` is decoded afresh.
    pub fn typed<T: serde::de::DeserializeOwned + Send + Sync + 'static>(
        &self,
    ) -> Result<Arc<T>, serde_json::Error> {
        let _ = &self.typed;
        todo!()
    }
}

/// A write. `expected: None` writes whatever is there now (but update and delete need something to be there).
pub enum Op {
    Create {
        key: ObjectKey,
        object: Value,
    },
    Update {
        key: ObjectKey,
        expected: Option<Revision>,
        object: Value,
    },
    Delete {
        key: ObjectKey,
        expected: Option<Revision>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0:?}` already exists")]
    AlreadyExists(ObjectKey),
    #[error("`{0:?}` does not exist")]
    NotFound(ObjectKey),
    /// The precondition failed; the revision that is there now.
    #[error("`{key:?}` is at another revision")]
    Conflict { key: ObjectKey, current: Revision },
    /// The revision asked for has been compacted (or lies in the future of this store's past).
    #[error("revision {requested:?} is compacted; the oldest is {oldest:?}")]
    Compacted {
        requested: Revision,
        oldest: Revision,
    },
    #[error("the store is closed")]
    Closed,
    #[error("open the store at `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("another server (pid {pid}) holds `{path}`")]
    Locked { path: PathBuf, pid: u32 },
    #[error("commit")]
    Commit(#[source] Box<dyn std::error::Error + Send + Sync>),
}

pub struct Config {
    /// The SQLite file; its directory must exist.
    pub path: PathBuf,
    /// Resources whose objects live in memory only (leases): they take part in the order of
    /// revisions and in watches, and are gone after a restart.
    pub volatile: Vec<String>,
    /// How many changes are kept for watches and for lists at an old revision.
    pub history: usize,
}

/// A list request. Objects come ordered by namespace, then name.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    pub resource: String,
    /// `None` is all namespaces.
    pub namespace: Option<String>,
    /// Go on after this (namespace, name).
    pub start_after: Option<(String, String)>,
    /// `None` is now; an older revision is reconstructed from the kept changes, or `Compacted`.
    pub at: Option<Revision>,
}

pub struct Listing {
    /// The revision that the items are a snapshot of.
    pub revision: Revision,
    pub items: Vec<Arc<Stored>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Updated,
    Deleted,
}

/// One change. `object` is the new version; for a deletion it is the last version, carrying the
/// deletion's revision. `previous` is the version before (`None` for a creation).
#[derive(Clone)]
pub struct Change {
    pub revision: Revision,
    pub kind: ChangeKind,
    pub object: Arc<Stored>,
    pub previous: Option<Arc<Stored>>,
}

/// A subscription: `next` gives changes in order, then waits; ends with `Err(Compacted)` when the
/// reader is too slow, with `None` when the store closes.
pub struct Watch {
    _private: (),
}

impl Watch {
    pub async fn next(&mut self) -> Option<Result<Change, Error>> {
        todo!()
    }
    /// A revision R such that every matching change up to R has been returned by `next` already
    /// (for bookmarks).
    pub fn progress(&self) -> Revision {
        todo!()
    }
}

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Store {
    _private: (),
}

impl Store {
    pub async fn open(_config: Config, _tasks: &TaskGroup) -> Result<Self, Error> {
        todo!()
    }
    pub fn revision(&self) -> Revision {
        todo!()
    }
    pub fn get(&self, _key: &ObjectKey) -> Option<Arc<Stored>> {
        todo!()
    }
    pub fn list(&self, _query: &ListQuery) -> Result<Listing, Error> {
        todo!()
    }
    /// How many objects of a resource there are (all namespaces).
    pub fn count(&self, _resource: &str) -> usize {
        todo!()
    }
    /// All or nothing; returns one version per op (for a deletion: the last version, carrying the
    /// deletion's revision). Returned means durable.
    pub async fn commit(&self, _ops: Vec<Op>) -> Result<Vec<Arc<Stored>>, Error> {
        todo!()
    }
    pub async fn create(&self, _key: ObjectKey, _object: Value) -> Result<Arc<Stored>, Error> {
        todo!()
    }
    pub async fn update(
        &self,
        _key: ObjectKey,
        _expected: Option<Revision>,
        _object: Value,
    ) -> Result<Arc<Stored>, Error> {
        todo!()
    }
    pub async fn delete(
        &self,
        _key: ObjectKey,
        _expected: Option<Revision>,
    ) -> Result<Arc<Stored>, Error> {
        todo!()
    }
    /// Changes after `since` of one resource, in one namespace or all (`None`).
    pub fn watch(
        &self,
        _resource: &str,
        _namespace: Option<&str>,
        _since: Revision,
    ) -> Result<Watch, Error> {
        todo!()
    }
}
