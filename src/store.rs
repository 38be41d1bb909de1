//! The store: every object of the cluster, its order of changes, and who wants to hear of them.
//!
//! Everything current lives in memory and is the truth while the server runs; SQLite is the log
//! that a restart reads. Reads never touch the disk and never wait for a writer. Writes go through
//! one task that commits whatever is waiting in one transaction (`writer.rs`); answered means on
//! disk.
//!
//! Structure: reads of the present load one immutable snapshot of persistent maps (`state.rs`,
//! `tree.rs`); watches and reads of the past use the log of kept changes (`history.rs`). Both were
//! chosen over locked maps and per-watcher queues for one reason: a list of 50,000 objects or a
//! thousand watchers must cost the writer nothing.
//!
//! Invariants:
//! - **Revisions** are one total order over all resources, one per change, rising, never reused:
//!   not after a failed commit, compaction, a crash, and not for volatile resources either.
//! - **A read at a revision** shows exactly the changes up to it; whoever has seen revision R, by a
//!   write's answer or a watch, finds it in every later read.
//! - **A watch** is the history filtered: no gap, no repeat, or an end with `Compacted`.
//! - **An error changes nothing**, in memory or on disk, except that revisions may be skipped.
//!
//! Deliberately absent: clocks, random numbers, kinds, selectors (`registry` filters), any
//! knowledge of an object beyond `metadata.resourceVersion`, and a second backend behind a trait.

mod batch;
mod checkpoint;
mod error;
mod history;
mod key;
mod list;
mod load;
mod lock;
mod object;
mod sqlite;
mod state;
mod tree;
mod watch;
mod writer;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::tasks::TaskGroup;
use batch::{DraftOp, Write};
use checkpoint::{Checkpointer, Pressure};
use history::{History, Log, Window};
use lock::Lock;
use object::Draft;
use sqlite::Database;
use state::Snapshot;
use writer::Writer;

pub use error::Error;
pub use key::{ObjectKey, Revision};
pub use list::Scan;
pub use object::Stored;
pub use watch::Watch;

/// Writes that may wait for the writer; more wait for a place in the queue.
const QUEUE: usize = 1024;

/// The bound on the encoded size of all kept changes of a class, beside `Config::history`.
const HISTORY_WEIGHT: usize = 64 << 20;

pub struct Config {
    /// The SQLite file; its directory must exist.
    pub path: PathBuf,
    /// Resources whose objects live in memory only (leases): they take part in the order of
    /// revisions and in watches, and are gone after a restart.
    pub volatile: Vec<String>,
    /// How many changes are kept for watches and for lists at an old revision: of durable
    /// resources, and as many again of volatile ones.
    pub history: usize,
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

impl ChangeKind {
    fn code(self) -> i64 {
        match self {
            Self::Created => 0,
            Self::Updated => 1,
            Self::Deleted => 2,
        }
    }

    fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Self::Created),
            1 => Some(Self::Updated),
            2 => Some(Self::Deleted),
            _ => None,
        }
    }
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

/// The handle; cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writes: mpsc::Sender<Write>,
}

/// What handles and writer share.
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    history: Arc<History>,
    volatile: HashSet<String>,
}

impl Shared {
    fn is_volatile(&self, resource: &str) -> bool {
        self.volatile.contains(resource)
    }

    fn log(&self, resource: &str) -> Arc<Log> {
        self.history.log(resource, self.is_volatile(resource))
    }
}

impl Store {
    /// Opens or creates the store and starts its writer in `tasks`. The writer ends, and the lock
    /// on the file with it, when `tasks` is cancelled or the last handle is dropped.
    pub async fn open(config: Config, tasks: &TaskGroup) -> Result<Self, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Open {
            path: config.path.clone(),
            source,
        };
        let lock = Arc::new(Lock::acquire(&config.path).await?);
        let mut database = Database::open(&config.path)
            .await
            .map_err(|error| failed(error.into()))?;
        let volatile: HashSet<String> = config.volatile.into_iter().collect();
        let loaded = load::load(&mut database.connection, &volatile)
            .await
            .map_err(|error| failed(error.into()))?;
        let pressure = Arc::new(Pressure::default());
        let checkpointer =
            Checkpointer::open(&config.path, Arc::clone(&pressure), Arc::clone(&lock))
                .await
                .map_err(|error| failed(error.into()))?;

