//! CPU time of a container: measured around every poll, held below its ceiling, and shared by weight.
//!
//! A guest's future is polled by whichever thread is free, so its time is the sum over polls of the
//! polling thread's own CPU clock. Host calls made for the guest count as the guest's. The poll that
//! is going on is known to the thread that does it alone, hence the thread-local start: the epoch
//! callback runs inside that poll and reads it there.
//!
//! The ceiling works like a cgroup's quota: allowance grows with wall time, what is unused is kept up
//! to one [`BURST`], and who has used more than was allowed sleeps until it is made good. The callback
//! comes once per epoch tick, so a container may pass its ceiling by a tick per concurrent request.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use wasmtime::{Store, UpdateDeadline};

use super::ticker::Presence;

/// How much unused allowance is kept, in wall time.
const BURST: Duration = Duration::from_millis(100);

/// A container that had to rest for so long is spoken of, and then each time again.
const WORTH_A_WORD_NS: u64 = 10_000_000_000;

/// Weight of one epoch tick: who asks for a whole core (1024) runs four ticks before it yields.
const SHARES_PER_TICK: u64 = 256;

/// Ticks a container runs at most before others get their turn.
const MAX_SLICE: u64 = 8;

thread_local! {
    /// The thread's CPU clock when the poll in progress began.
    static POLL_BEGAN: Cell<u64> = const { Cell::new(0) };
}

/// The CPU account of one container; all its instances charge it.
pub(super) struct Cpu {
    used_ns: AtomicU64,
    throttled_ns: AtomicU64,
    killed: AtomicBool,
    slice: u64,
    quota: Option<Mutex<Quota>>,
    /// Told when it had to rest for long.
    limited: Arc<Notify>,
}

struct Quota {
    /// Nanoseconds of CPU per millisecond of wall time: a thousandth of a core is 1000.
    rate_ns_per_ms: u64,
    allowed_ns: u64,
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
        let quota = limit_millis.map(|millis| {
            let rate_ns_per_ms = millis.max(1) * 1000;
            Mutex::new(Quota {
                rate_ns_per_ms,
                allowed_ns: BURST.as_millis() as u64 * rate_ns_per_ms,
                counted: now,
            })
        });
        Arc::new(Self {
            used_ns: AtomicU64::new(0),
            throttled_ns: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            slice: (shares / SHARES_PER_TICK).clamp(1, MAX_SLICE),
            quota,
            limited: Arc::clone(limited),
        })
    }

    pub(super) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }

    pub(super) fn throttled(&self) -> Duration {
        Duration::from_nanos(self.throttled_ns.load(Ordering::Relaxed))
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

    fn on_tick(&self) -> wasmtime::Result<UpdateDeadline> {
        if self.killed.load(Ordering::Relaxed) {
            return Err(KilledError.into());
        }
        let running = thread_cpu_ns().saturating_sub(POLL_BEGAN.get());
        Ok(match self.rest(running, Instant::now()) {
            Some(rest) => UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(rest))),
            None => UpdateDeadline::Yield(self.slice),
        })
    }
}

impl Quota {
    fn rest(&mut self, used_ns: u64, running_ns: u64, now: Instant) -> Option<Duration> {
        let per_ms = self.rate_ns_per_ms;
        let grown =
            now.saturating_duration_since(self.counted).as_nanos() * u128::from(per_ms) / 1_000_000;
        let burst = BURST.as_millis() as u64 * per_ms;
        self.allowed_ns = self
            .allowed_ns
            .saturating_add(u64::try_from(grown).unwrap_or(u64::MAX))
            .min(used_ns.saturating_add(running_ns).saturating_add(burst));
        self.counted = now;
        let over = (used_ns + running_ns).checked_sub(self.allowed_ns)?;
        (over > 0).then(|| Duration::from_nanos(over * 1_000_000 / per_ms))
    }
}

/// A guest's future whose polls are counted as its container's CPU time.
pub(super) struct Metered<F> {
    future: Pin<Box<F>>,
    cpu: Arc<Cpu>,
    presence: Presence,
}

impl<F: Future> Metered<F> {
    pub(super) fn new(future: F, cpu: Arc<Cpu>, presence: Presence) -> Self {
        Self {
            future: Box::pin(future),
            cpu,
            presence,
        }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _running = this.presence.enter();
        // A handler may call another handler directly, so polls nest; the inner one's time is then
        // charged to both, as a process is charged for what it waits for in the kernel.
        let began = thread_cpu_ns();
        let outer = POLL_BEGAN.replace(began);
        let polled = this.future.as_mut().poll(cx);
        POLL_BEGAN.set(outer);
        this.cpu
            .used_ns
            .fetch_add(thread_cpu_ns().saturating_sub(began), Ordering::Relaxed);
        polled
    }
}

fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
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
    fn slices_follow_the_shares() {
        for (shares, slice) in [(2, 1), (102, 1), (512, 2), (1024, 4), (8192, 8)] {
            let cpu = Cpu::new(None, shares, Instant::now(), &Arc::default());
            assert_eq!(cpu.slice, slice);
        }
    }
}
