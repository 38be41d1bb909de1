//! CPU time of a container: held below its ceiling, guaranteed up to its share.
//!
//! What each poll of a guest takes is counted by `turn`; all instances of a container charge one
//! account. Host calls made for the guest count as the guest's.
//!
//! The ceiling works like a cgroup's quota: allowance grows with wall time, what is unused is kept up
//! to one [`BURST`], and who has used more than was allowed sleeps until it is made good. The callback
//! comes once per epoch tick, so a container may pass its ceiling by a tick per concurrent request.
//!
//! The guarantee is an account of the same kind that grows by what was requested. Who computes beyond
//! it does so in the background (`background`), on what nobody else wants. A container's first
//! [`START`] of CPU is not held against it, so that a busy machine does not make a start crawl.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use wasmtime::{Store, UpdateDeadline};

use super::turn;

/// How much unused allowance is kept, in wall time.
const BURST: Duration = Duration::from_millis(100);

/// A container that had to rest for so long is spoken of, and then each time again.
const WORTH_A_WORD_NS: u64 = 10_000_000_000;

/// Weight of one epoch tick: who asks for a whole core (1024) runs four ticks before it yields.
const SHARES_PER_TICK: u64 = 256;

/// Ticks a container runs at most before others get their turn.
const MAX_SLICE: u64 = 8;

/// Turns that the lightest container (2 shares) lets pass beside one that asks for a quarter of a core.
const MAX_PASSES: u64 = 127;

/// CPU time that every container has in the foreground before its guarantee is looked at.
const START: Duration = Duration::from_secs(1);

/// What is guaranteed to a container that requested nothing, in thousandths of a core.
const LEAST_MILLIS: u64 = 10;

/// A poll that ran for less since the last tick is not interrupted: the tick only happened to fall
/// into it.
const UNDISTURBED_NS: u64 = 1_000_000;

/// The CPU account of one container; all its instances charge it.
pub(super) struct Cpu {
    used_ns: AtomicU64,
    throttled_ns: AtomicU64,
    killed: AtomicBool,
    slice: u64,
    passes: u64,
    quota: Option<Mutex<Quota>>,
    guarantee: Mutex<Quota>,
    /// Told when it had to rest for long.
    limited: Arc<Notify>,
}

struct Quota {
    /// Nanoseconds of CPU per millisecond of wall time: a thousandth of a core is 1000.
    rate_ns_per_ms: u64,
    allowed_ns: u64,
    /// What was allowed from the start; unused, it does not expire.
    start_ns: u64,
    counted: Instant,
}

/// The epoch callback ends a guest with this error when its container is killed.
#[derive(Debug, thiserror::Error)]
#[error("killed")]
pub(super) struct KilledError;

impl Cpu {
    pub(super) fn new(
        limit_millis: Option<u64>,
        shares: u64,
        now: Instant,
        limited: &Arc<Notify>,
    ) -> Arc<Self> {
        let ceiling = |millis: u64| Mutex::new(Quota::new(millis.max(1), Duration::ZERO, now));
        let guaranteed = (shares * 1000 / 1024).max(LEAST_MILLIS);
        Arc::new(Self {
            used_ns: AtomicU64::new(0),
            throttled_ns: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            slice: (shares / SHARES_PER_TICK).clamp(1, MAX_SLICE),
            passes: passes(shares),
            quota: limit_millis.map(ceiling),
            guarantee: Mutex::new(Quota::new(guaranteed, START, now)),
            limited: Arc::clone(limited),
        })
    }

    pub(super) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }

    pub(super) fn throttled(&self) -> Duration {
        Duration::from_nanos(self.throttled_ns.load(Ordering::Relaxed))
    }

    /// Turns that it lets pass after one in the background: whoever weighs less than a tick a turn
    /// has one the less often.
    pub(super) fn passes(&self) -> u64 {
        self.passes
    }

    /// From now on every instance traps at its next epoch tick.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    /// Makes `store` obey: preempted every slice, slowed to the ceiling, ended when killed or when
    /// `verdict` says why.
    pub(super) fn govern<T: 'static>(
        self: &Arc<Self>,
        store: &mut Store<T>,
        verdict: fn(&T) -> Option<wasmtime::Error>,
    ) {
        let cpu = Arc::clone(self);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |store| match verdict(store.data()) {
            Some(error) => Err(error),
            None => cpu.on_tick(),
        });
    }

    /// How long the container must rest before it may compute again, if it has used too much.
    pub(super) fn rest(&self, running_ns: u64, now: Instant) -> Option<Duration> {
        let quota = self.quota.as_ref()?;
        let used = self.used_ns.load(Ordering::Relaxed);
        let rest = quota
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rest(used, running_ns, now)?;
        let more = rest.as_nanos() as u64;
        let before = self.throttled_ns.fetch_add(more, Ordering::Relaxed);
        if before / WORTH_A_WORD_NS != (before + more) / WORTH_A_WORD_NS {
            self.limited.notify_one();
        }
        Some(rest)
    }

    /// Adds what a poll took.
    pub(super) fn charge(&self, ns: u64) {
        self.used_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Whether the container has used more than is guaranteed to it.
    pub(super) fn is_over_share(&self, now: Instant) -> bool {
        let used = self.used_ns.load(Ordering::Relaxed);
        let mut guarantee = self
            .guarantee
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        guarantee.rest(used, 0, now).is_some()
    }

    fn on_tick(&self) -> wasmtime::Result<UpdateDeadline> {
        if self.killed.load(Ordering::Relaxed) {
            return Err(KilledError.into());
        }
        let running = turn::on_tick();
        if let Some(rest) = self.rest(running.total_ns, Instant::now()) {
            return Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::time::sleep(rest)),
            ));
        }
        if running.total_ns < UNDISTURBED_NS {
            return Ok(UpdateDeadline::Continue(self.slice));
        }
        turn::preempt();
        Ok(UpdateDeadline::Yield(self.slice))
    }
}