        let revision = loaded.snapshot.revision;
        let shared = Arc::new(Shared {
            history: Arc::new(History::new(revision, loaded.compacted)),
            snapshot: ArcSwap::from_pointee(loaded.snapshot),
            volatile,
        });
        let mut durable = Window::new(config.history, HISTORY_WEIGHT);
        let mut doomed = VecDeque::new();
        for change in loaded.changes {
            let log = shared.log(&change.object.key.resource);
            doomed.extend(durable.push(&log, &change));
            log.append(change);
        }
        durable.trim();

        let (writes, queue) = mpsc::channel(QUEUE);
        let done = CancellationToken::new();
        let writer = Writer {
            shared: Arc::clone(&shared),
            database,
            queue,
            reserved: loaded.reserved,
            durable,
            volatile: Window::new(config.history, HISTORY_WEIGHT),
            doomed,
            pressure,
            tasks: tasks.clone(),
            done: done.clone(),
            lock,
        };
        tasks.spawn("store-writer", writer.run());
        tasks.spawn("store-checkpoint", checkpointer.run(done));
        Ok(Self { shared, writes })
    }

    /// The revision of the last published change.
    pub fn revision(&self) -> Revision {
        self.shared.snapshot.load().revision
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        self.shared.snapshot.load().get(key).cloned()
    }

    pub fn list(&self, query: &ListQuery) -> Result<Listing, Error> {
        let scan = self.scan(query)?;
        Ok(Listing {
            revision: scan.revision(),
            items: scan.collect(),
        })
    }

    /// The same as `list`, one object at a time: for a page of a long list, or a search.
    pub fn scan(&self, query: &ListQuery) -> Result<Scan, Error> {
        let snapshot = self.shared.snapshot.load_full();
        Scan::new(&snapshot, &self.shared.log(&query.resource), query)
    }

    /// How many objects of a resource there are (all namespaces).
    pub fn count(&self, resource: &str) -> usize {
        let snapshot = self.shared.snapshot.load();
        snapshot.tree(resource).map_or(0, tree::Tree::len)
    }

    /// All or nothing; returns one version per op (for a deletion: the last version, carrying the
    /// deletion's revision). Returned means durable. If the future is dropped before it returns,
    /// the write may still happen.
    pub async fn commit(&self, ops: Vec<Op>) -> Result<Vec<Arc<Stored>>, Error> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        let ops = ops.into_iter().map(|op| self.draft(op)).collect();
        let (answer, answered) = oneshot::channel();
        self.writes
            .send(Write { ops, answer })
            .await
            .map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    pub async fn create(&self, key: ObjectKey, object: Value) -> Result<Arc<Stored>, Error> {
        self.commit_one(Op::Create { key, object }).await
    }

    pub async fn update(
        &self,
        key: ObjectKey,
        expected: Option<Revision>,
        object: Value,
    ) -> Result<Arc<Stored>, Error> {
        self.commit_one(Op::Update {
            key,
            expected,
            object,
        })
        .await
    }

    pub async fn delete(
        &self,
        key: ObjectKey,
        expected: Option<Revision>,
    ) -> Result<Arc<Stored>, Error> {
        self.commit_one(Op::Delete { key, expected }).await
    }

    /// Changes after `since` of one resource, in one namespace or all (`None`).
    pub fn watch(
        &self,
        resource: &str,
        namespace: Option<&str>,
        since: Revision,
    ) -> Result<Watch, Error> {
        let history = Arc::clone(&self.shared.history);
        Watch::new(history, self.shared.log(resource), namespace, since)
    }

    async fn commit_one(&self, op: Op) -> Result<Arc<Stored>, Error> {
        let mut stored = self.commit(vec![op]).await?;
        stored.pop().ok_or(Error::Closed)
    }

    /// Encodes in the caller's task what goes to disk.
    fn draft(&self, op: Op) -> DraftOp {
        let draft =
            |key: &ObjectKey, object| Draft::new(object, !self.shared.is_volatile(&key.resource));
        match op {
            Op::Create { key, object } => DraftOp::Create {
                draft: draft(&key, object),
                key,
            },
            Op::Update {
                key,
                expected,
                object,
            } => DraftOp::Update {
                draft: draft(&key, object),
                key,
                expected,
            },
            Op::Delete { key, expected } => DraftOp::Delete { key, expected },
        }
    }
}
