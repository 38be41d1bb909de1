//! Moving the write-ahead log into the database, beside the writer instead of inside it.
//!
//! SQLite's automatic checkpoint runs in the commit that fills the log's thousandth page, and that
//! write waits tens of milliseconds. Here a second connection, with its own thread, checkpoints in
//! the PASSIVE mode, which waits for nobody and holds up nobody, each time some megabytes have been
//! written. The log starts anew at its first page when a write finds all of it moved. Under a load
//! without a pause that moment would never come, so past [`FORCED_FRAMES`] the writer itself
//! moves the little that is left: one slow batch in some ten thousand instead of a log without end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lock::Lock;
use super::sqlite::connect;
use crate::errors;

/// How much is written between two checkpoints, by the writer's estimate. The writes that meet a
/// checkpoint at the disk wait for it (2–6 ms measured), so it comes about once in a thousand
/// commits, which keeps it out of the 99th percentile; a start reads a log of this size in
/// hundredths of a second.
const INTERVAL: u64 = 16 << 20;

/// 64 MiB of pages of 4 KiB.
const FORCED_FRAMES: u64 = 16 << 10;

/// What writer and checkpointer tell each other.
#[derive(Default)]
pub(super) struct Pressure {
    written: AtomicU64,
    frames: AtomicU64,
    due: Notify,
}

impl Pressure {
    /// The writer has committed about so many bytes.
    pub(super) fn add(&self, bytes: u64) {
        if self.written.fetch_add(bytes, Ordering::Relaxed) + bytes >= INTERVAL {
            self.written.store(0, Ordering::Relaxed);
            self.due.notify_one();
        }
    }

    /// Whether the writer must help, because the log does not come to its end by itself.
    pub(super) fn is_forced(&self) -> bool {
        self.frames.load(Ordering::Relaxed) > FORCED_FRAMES
    }

    fn measured(&self, frames: u64) {
        self.frames.store(frames, Ordering::Relaxed);
    }
}

pub(super) struct Checkpointer {
    connection: SqliteConnection,
    pressure: Arc<Pressure>,
    /// Freed when both connections are closed.
    _lock: Arc<Lock>,
}

impl Checkpointer {
    pub(super) async fn open(
        path: &Path,
        pressure: Arc<Pressure>,
        lock: Arc<Lock>,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self {
            connection: connect(path).await?,
            pressure,
            _lock: lock,
        })
    }

    /// Runs until the writer is done.
    pub(super) async fn run(mut self, done: CancellationToken) {
        loop {
            tokio::select! {
                () = self.pressure.due.notified() => {}
                () = done.cancelled() => break,
            }
            if let Err(error) = checkpoint(&mut self.connection, &self.pressure).await {
                tracing::warn!(error = %errors::chain(&error), "checkpoint; the log grows until the next");
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(error = %errors::chain(&error), "close the checkpoint connection");
        }
    }
}

/// Moves what can be moved without waiting.
pub(super) async fn checkpoint(
    connection: &mut SqliteConnection,
    pressure: &Pressure,
) -> Result<(), sqlx::Error> {
    let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_one(connection)
        .await?;
    let (frames, moved): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    let is_complete = frames == moved;
    pressure.measured(if is_complete { 0 } else { frames.max(0) as u64 });
    Ok(())
}
