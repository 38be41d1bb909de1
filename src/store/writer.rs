//! The one writer: group commit.
//!
//! While a transaction is on its way to the disk, writes queue up; the next transaction takes them
//! all. So one write alone pays one disk flush, a hundred at once share it, and nobody tunes
//! anything. The order of a batch is fixed: plan against memory, make durable, append to the
//! history, publish the snapshot, answer, wake the watchers.
//!
//! Invariants:
//! - Revisions rise by one per change in the order of publication. `allocated` never falls: the
//!   revisions of a batch that the disk refused are not given out again.
//! - No revision above the durable mark `reserved` is ever published. A durable change proves its
//!   own revision, but a lease renewal leaves nothing on disk; so the mark is raised [`RESERVED`]
//!   ahead, in the transaction of the batch that needs it, and the next start begins at the mark.
//! - The disk refusing (no space left) costs the writes of that batch and nothing else. The disk
//!   *forgetting* (a failed flush) ends the writer: after it the page cache is no witness, and only
//!   a restart reads what is really there.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Write};
use super::checkpoint::{Pressure, checkpoint};
use super::history::{Log, Window};
use super::key::Revision;
use super::lock::Lock;
use super::sqlite::{Database, Transaction};
use super::state::Snapshot;
use super::{Change, Error, Shared};
use crate::errors;
use crate::tasks::TaskGroup;

/// The most writes of one batch: bounds the latency of the first of them.
const BATCH: usize = 512;

/// How far ahead revisions are reserved: at most so many are skipped by a crash.
const RESERVED: u64 = 8192;

/// Old changes are deleted from disk in steps of this size, along with some batch.
const COMPACTION_MIN: usize = 256;
const COMPACTION_MAX: usize = 2048;

/// Pages that a commit writes besides its rows: the estimate behind the checkpoint interval.
const COMMIT_OVERHEAD: u64 = 12 << 10;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) database: Database,
    pub(super) queue: mpsc::Receiver<Write>,
    /// The last revision given out.
    pub(super) allocated: Revision,
    pub(super) reserved: Revision,
    pub(super) durable: Window,
    pub(super) volatile: Window,
    /// Revisions whose changes are to be deleted from disk.
    pub(super) doomed: VecDeque<Revision>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) tasks: TaskGroup,
    /// Ends the checkpointer.
    pub(super) done: CancellationToken,
    pub(super) lock: Arc<Lock>,
}

impl Writer {
    /// Runs until every handle is dropped or the task group is cancelled; then finishes what is
    /// queued.
    pub(super) async fn run(mut self) {
        let cancelled = self.tasks.cancelled();
        let mut closing = false;
        loop {
            let mut writes = Vec::with_capacity(BATCH);
            tokio::select! {
                biased;
                () = cancelled.cancelled(), if !closing => {
                    closing = true;
                    self.queue.close();
                    continue;
                }
                taken = self.queue.recv_many(&mut writes, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                }
            }
            if !self.write(writes).await {
                self.tasks.cancel();
                break;
            }
        }
        self.finish().await;
    }

    /// One batch. False if the writer must not go on.
    async fn write(&mut self, writes: Vec<Write>) -> bool {
        let base = self.shared.snapshot.load_full();
        let batch = Batch::plan(&base, self.allocated, writes, &self.shared);
        drop(base);
        if !batch.changes.is_empty() {
            self.allocated = batch.last();
            if let Err(error) = self.persist(&batch.changes).await {
                let error = Arc::new(error);
                tracing::error!(error = %errors::chain(&error), "commit refused by the disk");
                batch.fail(|| Error::Commit(Box::new(Arc::clone(&error))));
                return !is_fatal(&error);
            }
        }
        let (next, changes, answers) = batch.into_parts();
        let touched = if changes.is_empty() {
            Vec::new()
        } else {
            self.publish(next, changes)
        };
        Batch::answer(answers);
        for log in touched {
            log.wake();
        }
        if self.pressure.is_forced()
            && let Err(error) = checkpoint(&mut self.database.connection, &self.pressure).await
        {
            tracing::warn!(error = %errors::chain(&error), "checkpoint by the writer");
        }
        true
    }

    async fn persist(&mut self, changes: &[Change]) -> Result<(), sqlx::Error> {
        let durable = |change: &&Change| !self.shared.is_volatile(&change.object.key.resource);
        let durable: Vec<Change> = changes.iter().filter(durable).cloned().collect();
        let reserve =
            (self.allocated > self.reserved).then_some(Revision(self.allocated.0 + RESERVED));
        if durable.is_empty() && reserve.is_none() {
            return Ok(());
        }
        let due = self.doomed.len().min(COMPACTION_MAX);
        let compact = (due >= COMPACTION_MIN).then(|| self.doomed[due - 1]);
        self.database
            .commit(&Transaction {
                changes: &durable,
                reserve,
                compact,
            })
            .await?;
        self.reserved = reserve.unwrap_or(self.reserved);
        if compact.is_some() {
            self.doomed.drain(..due);
        }
        let rows: usize = durable
            .iter()
            .map(|change| 2 * change.object.weight())
            .sum();
        self.pressure.add(rows as u64 + COMMIT_OVERHEAD);
        Ok(())
    }

    /// Makes a durable batch visible. Returns the logs whose watchers are to be woken.
    fn publish(&mut self, next: Snapshot, changes: Vec<Change>) -> Vec<Arc<Log>> {
        let mut touched: Vec<(Arc<str>, Arc<Log>)> = Vec::new();
        for change in changes {
            let resource = &change.object.key.resource;
            let log = match touched.iter().find(|(name, _)| name == resource) {
                Some((_, log)) => Arc::clone(log),
                None => {
                    let log = self.shared.log(resource);
                    touched.push((Arc::clone(resource), Arc::clone(&log)));
                    log
                }
            };
            if self.shared.is_volatile(resource) {
                self.volatile.push(&log, &change);
            } else {
                self.doomed.extend(self.durable.push(&log, &change));
            }
            log.append(change);
        }
        let revision = next.revision;
        self.shared.snapshot.store(Arc::new(next));
        self.shared.history.publish(revision);
        self.durable.trim();
        self.volatile.trim();
        touched.into_iter().map(|(_, log)| log).collect()
    }

    async fn finish(mut self) {
        self.queue.close();
        // The exact mark, so that a restart in good order skips no revisions.
        let mark = Transaction {
            changes: &[],
            reserve: Some(self.allocated),
            compact: None,
        };
        if let Err(error) = self.database.commit(&mark).await {
            tracing::warn!(error = %errors::chain(&error), "write the last revision; the next start skips some");
        }
        self.shared.history.close();
        self.done.cancel();
        if let Err(error) = self.database.close().await {
            tracing::warn!(error = %errors::chain(&error), "close the store");
        }
        drop(self.lock);
    }
}

/// Whether an error leaves it unknown what is on the disk.
fn is_fatal(error: &sqlx::Error) -> bool {
    /// `SQLITE_IOERR_FSYNC`, `SQLITE_IOERR_DIR_FSYNC`, `SQLITE_CORRUPT`, `SQLITE_NOTADB`.
    const FATAL: [&str; 4] = ["1034", "1290", "11", "26"];
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| FATAL.contains(&&*code)),
        sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}
