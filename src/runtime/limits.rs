//! What one instance may take: memory by budget, tables, host resources by count.
//!
//! Every growth is charged to the container's budget, which charges the pod's, before wasmtime
//! allocates. A refusal is what the guest sees as a failed `memory.grow`; most programs then abort,
//! and the container's end is told as `OOMKilled` with the numbers of this refusal.
//!
//! Counted here: linear memories (also their initial size), GC heaps and tables, and what the host
//! keeps for `wasi:http` (`http::holdings`). Files and socket buffers charge the same pod budget on
//! their own side. What has no size worth counting is limited by number, per instance: host objects,
//! handles, and the bytes of one call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::ResourceLimiter;

use super::budget::{Budget, Exceeded};
use super::heap;

/// Open descriptors of a WASI 0.1 program.
pub(super) const MAX_DESCRIPTORS: u64 = 20_000;
/// Bytes a guest may hand to the host in one call. The largest that any interface takes is a write of
/// one mebibyte; more would keep the thread from others for longer than a slice.
pub(super) const MAX_HOST_CALL_BYTES: usize = 2 << 20;
/// Bytes of one set of header fields, with the bookkeeping for each.
pub(super) const MAX_FIELDS_BYTES: usize = 64 << 10;
/// Bytes of one read of `get-random-bytes`: some milliseconds.
pub(super) const MAX_RANDOM_BYTES: u64 = 4 << 20;
/// Bytes that a table element takes in the host, and once more while a growing table is copied.
const TABLE_ELEMENT_BYTES: u64 = 16;
/// Instances, memories and tables of one store: a component is many core modules.
const MAX_PER_STORE: usize = 10_000;

/// The memory account of one container, shared by all its instances.
pub(super) struct Memory {
    budget: Arc<Budget>,
    peak: AtomicU64,
    refused: Mutex<Option<Exceeded>>,
}

/// What an instance may hold by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handles {
    /// Host objects (descriptors, sockets, streams, pollables, headers), and as many handles of the
    /// component model.
    pub(super) objects: usize,
}

impl Handles {
    /// Of a program that runs long.
    pub(super) const PROCESS: Self = Self { objects: 20_000 };
    /// Of a handler's instance: there are many at once.
    pub(super) const REQUEST: Self = Self { objects: 4_000 };
}

impl Memory {
    pub(super) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            peak: AtomicU64::new(0),
            refused: Mutex::new(None),
        })
    }

    pub(super) fn used(&self) -> u64 {
        self.budget.used()
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// The last growth that was refused, if any.
    pub(super) fn refusal(&self) -> Option<Exceeded> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limits of one store; what it charged goes back when it is dropped.
pub(super) struct Limits {
    memory: Arc<Memory>,
    charged: u64,
    refused: Option<Exceeded>,
    /// What the host keeps for the guest passed the limit, so the guest has to end.
    is_over: bool,
}

/// The epoch callback ends a guest with this error when the host keeps too much for it.
#[derive(Debug, thiserror::Error)]
#[error("the host keeps more for the program than its memory limit allows")]
pub(super) struct OverLimitError;

impl Limits {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self {
            memory,
            charged: 0,
            refused: None,
            is_over: false,
        }
    }

    /// Counts `bytes` that the host keeps instead of `before`; `false` ends the guest at its next tick.
    pub(super) fn recount(&mut self, before: u64, bytes: u64) -> bool {
        let Some(less) = before.checked_sub(bytes) else {
            let fits = self.charge(bytes - before);
            self.is_over |= !fits;
            return fits;
        };
        self.memory.budget.release(less);
        self.charged -= less;
        true
    }

    /// Why the guest has to end, if it has.
    pub(super) fn verdict(&self) -> Option<OverLimitError> {
        self.is_over.then_some(OverLimitError)
    }

    /// The last growth that was refused to this store, if any.
    pub(super) fn refusal(&self) -> Option<Exceeded> {
        self.refused
    }

    fn charge(&mut self, bytes: u64) -> bool {
        if let Err(exceeded) = self.memory.budget.charge(bytes) {
            self.refused = Some(exceeded);
            *self
                .memory
                .refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(exceeded);
            return false;
        }
        self.charged += bytes;
        self.memory
            .peak
            .fetch_max(self.memory.budget.used(), Ordering::Relaxed);
        true
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.charge(desired.saturating_sub(current) as u64))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let added = desired.saturating_sub(current) as u64;
        Ok(self.charge(added.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        MAX_PER_STORE
    }

    fn tables(&self) -> usize {
        MAX_PER_STORE
    }

    fn memories(&self) -> usize {
        MAX_PER_STORE
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.memory.budget.release(self.charged);
        heap::freed_bytes(self.charged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_store_gives_everything_back_and_a_refusal_is_remembered() {
        let memory = Memory::new(Budget::new(1 << 20));
        let mut limits = Limits::new(Arc::clone(&memory));
        assert!(limits.memory_growing(0, 1 << 19, None).unwrap());
        assert!(limits.table_growing(0, 100, None).unwrap());
        assert_eq!(memory.used(), (1 << 19) + 1600);
        assert!(!limits.memory_growing(1 << 19, 2 << 20, None).unwrap());
        assert!(!limits.table_growing(0, usize::MAX, None).unwrap());
        assert_eq!(memory.refusal().unwrap().max, 1 << 20);
        assert!(limits.verdict().is_none());
        assert!(limits.recount(0, 1000) && limits.recount(1000, 400));
        assert_eq!(memory.used(), (1 << 19) + 2000);
        assert!(!limits.recount(400, 1 << 20) && limits.verdict().is_some());
        drop(limits);
        assert_eq!((memory.used(), memory.peak()), (0, (1 << 19) + 2600));
    }
}
