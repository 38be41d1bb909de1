//! The kept changes: one append-only log per resource, and the bound on them all.
//!
//! The logs are at once the backlog of new watches, the queue of running ones and the material for
//! lists at an old revision. A watch is a cursor into a log, so a thousand watchers share one copy
//! of each change, cost the writer one wake-up per resource, and a slow one holds back nothing: the
//! log is trimmed under it and it finds out when it next looks.
//!
//! A log is a row of chunks whose slots are written once, so readers inside a chunk take no lock;
//! the row itself is locked for the time of a search or a few pointer copies.
//!
//! Invariants:
//! - A change is appended before the snapshot that contains it is published, and `published` moves
//!   after both. Readers ignore what lies beyond the revision they have seen published: nobody
//!   hears of a change that a read would not show.
//! - A log's `floor` is the revision of the last change that was dropped from it: reading after
//!   any revision from the floor on misses nothing.
//! - Durable and volatile resources have windows of their own: ten thousand lease renewals must
//!   not push a Deployment's changes out.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::key::Revision;
use super::{Change, Error};

/// Also the granularity of trimming.
const CHUNK: usize = 128;

/// A chunk is closed early at this weight, so that one chunk pins no more than this.
const CHUNK_WEIGHT: usize = 1 << 20;

pub(super) struct History {
    logs: RwLock<HashMap<Arc<str>, Arc<Log>>>,
    published: AtomicU64,
    closed: AtomicBool,
    /// The floor of logs that do not exist yet.
    durable_floor: Revision,
    volatile_floor: Revision,
}

impl History {
    /// `revision` is the present; volatile resources have no past before it.
    pub(super) fn new(revision: Revision, durable_floor: Revision) -> Self {
        Self {
            logs: RwLock::default(),
            published: AtomicU64::new(revision.0),
            closed: AtomicBool::new(false),
            durable_floor,
            volatile_floor: revision,
        }
    }

    pub(super) fn log(&self, resource: &str, volatile: bool) -> Arc<Log> {
        if let Some(log) = read(&self.logs).get(resource) {
            return Arc::clone(log);
        }
        let floor = if volatile {
            self.volatile_floor
        } else {
            self.durable_floor
        };
        let mut logs = write(&self.logs);
        let log = logs
            .entry(resource.into())
            .or_insert_with(|| Arc::new(Log::new(floor)));
        Arc::clone(log)
    }

    pub(super) fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Acquire))
    }

    /// Everything up to `revision` is appended and its snapshot is in place.
    pub(super) fn publish(&self, revision: Revision) {
        self.published.store(revision.0, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for log in read(&self.logs).values() {
            log.wake();
        }
    }
}

/// The kept changes of one resource, in order.
pub(super) struct Log {
    row: RwLock<Row>,
    signal: watch::Sender<()>,
}

struct Row {
    floor: Revision,
    /// The number of the first chunk; the others follow without a gap. Never empty.
    first: u64,
    chunks: VecDeque<Arc<Chunk>>,
    tail: usize,
    tail_weight: usize,
}

pub(super) struct Chunk {
    slots: Box<[OnceLock<Change>]>,
    /// Set when the chunk is closed: how many slots are filled.
    end: OnceLock<usize>,
}

/// A place between two changes of a log.
#[derive(Clone)]
pub(super) struct Cursor {
    number: u64,
    chunk: Arc<Chunk>,
    index: usize,
}

pub(super) enum Step<'a> {
    Change(&'a Change),
    /// Nothing more is published.
    End,
    /// What comes next has been trimmed; the floor now.
    Lost(Revision),
}

