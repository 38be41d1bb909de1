//! One poll of a guest on this thread: how long it takes, and whether the guest was interrupted in it.
//!
//! A guest's future is polled by whichever thread is free, so what it used is a sum over polls. The
//! thread's CPU clock is exact and costs a system call (0.4 µs, twice per poll: a tenth of a small
//! request); the monotonic clock costs twenty nanoseconds and counts also what other threads got in
//! between. So a poll is timed by the monotonic clock up to its first epoch tick, which comes within
//! some milliseconds, and by the thread's own clock from there on: what is charged too much is bounded by
//! one tick, and only when the thread lost its core in it.
//!
//! The poll that is going on is known to its thread alone; the epoch callback runs inside that poll
//! and finds it here. Polls nest when a handler calls another directly: the inner one's time is then
//! charged to both, as a process is charged for what it waits for in the kernel.

use std::cell::Cell;
use std::time::Instant;

/// What is charged at most for the time before the first tick.
const MOST_BEFORE_TICK_NS: u64 = 10_000_000;

thread_local! {
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Turn {
    began: Instant,
    ticked: Option<Ticked>,
    preempted: bool,
}

/// The first tick of a turn.
#[derive(Clone, Copy)]
struct Ticked {
    /// Charged for what was before it.
    before_ns: u64,
    /// The thread's CPU clock at it.
    cpu_ns: u64,
}

/// A poll in progress; [`InProgress::end`] must be called on the same thread.
pub(super) struct InProgress {
    outer: Option<Turn>,
}

/// What a poll came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) total_ns: u64,
    /// Whether the guest was interrupted because its slice was over.
    pub(super) preempted: bool,
}

/// A guest is polled from now on.
pub(super) fn begin() -> InProgress {
    let turn = Turn {
        began: Instant::now(),
        ticked: None,
        preempted: false,
    };
    InProgress {
        outer: TURN.replace(Some(turn)),
    }
}

/// The same, timed by the thread's own clock from the start: the guest may wait inside its poll.
pub(super) fn begin_exact() -> InProgress {
    let begun = begin();
    on_tick();
    begun
}

impl InProgress {
    /// The poll is over.
    pub(super) fn end(self) -> Spent {
        TURN.replace(self.outer)
            .map_or(Spent::NOTHING, |turn| turn.spent())
    }
}

/// The epoch callback was called; tells what the turn took until here.
pub(super) fn on_tick() -> Spent {
    let Some(mut turn) = TURN.get() else {
        return Spent::NOTHING;
    };
    if turn.ticked.is_none() {
        turn.ticked = Some(Ticked {
            before_ns: (turn.began.elapsed().as_nanos() as u64).min(MOST_BEFORE_TICK_NS),
            cpu_ns: thread_cpu_ns(),
        });
        TURN.set(Some(turn));
    }
    turn.spent()
}

/// The guest will be interrupted because its slice is over.
pub(super) fn preempt() {
    if let Some(mut turn) = TURN.get() {
        turn.preempted = true;
        TURN.set(Some(turn));
    }
}

impl Spent {
    const NOTHING: Self = Self {
        total_ns: 0,
        preempted: false,
    };
}

impl Turn {
    fn spent(&self) -> Spent {
        let total_ns = match self.ticked {
            None => self.began.elapsed().as_nanos() as u64,
            Some(ticked) => ticked.before_ns + thread_cpu_ns().saturating_sub(ticked.cpu_ns),
        };
        Spent {
            total_ns,
            preempted: self.preempted,
        }
    }
}

fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(ns: u64) {
        let until = thread_cpu_ns() + ns;
        while thread_cpu_ns() < until {}
    }

    #[test]
    fn time_is_counted_over_ticks_and_polls_nest() {
        let outer = begin();
        work(200_000);
        let inner = begin();
        work(200_000);
        assert!(on_tick().total_ns >= 200_000);
        work(200_000);
        preempt();
        let inner = inner.end();
        assert!(inner.preempted && inner.total_ns >= 400_000, "{inner:?}");
        let outer = outer.end();
        assert!(!outer.preempted && outer.total_ns >= 600_000, "{outer:?}");
        assert_eq!(on_tick(), Spent::NOTHING);
    }

    #[test]
    fn what_other_threads_got_is_not_charged_after_a_tick() {
        let turn = begin();
        on_tick();
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        assert!(turn.end().total_ns < 40_000_000);
    }
}
