//! Threads that may wait for a disk, so that no others have to.
//!
//! A read of a host's directory ends when the disk says so: at once, or minutes later where it is
//! slow, far away or broken. Whoever is polled on the same thread waits with it. So a guest that has
//! such a directory, mounted or as its key-value store, is polled on threads of their own, all of it:
//! a hand-over per wake-up of the guest costs less than one per call, needs no copies, and leaves the
//! in-memory filesystem of everybody else without a question to ask.
//!
//! Bounded twice: a pod has [`PLACES`] threads at a time, in the order of asking, so that one broken
//! volume holds up its own pods; and all pods together have [`DISK_THREADS`]. What waits for a place
//! is bounded by the guests themselves, as each waits at one place at most. A call that never returns
//! keeps its thread for ever, as a process in uninterruptible sleep does, also when its pod is gone.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use futures::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Threads of all pods together, of either kind.
pub(super) const DISK_THREADS: usize = 256;
/// Threads of one pod at a time, of either kind.
const PLACES: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

/// A pod's way to the threads.
pub(super) struct Lane {
    now: Arc<Line>,
    background: Arc<Line>,
}

/// How soon a thread is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Now,
    /// When nobody else wants the core: for who computes beyond its share.
    Background,
}

impl Wanted {
    pub(super) fn of(computes: bool) -> Self {
        if computes {
            Self::Background
        } else {
            Self::Now
        }
    }
}

impl Lane {
    pub(super) fn new(threads: &Handle, background: &Handle) -> Arc<Self> {
        Arc::new(Self {
            now: Line::new(threads),
            background: Line::new(background),
        })
    }

    /// Has `work` done, in its turn.
    pub(super) fn submit(&self, wanted: Wanted, work: impl FnOnce() + Send + 'static) {
        let line = match wanted {
            Wanted::Now => &self.now,
            Wanted::Background => &self.background,
        };
        line.submit(Box::new(work));
    }

    /// The outcome of `work`; `None` if it panicked or the worker ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        // Who asked may have gone.
        self.submit(Wanted::Now, move || drop(done.send(work())));
        outcome.await.ok()
    }
}

struct Line {
    threads: Handle,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    busy: usize,
    waiting: VecDeque<Job>,
}

impl Line {
    fn new(threads: &Handle) -> Arc<Self> {
        Arc::new(Self {
            threads: threads.clone(),
            queue: Mutex::default(),
        })
    }

    fn submit(self: &Arc<Self>, job: Job) {
        let mut queue = self.lock();
        if queue.busy >= PLACES {
            queue.waiting.push_back(job);
            return;
        }
        queue.busy += 1;
        drop(queue);
        let line = Arc::clone(self);
        self.threads.spawn_blocking(move || line.work(job));
    }

    /// Does one job after the other until none waits.
    fn work(&self, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a call to a disk panicked");
            }
            let mut queue = self.lock();
            next = queue.waiting.pop_front();
            if next.is_none() {
                queue.busy -= 1;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a guest that is polled elsewhere wants to be polled again, and who is to be told.
#[derive(Debug)]
pub(super) struct Woken {
    is_due: AtomicBool,
    waker: AtomicWaker,
}

impl Default for Woken {
    /// The first poll is due from the start.
    fn default() -> Self {
        Self {
            is_due: AtomicBool::new(true),
            waker: AtomicWaker::new(),
        }
    }
}

impl Woken {
    /// Whether a poll is due, which then is done; if not, `waker` is told when it is.
    pub(super) fn take(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.is_due.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Ordering::Release);
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_pod_that_waits_for_its_disk_fills_its_own_places() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let lane = || Lane::new(runtime.handle(), runtime.handle());
        let (stuck, neighbour) = (lane(), lane());
        let (done, answers) = mpsc::channel();
        let disk = Arc::new(Mutex::new(()));
        let broken = disk.lock().unwrap();
        for number in 0..2 * PLACES {
            let (disk, done) = (Arc::clone(&disk), done.clone());
            stuck.submit(Wanted::Now, move || {
                drop(disk.lock().unwrap());
                done.send(number).unwrap();
            });
        }
        let panicking = neighbour.run(|| panic!("a bug"));
        assert_eq!(runtime.block_on(panicking), None::<()>);
        assert_eq!(runtime.block_on(neighbour.run(|| 7)), Some(7));
        assert!(answers.try_recv().is_err());
        drop(broken);
        let mut answered: Vec<usize> = answers.iter().take(2 * PLACES).collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..2 * PLACES).collect::<Vec<_>>());
    }
}
