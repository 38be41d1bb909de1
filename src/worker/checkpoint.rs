//! What a worker knows about its pods that must outlive its process: one small JSON file per pod
//! uid with its address, its counts of starts and its last endings.
//!
//! Written to a temporary file and renamed, so that a reader sees the old or the new one. There is
//! no fsync: a checkpoint guards against the death of the process, not of the machine, after which
//! the counts in the API are enough. An unreadable file is reported and ignored; the API's status
//! then serves in its place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::lifecycle::Saved;
use crate::errors::chain;
use crate::tasks::TaskGroup;

/// One pod's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub ip: Option<IpAddr>,
    pub saved: Saved,
}

/// Why checkpoints cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read checkpoints in {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Reads every checkpoint.
pub fn load(directory: &Path) -> Result<HashMap<String, Checkpoint>, Error> {
    let failed = |source| Error::Read {
        path: directory.to_owned(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut checkpoints = HashMap::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(failed)?;
        match serde_json::from_slice::<Checkpoint>(&bytes) {
            Ok(checkpoint) => {
                checkpoints.insert(checkpoint.uid.clone(), checkpoint);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %chain(&error), "ignoring an unreadable checkpoint");
            }
        }
    }
    Ok(checkpoints)
}

/// Writes checkpoints behind the pods' backs; only the latest of each pod is written.
#[derive(Clone)]
pub struct Writer(Arc<Queue>);

struct Queue {
    directory: PathBuf,
    /// `None` removes the file.
    pending: Mutex<HashMap<String, Option<Checkpoint>>>,
    added: Notify,
    flushing: Mutex<()>,
}

impl Writer {
    /// Starts the task that writes.
    pub fn start(directory: PathBuf, tasks: &TaskGroup) -> Self {
        let queue = Arc::new(Queue {
            directory,
            pending: Mutex::default(),
            added: Notify::new(),
            flushing: Mutex::default(),
        });
        let writer = Self(Arc::clone(&queue));
        let cancelled = tasks.cancelled();
        tasks.spawn("checkpoints", async move {
            loop {
                let is_last = tokio::select! {
                    () = queue.added.notified() => false,
                    () = cancelled.cancelled() => true,
                };
                let queue = Arc::clone(&queue);
                // Its panic would be a bug in the file system calls; the next round writes again.
                let _ = tokio::task::spawn_blocking(move || queue.flush()).await;
                if is_last {
                    break;
                }
            }
        });
        writer
    }

    /// Writes soon.
    pub fn save(&self, checkpoint: Checkpoint) {
        self.put(checkpoint.uid.clone(), Some(checkpoint));
    }

    /// Removes soon.
    pub fn remove(&self, uid: &str) {
        self.put(uid.to_owned(), None);
    }

    /// Writes everything now; for the end of the process.
    pub fn flush(&self) {
        self.0.flush();
    }

    fn put(&self, uid: String, checkpoint: Option<Checkpoint>) {
        let pending = &self.0.pending;
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.insert(uid, checkpoint);
        drop(pending);
        self.0.added.notify_one();
    }
}

impl Queue {
    /// One at a time, so that the latest word of a pod is written last. What cannot be written waits for
    /// the next flush, unless there is a newer word by then.
    fn flush(&self) {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *pending)
        };
        for (uid, checkpoint) in pending {
            if let Err(error) = self.write(&uid, checkpoint.as_ref()) {
                tracing::warn!(uid, error = %chain(&error), "write checkpoint");
                let pending = &self.pending;
                let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
                pending.entry(uid).or_insert(checkpoint);
            }
        }
    }

    fn write(&self, uid: &str, checkpoint: Option<&Checkpoint>) -> std::io::Result<()> {
        let path = self.directory.join(format!("{uid}.json"));
        let Some(checkpoint) = checkpoint else {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        };
        let temporary = self.directory.join(format!("{uid}.tmp"));
        std::fs::write(&temporary, serde_json::to_vec(checkpoint)?)?;
        std::fs::rename(&temporary, &path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_latest_is_kept_and_garbage_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let writer = Writer::start(directory.path().to_owned(), &tasks);
        let checkpoint = |starts: u64| Checkpoint {
            uid: "a".into(),
            namespace: "default".into(),
            name: "pod".into(),
            ip: Some("10.64.0.2".parse().unwrap()),
            saved: Saved {
                is_finished: starts > 1,
                ..Saved::default()
            },
        };
        writer.save(checkpoint(1));
        writer.save(checkpoint(2));
        writer.save(Checkpoint {
            uid: "b".into(),
            ..checkpoint(1)
        });
        writer.remove("b");
        writer.flush();
        assert!(tasks.shutdown(std::time::Duration::from_secs(5)).await);
        std::fs::write(directory.path().join("c.json"), "{").unwrap();
        let loaded = load(directory.path()).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded["a"], checkpoint(2));
    }
}
