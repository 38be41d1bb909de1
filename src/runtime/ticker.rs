//! The one thread that moves time on inside guests.
//!
//! A guest that computes gives its thread back only when the epoch of its engine has moved, so the
//! epochs need a clock of their own: an OS thread, because a task of a runtime whose threads are all
//! busy with guests would never run. An idle worker must cost nothing, though, so the thread parks
//! when no guest has been polled for [`IDLE_TICKS`] and none is being polled now.
//!
//! Parking must not lose a guest. Who starts a poll first counts itself and then looks whether the
//! thread is parked; the thread first says that it parks and then looks at the count. Both in one
//! total order, so one of them sees the other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// Ticks without a poll after which the thread parks.
const IDLE_TICKS: u32 = 20;

/// Ticks the epochs of all engines given to it, until it is dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    engines: Mutex<Vec<EngineWeak>>,
    /// Guests inside a poll.
    running: AtomicUsize,
    /// Whether a poll began since the last tick.
    polled: AtomicBool,
    parked: AtomicBool,
    stopped: AtomicBool,
}

/// Counts polls in, so that the ticker knows when guests run. Cheap to clone.
#[derive(Clone)]
pub(super) struct Presence {
    shared: Arc<Shared>,
    thread: Thread,
}

/// A guest is being polled while this lives.
pub(super) struct Running<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("epochs".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run(tick)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// From now on `engine` is ticked too.
    pub(super) fn add(&self, engine: &Engine) {
        self.shared
            .engines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(engine.weak());
    }

    /// A handle for those who poll guests.
    pub(super) fn presence(&self) -> Presence {
        let thread = self
            .thread
            .as_ref()
            .expect("the thread is taken in drop only");
        Presence {
            shared: Arc::clone(&self.shared),
            thread: thread.thread().clone(),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread ends within one tick; a panic in it was already reported by the runtime.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, tick: Duration) {
        let mut idle = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            std::thread::sleep(tick);
            for engine in self
                .engines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                if let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                }
            }
            idle = if self.polled.swap(false, Ordering::Relaxed) {
                0
            } else {
                idle + 1
            };
            // A poll that is long is one that goes on: its guest needs the ticks.
            if idle >= IDLE_TICKS && self.running.load(Ordering::SeqCst) == 0 {
                self.park();
                idle = 0;
            }
        }
    }

    fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0
            && !self.polled.load(Ordering::Relaxed)
            && !self.stopped.load(Ordering::SeqCst)
        {
            std::thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}

impl Presence {
    /// Says that a guest is being polled, and wakes the ticker if it sleeps.
    pub(super) fn enter(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if !self.shared.polled.load(Ordering::Relaxed) {
            self.shared.polled.store(true, Ordering::Relaxed);
        }
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_parks_when_no_guest_runs_and_wakes_for_the_next() {
        let ticker = Ticker::start(Duration::from_millis(1)).unwrap();
        let presence = ticker.presence();
        let parked = || ticker.shared.parked.load(Ordering::SeqCst);
        wait_until("parks when idle", parked);
        let running = presence.enter();
        wait_until("wakes for a guest", || !parked());
        // It never parks while a guest is inside a poll, however long that poll is.
        let begun = Instant::now();
        wait_until("stays awake", || {
            assert!(!parked());
            begun.elapsed() > Duration::from_millis(100)
        });
        drop(running);
        wait_until("parks again", parked);
    }
}
