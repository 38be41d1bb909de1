//! Who waits for an event, without duplicates and without lost wake-ups.
//!
//! A set is filled under the lock of the thing that is waited for, taken under the same lock when
//! the event happens, and woken after the lock is released. One waiter, the usual case, costs no
//! allocation. Waiters that went away are never removed, so the set is bounded: when it is full,
//! all are woken and those that still care register again.

use std::task::Waker;

const MAX_EXTRA: usize = 16;

/// See the module.
#[derive(Default)]
pub(super) struct WakerSet {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl WakerSet {
    /// Adds `waker` unless it is there.
    pub(super) fn register(&mut self, waker: &Waker) {
        let Some(first) = &self.first else {
            self.first = Some(waker.clone());
            return;
        };
        if first.will_wake(waker) || self.more.iter().any(|known| known.will_wake(waker)) {
            return;
        }
        if self.more.len() == MAX_EXTRA {
            self.take().wake();
            self.first = Some(waker.clone());
            return;
        }
        self.more.push(waker.clone());
    }

    /// Empties the set; wake the result after the lock is released.
    #[must_use]
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Wakes all.
    pub(super) fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
        }
        for waker in self.more {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Counter(AtomicUsize);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_waiter_is_woken_once_and_the_set_is_bounded() {
        let counters: Vec<_> = (0..100)
            .map(|_| Arc::new(Counter(AtomicUsize::new(0))))
            .collect();
        let mut set = WakerSet::default();
        for counter in &counters {
            let waker = Waker::from(Arc::clone(counter));
            set.register(&waker);
            set.register(&waker);
        }
        assert!(set.more.len() <= MAX_EXTRA);
        set.take().wake();
        assert!(counters.iter().all(|c| c.0.load(Ordering::Relaxed) == 1));
    }
}
