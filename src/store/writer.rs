//! The one writer: group commit.
//!
//! While a transaction is on its way to the disk, writes queue up; the next transaction takes them
//! all. So one write alone pays one disk flush, a hundred at once share it, and nobody tunes
//! anything. The order of a batch is fixed: plan against memory, make durable, append to the
//! history, publish the snapshot, answer, wake the watchers.
//!
//! Writes to volatile resources (leases) go first and on their own: they must not fail because the
//! disk is full.
//!
//! Invariants:
//! - Revisions rise by one per change in the order of publication. A batch that the disk refused is
//!   rolled back and was seen by nobody; its revisions are as if they had never been.
//! - No revision above the durable mark `reserved` is ever published. A durable change proves its
//!   own revision, but a lease renewal leaves nothing on disk; so the mark is kept between half of
//!   [`RESERVED`] and all of it ahead, and the next start begins at the mark. The half is what
//!   leases can live on while the disk refuses.
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

/// The most writes of one batch, and the encoded size after which no more are taken: they bound
/// the latency of the first write and the memory of the transaction.
const BATCH: usize = 512;
const BATCH_WEIGHT: usize = 8 << 20;

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
    /// The durable mark: no higher revision is published.
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
            let first = tokio::select! {
                biased;
                () = cancelled.cancelled(), if !closing => {
                    closing = true;
                    self.queue.close();
                    continue;
                }
                first = self.queue.recv() => first,
            };
            let Some(first) = first else { break };
            if !self.write_group(first).await {
                self.tasks.cancel();
                break;
            }
        }
        self.finish().await;
    }

    /// Writes `first` and what else is waiting. False if the writer must not go on.
    async fn write_group(&mut self, first: Write) -> bool {
        let mut weight = first.weight();
        let mut waiting = vec![first];
        while waiting.len() < BATCH
            && weight < BATCH_WEIGHT
            && let Ok(next) = self.queue.try_recv()
        {
            weight += next.weight();
            waiting.push(next);
        }
        let (volatile, durable): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|write| write.is_volatile(&self.shared));
        self.write(volatile).await && self.write(durable).await
    }

    /// One batch. False if the writer must not go on.
    async fn write(&mut self, writes: Vec<Write>) -> bool {
        if writes.is_empty() {
            return true;
        }
        let base = self.shared.snapshot.load_full();
        let batch = Batch::plan(&base, writes, &self.shared);
        drop(base);
        if let Err(error) = self.persist(&batch).await {
            let error = Arc::new(error);
            tracing::error!(error = %errors::chain(&error), "the disk refuses a commit");
            batch.fail(|| Error::Commit(Box::new(Arc::clone(&error))));
            return !is_fatal(&error);
        }
        let (next, changes, answers) = batch.into_parts();
        let touched = self.publish(next, changes);
        answers.send();
        for log in touched {
            log.wake();
        }
        self.relieve().await;
        true
    }

    /// Makes a batch durable, as far as it needs to be.
    async fn persist(&mut self, batch: &Batch) -> Result<(), sqlx::Error> {
        let durable = |change: &&Change| !self.shared.is_volatile(&change.object.key.resource);
        let changes: Vec<Change> = batch.changes.iter().filter(durable).cloned().collect();
        let last = batch.last();
        let reserve = (last.0 + RESERVED / 2 > self.reserved.0 && !batch.changes.is_empty())
            .then_some(Revision(last.0 + RESERVED));
        if changes.is_empty() && reserve.is_none() {
            return Ok(());
        }
        let due = self.doomed.len().min(COMPACTION_MAX);
        let compact = (due >= COMPACTION_MIN).then(|| self.doomed[due - 1]);
        let transaction = Transaction {
            changes: &changes,
            reserve,
            compact,
        };
        if let Err(error) = self.database.commit(&transaction).await {
            let can_do_without = changes.is_empty() && last <= self.reserved && !is_fatal(&error);
            return if can_do_without { Ok(()) } else { Err(error) };
        }
        self.reserved = reserve.unwrap_or(self.reserved);
        if compact.is_some() {
            self.doomed.drain(..due);
        }
        let rows = changes.iter().map(|change| 2 * change.object.weight());
        self.pressure
            .add(rows.sum::<usize>() as u64 + COMMIT_OVERHEAD);
        Ok(())
    }

    /// Makes a durable batch visible. Returns the logs whose watchers are to be woken.
    fn publish(&mut self, next: Snapshot, changes: Vec<Change>) -> Vec<Arc<Log>> {
        let mut touched: Vec<(Arc<str>, Arc<Log>)> = Vec::new();
        for change in changes {
            let resource = &change.object.key.resource;
            let known = touched.iter().find(|(name, _)| name == resource);
            let log = known.map_or_else(|| self.shared.log(resource), |(_, log)| Arc::clone(log));
            if known.is_none() {
                touched.push((Arc::clone(resource), Arc::clone(&log)));
            }
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

    /// Helps the checkpointer when the log does not end by itself.
    async fn relieve(&mut self) {
        if self.pressure.is_forced()
            && let Err(error) = checkpoint(&mut self.database.connection, &self.pressure).await
        {
            tracing::warn!(error = %errors::chain(&error), "checkpoint by the writer");
        }
    }

    async fn finish(mut self) {
        self.queue.close();
        // The exact mark, so that a restart in good order skips no revisions.
        let mark = Transaction {
            changes: &[],
            reserve: Some(self.shared.snapshot.load().revision),
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
