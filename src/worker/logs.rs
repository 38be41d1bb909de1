//! Logs of containers: one file per incarnation, in the line format of CRI
//! (`<time> stdout|stderr F|P <text>`), under `<data>/logs/<ns>_<pod>_<uid>/<container>/`.
//!
//! Bounded everywhere: a file rotates once (10 MiB and 10 MiB before it), the incarnation before the
//! current one is kept and older ones are not, a line is split at 16 KiB, output above the
//! log rate is dropped and counted, and a guest whose lines the disk does not take waits. Files are
//! written and removed by one thread and read by tokio's blocking ones, so that nobody else waits for the
//! disk; a reader sees all that was written before it came. Readers that follow are woken by the
//! writer; nothing polls.

mod file;
mod format;
mod past;
mod reader;
mod writer;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use file::{ContainerLog, Limits};
pub use reader::{Query, Reader};

use self::writer::Writer;
use crate::clock::Clock;

/// Whose log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogId {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub container: String,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the worker ends")]
    Ending,
    #[error("read log {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// All logs of a worker.
pub struct Logs {
    root: PathBuf,
    clock: Clock,
    limits: Limits,
    writer: Writer,
    current: Mutex<HashMap<LogId, Arc<ContainerLog>>>,
}

impl Logs {
    /// Starts the thread that writes.
    pub fn new(root: PathBuf, limits: Limits, clock: Clock) -> std::io::Result<Self> {
        Ok(Self {
            root,
            clock,
            limits,
            writer: Writer::start()?,
            current: Mutex::default(),
        })
    }

    /// The sink of a container's next incarnation. Files appear with the first line.
    pub fn open(&self, id: &LogId, incarnation: u32) -> Arc<ContainerLog> {
        let directory = self.directory(id);
        let log = ContainerLog::new(
            directory.join(format!("{incarnation}.log")),
            self.limits,
            self.clock.clone(),
            self.writer.clone(),
        );
        self.lock().insert(id.clone(), Arc::clone(&log));
        // The one before stays for `--previous`; what is older goes.
        self.writer.tidy(move || {
            for old in incarnations(&directory) {
                if old + 1 < incarnation {
                    let _ = std::fs::remove_file(directory.join(format!("{old}.log")));
                    let _ = std::fs::remove_file(directory.join(format!("{old}.log.1")));
                }
            }
        });
        log
    }

    /// A reader of one incarnation, empty if that wrote nothing. Only the current one can be followed.
    pub async fn read(&self, id: &LogId, incarnation: u32, query: &Query) -> Reader {
        self.flush().await;
        let current = self.lock().get(id).cloned();
        let current = current.filter(|log| number_of(log.path()) == Some(incarnation));
        let path = self.directory(id).join(format!("{incarnation}.log"));
        let changes = current.map(|log| log.changes());
        Reader::new(path, changes, query, &self.clock)
    }

    /// Resolves when the files have all that was written before.
    pub async fn flush(&self) {
        self.writer.reached().wait().await;
    }

    /// Removes everything of a pod.
    pub fn remove_pod(&self, namespace: &str, pod: &str, uid: &str) {
        self.lock().retain(|id, _| id.uid != uid);
        let directory = self.root.join(format!("{namespace}_{pod}_{uid}"));
        self.writer.tidy(move || {
            if let Err(error) = std::fs::remove_dir_all(&directory)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %directory.display(), %error, "remove logs");
            }
        });
    }

    /// Removes the logs of pods that are not among `uids`.
    pub fn retain_pods(&self, uids: HashSet<String>) {
        let root = self.root.clone();
        self.writer.tidy(move || {
            let Ok(entries) = std::fs::read_dir(&root) else {
                return;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let uid = name.to_str().and_then(|name| name.rsplit('_').next());
                if uid.is_some_and(|uid| !uids.contains(uid)) {
                    let _ = std::fs::remove_dir_all(entry.path());
                }
            }
        });
    }

    fn directory(&self, id: &LogId) -> PathBuf {
        self.root
            .join(format!("{}_{}_{}", id.namespace, id.pod, id.uid))
            .join(&id.container)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LogId, Arc<ContainerLog>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number_of(path: &Path) -> Option<u32> {
    path.file_name()?
        .to_str()?
        .strip_suffix(".log")?
        .parse()
        .ok()
}

/// The incarnations that have a file.
fn incarnations(directory: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter_map(|path| number_of(&path)).collect()
}

#[cfg(test)]
mod tests;
