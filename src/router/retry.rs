//! How many requests may be sent twice.
//!
//! Each request earns a fifth of a retry, up to a small stock; a retry spends a whole one. When a
//! service fails as a whole, its load therefore grows by a fifth and not by a multiple. Attempts
//! that reached nobody are free: they load nobody.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counted in fifths.
const COST: u32 = 5;
const STOCK: u32 = 50 * COST;
/// What a service may spend before it has earned anything.
const START: u32 = 10 * COST;

/// See the module. One for each service, so that none spends what others have earned.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(START))
    }
}

impl Budget {
    /// A request came in.
    pub(super) fn earn(&self) {
        let earned = |stock: u32| (stock < STOCK).then_some(stock + 1);
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned);
    }

    /// Whether a request may be sent again.
    pub(super) fn spend(&self) -> bool {
        let spent = |stock: u32| stock.checked_sub(COST);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_requests() {
        let budget = Budget::default();
        while budget.spend() {}
        let retried = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(retried.count(), 200);
        for _ in 0..10_000 {
            budget.earn();
        }
        let stock = (0..10_000).take_while(|_| budget.spend()).count();
        assert_eq!(stock, (STOCK / COST) as usize);
    }
}
