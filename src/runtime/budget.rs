//! Budgets: counted amounts with a ceiling, charged before anything is allocated.
//!
//! One [`Budget`] of bytes per pod is shared by linear memories, tables, files and socket buffers,
//! so that no kind of memory is a way around the limit. A child budget has a ceiling of its own and
//! charges its parent too; a refusal anywhere changes nothing anywhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::heap;

/// A counted amount with a ceiling; shared by reference.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    max: u64,
    parent: Option<Arc<Budget>>,
    refusals: AtomicU64,
    /// Told of each refusal.
    listener: OnceLock<Arc<Notify>>,
}

/// The ceiling that refused a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} more would pass the limit of {max} ({used} in use)")]
pub struct Exceeded {
    /// What was asked for.
    pub wanted: u64,
    /// What was in use.
    pub used: u64,
    /// The ceiling.
    pub max: u64,
}

impl Budget {
    /// A budget of `max` units.
    pub fn new(max: u64) -> Arc<Self> {
        Self::make(max, None)
    }

    fn make(max: u64, parent: Option<&Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            max,
            parent: parent.map(Arc::clone),
            refusals: AtomicU64::new(0),
            listener: OnceLock::new(),
        })
    }

    /// A budget of `max` units, inside `parent` if there is one, that tells when it refuses. Many
    /// refusals that nobody has listened to yet are one.
    pub fn watched(max: u64, parent: Option<&Arc<Self>>, refused: &Arc<Notify>) -> Arc<Self> {
        let budget = Self::make(max, parent);
        budget.tell(refused);
        budget
    }

    /// A budget of `max` units inside `parent`.
    pub fn within(parent: &Arc<Self>, max: u64) -> Arc<Self> {
        Self::make(max, Some(parent))
    }

    /// Tells `listener` of refusals from now on; the first to ask is told.
    pub fn tell(&self, listener: &Arc<Notify>) {
        // Only the sandbox that a budget belongs to asks, once.
        let _ = self.listener.set(Arc::clone(listener));
    }

    /// Takes `amount`, or nothing.
    pub fn charge(&self, amount: u64) -> Result<(), Exceeded> {
        let charged = self.try_charge(amount);
        if charged.is_err() {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            if let Some(listener) = self.listener.get() {
                listener.notify_one();
            }
        }
        charged
    }

    fn try_charge(&self, amount: u64) -> Result<(), Exceeded> {
        let fits = |used: u64| used.checked_add(amount).filter(|total| *total <= self.max);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|used| Exceeded {
                wanted: amount,
                used,
                max: self.max,
            })?;
        if let Some(parent) = &self.parent
            && let Err(exceeded) = parent.charge(amount)
        {
            self.used.fetch_sub(amount, Ordering::Relaxed);
            return Err(exceeded);
        }
        Ok(())
    }

    /// Gives `amount` back; it must have been charged.
    pub fn release(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.release(amount);
        }
    }

    /// Counts `amount` that is there already, past the ceiling if need be.
    pub fn overdraw(&self, amount: u64) {
        let add = |used: u64| Some(used.saturating_add(amount));
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        if let Some(parent) = &self.parent {
            parent.overdraw(amount);
        }
    }

    /// Gives `amount` back as far as it was charged; for what others may change behind our back.
    pub fn forgive(&self, amount: u64) {
        let less = |used: u64| Some(used.saturating_sub(amount));
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if let Some(parent) = &self.parent {
            parent.forgive(amount);
        }
    }

    /// What a charge could get now, here and in every budget around this one. Only a hint: others
    /// charge at the same time.
    pub fn available(&self) -> u64 {
        let here = self.max.saturating_sub(self.used());
        match &self.parent {
            Some(parent) => here.min(parent.available()),
            None => here,
        }
    }

    /// The ceiling.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many charges were refused so far.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// What is in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Budget {
    /// Everything that was charged to it is free now.
    fn drop(&mut self) {
        heap::freed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_changes_nothing() {
        let pod = Budget::new(100);
        let volume = Budget::within(&pod, 80);
        volume.charge(60).unwrap();
        assert_eq!(volume.charge(30).unwrap_err().max, 80);
        pod.charge(30).unwrap();
        assert_eq!(volume.charge(20).unwrap_err().max, 100);
        assert_eq!((volume.used(), pod.used()), (60, 90));
        assert_eq!((volume.available(), pod.available()), (10, 10));
        assert_eq!((volume.refusals(), pod.refusals()), (2, 1));
        volume.release(60);
        assert_eq!((volume.used(), pod.used()), (0, 30));
    }
}
