//! What can go wrong with a read or a write; nothing here knows HTTP.

use std::path::PathBuf;

use super::key::{ObjectKey, Revision};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` already exists")]
    AlreadyExists(ObjectKey),
    #[error("`{0}` does not exist")]
    NotFound(ObjectKey),
    /// The precondition failed; `current` is the revision that is there now.
    #[error("`{key}` is at another revision ({current})")]
    Conflict { key: ObjectKey, current: Revision },
    /// The revision asked for has been compacted (or lies in the future of this store's past).
    #[error("revision {requested} is not kept; the oldest is {oldest}")]
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
    /// The disk refused; nothing of the write has happened.
    #[error("commit to disk")]
    Commit(#[source] Box<dyn std::error::Error + Send + Sync>),
}