impl Log {
    fn new(floor: Revision) -> Self {
        Self {
            row: RwLock::new(Row {
                floor,
                first: 0,
                chunks: VecDeque::from([Arc::new(Chunk::new())]),
                tail: 0,
                tail_weight: 0,
            }),
            signal: watch::Sender::new(()),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.signal.subscribe()
    }

    pub(super) fn wake(&self) {
        self.signal.send_replace(());
    }

    /// Called by the writer alone, in revision order.
    pub(super) fn append(&self, change: Change) {
        let mut row = write(&self.row);
        if row.tail == CHUNK || row.tail_weight > CHUNK_WEIGHT {
            let tail = row.tail;
            if let Some(last) = row.chunks.back() {
                let _ = last.end.set(tail);
            }
            row.chunks.push_back(Arc::new(Chunk::new()));
            (row.tail, row.tail_weight) = (0, 0);
        }
        row.tail_weight += change.object.weight();
        let tail = row.tail;
        if let Some(last) = row.chunks.back() {
            let _ = last.slots[tail].set(change);
        }
        row.tail += 1;
    }

    /// Drops the closed chunks that hold nothing after `revision`.
    pub(super) fn trim(&self, revision: Revision) {
        let mut dropped = Vec::new();
        let mut row = write(&self.row);
        while let Some(last) = row.chunks.front().and_then(|chunk| chunk.closed_at())
            && last <= revision
        {
            row.floor = last;
            row.first += 1;
            dropped.extend(row.chunks.pop_front());
        }
        // The objects are freed after the lock is.
        drop(row);
    }

    /// The place right after `revision`, or the floor if that place has been trimmed away.
    pub(super) fn seek(&self, revision: Revision) -> Result<Cursor, Revision> {
        let row = read(&self.row);
        if revision < row.floor {
            return Err(row.floor);
        }
        let skipped = row
            .chunks
            .partition_point(|chunk| chunk.closed_at().is_some_and(|last| last <= revision));
        let chunk = Arc::clone(&row.chunks[skipped]);
        let index = chunk
            .slots
            .partition_point(|slot| slot.get().is_some_and(|change| change.revision <= revision));
        Ok(Cursor {
            number: row.first + skipped as u64,
            chunk,
            index,
        })
    }

    /// The changes after `after`, up to `upto`.
    pub(super) fn between(&self, after: Revision, upto: Revision) -> Result<Vec<Change>, Error> {
        let compacted = |oldest| Error::Compacted {
            requested: after,
            oldest,
        };
        let mut cursor = self.seek(after).map_err(compacted)?;
        let mut changes = Vec::new();
        loop {
            match cursor.step(self, upto) {
                Step::Change(change) => changes.push(change.clone()),
                Step::End => return Ok(changes),
                Step::Lost(oldest) => return Err(compacted(oldest)),
            }
        }
    }

    /// The chunk with this number, or the floor if it has been trimmed.
    fn chunk(&self, number: u64) -> Result<Option<Arc<Chunk>>, Revision> {
        let row = read(&self.row);
        let index = number.checked_sub(row.first).ok_or(row.floor)?;
        Ok(row.chunks.get(index as usize).cloned())
    }
}

impl Chunk {
    fn new() -> Self {
        Self {
            slots: (0..CHUNK).map(|_| OnceLock::new()).collect(),
            end: OnceLock::new(),
        }
    }

    /// The last revision of a closed chunk.
    fn closed_at(&self) -> Option<Revision> {
        let last = self.end.get()?.checked_sub(1)?;
        Some(self.slots[last].get()?.revision)
    }
}

impl Cursor {
    /// Steps over the next change, if there is one up to `upto`.
    pub(super) fn step(&mut self, log: &Log, upto: Revision) -> Step<'_> {
        if self.chunk.end.get() == Some(&self.index) {
            match log.chunk(self.number + 1) {
                Ok(Some(next)) => {
                    self.number += 1;
                    self.chunk = next;
                    self.index = 0;
                }
                Ok(None) => return Step::End,
                Err(floor) => return Step::Lost(floor),
            }
        }
        match self.chunk.slots.get(self.index).and_then(OnceLock::get) {
            Some(change) if change.revision <= upto => {
                self.index += 1;
                Step::Change(change)
            }
            _ => Step::End,
        }
    }
}

/// The bound on the changes of a class of resources, by number and by weight.
pub(super) struct Window {
    limit: usize,
    weight_limit: usize,
    weight: usize,
    entries: VecDeque<(Revision, usize)>,
    logs: HashMap<Arc<str>, Arc<Log>>,
    /// The newest revision that is no longer kept.
    floor: Revision,
    trimmed: Revision,
    untrimmed: usize,
}

impl Window {
    pub(super) fn new(limit: usize, weight_limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            weight_limit,
            weight: 0,
            entries: VecDeque::new(),
            logs: HashMap::new(),
            floor: Revision(0),
            trimmed: Revision(0),
            untrimmed: 0,
        }
    }

    /// Counts a change that goes to `log`; returns the revisions that fall out.
    pub(super) fn push(&mut self, log: &Arc<Log>, change: &Change) -> Vec<Revision> {
        let resource = &change.object.key.resource;
        if !self.logs.contains_key(resource) {
            self.logs.insert(Arc::clone(resource), Arc::clone(log));
        }
        let weight = change.object.weight();
        self.weight += weight;
        self.entries.push_back((change.revision, weight));
        let mut fallen = Vec::new();
        while self.entries.len() > self.limit || self.weight > self.weight_limit {
            let Some((revision, weight)) = self.entries.pop_front() else {
                break;
            };
            self.weight -= weight;
            self.floor = revision;
            fallen.push(revision);
        }
        self.untrimmed += fallen.len();
        fallen
    }

    /// Trims the logs, when that would free a chunk's worth.
    pub(super) fn trim(&mut self) {
        if self.untrimmed < CHUNK || self.floor == self.trimmed {
            return;
        }
        for log in self.logs.values() {
            log.trim(self.floor);
        }
        self.trimmed = self.floor;
        self.untrimmed = 0;
    }
}

// A panic while one of these locks is held leaves nothing half done that matters: every change to
// a row is a push, a pop or a number.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