fn passes(shares: u64) -> u64 {
    let shares = shares.max(1);
    let turns = (SHARES_PER_TICK + shares / 2) / shares;
    turns.saturating_sub(1).min(MAX_PASSES)
}

impl Quota {
    fn new(millis: u64, start: Duration, now: Instant) -> Self {
        let rate_ns_per_ms = millis * 1000;
        let start_ns = start.as_nanos() as u64;
        Self {
            rate_ns_per_ms,
            allowed_ns: start_ns.max(BURST.as_millis() as u64 * rate_ns_per_ms),
            start_ns,
            counted: now,
        }
    }

    fn rest(&mut self, used_ns: u64, running_ns: u64, now: Instant) -> Option<Duration> {
        let per_ms = self.rate_ns_per_ms;
        let grown =
            now.saturating_duration_since(self.counted).as_nanos() * u128::from(per_ms) / 1_000_000;
        let burst = BURST.as_millis() as u64 * per_ms;
        let most = used_ns.saturating_add(running_ns).saturating_add(burst);
        self.allowed_ns = self
            .allowed_ns
            .saturating_add(u64::try_from(grown).unwrap_or(u64::MAX))
            .min(most.max(self.start_ns));
        self.counted = now;
        let over = (used_ns + running_ns).checked_sub(self.allowed_ns)?;
        (over > 0).then(|| Duration::from_nanos(over * 1_000_000 / per_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_ceiling_is_kept_over_time_and_unused_allowance_is_bounded() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut quota = Quota {
            rate_ns_per_ms: 200 * 1000, // 200m: a fifth of a core.
            allowed_ns: 0,
            start_ns: 0,
            counted: start,
        };
        // 10 ms of CPU in 10 ms of time: 2 ms were allowed, the other 8 take 40 ms to earn.
        let rest = quota.rest(10 * MS, 0, at(10));
        assert_eq!(rest, Some(Duration::from_millis(40)));
        assert_eq!(quota.rest(10 * MS, 0, at(50)), None);
        // An idle hour earns one burst (100 ms of wall time = 20 ms of CPU) and no more.
        assert_eq!(quota.rest(10 * MS, 0, at(3_600_000)), None);
        assert_eq!(quota.rest(10 * MS, 20 * MS, at(3_600_000)), None);
        assert!(quota.rest(10 * MS, 21 * MS, at(3_600_000)).is_some());
    }

    #[test]
    fn a_start_is_not_held_back_and_what_follows_is_guaranteed_by_share() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // Half a core was requested.
        let cpu = Cpu::new(None, 512, start, &Arc::default());
        cpu.charge(1000 * MS);
        assert!(!cpu.is_over_share(at(10)));
        cpu.charge(6 * MS);
        assert!(cpu.is_over_share(at(10)));
        // Every further millisecond guarantees half of one.
        assert!(!cpu.is_over_share(at(13)));
        cpu.charge(500 * MS);
        assert!(cpu.is_over_share(at(500)));
        assert!(!cpu.is_over_share(at(1100)));
        // Who requested nothing has its start and then a hundredth.
        let nobody = Cpu::new(None, 2, start, &Arc::default());
        nobody.charge(1001 * MS);
        assert!(nobody.is_over_share(at(50)));
        assert!(!nobody.is_over_share(at(200)));
    }

    #[test]
    fn slices_follow_the_shares() {
        for (shares, slice, passes) in [
            (2, 1, 127),
            (10, 1, 25),
            (102, 1, 2),
            (256, 1, 0),
            (512, 2, 0),
            (1024, 4, 0),
            (8192, 8, 0),
        ] {
            let cpu = Cpu::new(None, shares, Instant::now(), &Arc::default());
            assert_eq!((cpu.slice, cpu.passes()), (slice, passes), "{shares}");
        }
    }
}
