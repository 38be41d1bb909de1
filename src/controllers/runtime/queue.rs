//! The work queue: which key is looked at next.
//!
//! ```text
//!            add                    next                      done
//!   (idle) ───────► waiting (once) ───────► running ──┬──────────────► (idle)
//!                        ▲                     │ add   │ failed
//!                        │      rest, backoff  ▼       ▼
//!                        └──────────────── delayed ◄───┘
//! ```
//!
//! [`State`] is synchronous and takes `now`; [`Queue`] puts a mutex and a wake-up around it. The
//! lock is held for a few map operations and never across an await.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Key, Outcome};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::ids;

/// Retries of one object: quick at first, since most failures are races, then half a minute.
const RETRY: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(30));
/// Computing less than this costs nothing worth resting for.
const CHEAP: Duration = Duration::from_millis(1);
/// No rest is longer, or latency would suffer more than the machine gains.
const LONGEST_REST: Duration = Duration::from_millis(500);

#[derive(Default)]
struct State {
    waiting: VecDeque<Key>,
    is_waiting: HashSet<Key>,
    running: HashSet<Key>,
    /// Triggered while running.
    again: HashSet<Key>,
    delayed: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    resting: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Run(Key),
    Wait(Option<Instant>),
}

impl State {
    fn add(&mut self, key: Key, now: Instant) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if let Some(&until) = self.resting.get(&key).filter(|&&until| until > now) {
            self.delay(key, until);
        } else if self.is_waiting.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    /// Plans a look at `at`; an earlier plan stays.
    fn delay(&mut self, key: Key, at: Instant) {
        match self.due.get(&key) {
            Some(&planned) if planned <= at => return,
            Some(&planned) => {
                self.delayed.remove(&(planned, key.clone()));
            }
            None => {}
        }
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }

    fn next(&mut self, now: Instant) -> Next {
        while let Some((at, _)) = self.delayed.first()
            && *at <= now
            && let Some((_, key)) = self.delayed.pop_first()
        {
            self.due.remove(&key);
            self.resting.remove(&key);
            self.add(key, now);
        }
        match self.waiting.pop_front() {
            Some(key) => {
                self.is_waiting.remove(&key);
                self.running.insert(key.clone());
                Next::Run(key)
            }
            None => Next::Wait(self.delayed.first().map(|(at, _)| *at)),
        }
    }

    fn done(&mut self, key: Key, outcome: Outcome, rest: Duration, now: Instant) {
        self.failures.remove(&key);
        self.running.remove(&key);
        if rest > CHEAP {
            if self.resting.len() > 4096 {
                self.resting.retain(|_, until| *until > now);
            }
            self.resting
                .insert(key.clone(), now + rest.min(LONGEST_REST));
        }
        match outcome {
            Outcome::Done => {}
            Outcome::RequeueAfter(delay) => self.delay(key.clone(), now + delay),
        }
        if self.again.remove(&key) {
            self.add(key, now);
        }
    }

    /// A trigger during a failed run does not shorten the backoff: a broken object that changes
    /// often would otherwise be tried as often.
    fn failed(&mut self, key: Key, jitter: f64, now: Instant) {
        self.running.remove(&key);
        self.again.remove(&key);
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let at = now + RETRY.delay_with_jitter(*failures, jitter);
        self.resting.insert(key.clone(), at);
        self.delay(key, at);
    }
}

/// The queue of one controller.
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    clock: Clock,
}

impl Queue {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            clock,
        }
    }

    /// Asks for a look at `key`.
    pub(crate) fn add(&self, key: Key) {
        self.lock().add(key, self.clock.monotonic());
        self.wake.notify_one();
    }

    /// Waits for work; whoever gets a key must give it back by `done` or `failed`.
    pub(super) async fn next(&self) -> Key {
        loop {
            let now = self.clock.monotonic();
            let next = self.lock().next(now);
            match next {
                Next::Run(key) => {
                    // Another worker may sleep while more than one key waits.
                    self.wake.notify_one();
                    return key;
                }
                Next::Wait(None) => self.wake.notified().await,
                Next::Wait(Some(at)) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(at.saturating_duration_since(now)) => {}
                },
            }
        }
    }

    pub(super) fn done(&self, key: Key, outcome: Outcome, rest: Duration) {
        let now = self.clock.monotonic();
        self.lock().done(key, outcome, rest, now);
        self.wake.notify_one();
    }

    pub(super) fn failed(&self, key: Key) {
        let now = self.clock.monotonic();
        self.lock().failed(key, ids::jitter(), now);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while holding the lock; were it poisoned, the maps would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("default", name)
    }

    #[test]
    fn a_key_waits_once_and_runs_alone() {
        let (mut state, now) = (State::default(), Instant::now());
        state.add(key("a"), now);
        state.add(key("a"), now);
        state.add(key("b"), now);
        assert_eq!(state.next(now), Next::Run(key("a")));
        state.add(key("a"), now);
        assert_eq!(state.next(now), Next::Run(key("b")));
        assert_eq!(state.next(now), Next::Wait(None));
        state.done(key("a"), Outcome::Done, Duration::ZERO, now);
        assert_eq!(state.next(now), Next::Run(key("a")));
    }

    #[test]
    fn a_failure_backs_off_one_object_and_success_forgets_it() {
        let (mut state, start) = (State::default(), Instant::now());
        let mut now = start;
        for expected in [5, 10, 20] {
            state.add(key("bad"), now);
            state.add(key("good"), now);
            assert_eq!(state.next(now), Next::Run(key("bad")));
            state.failed(key("bad"), 0.0, now);
            // Neither a trigger nor another object's work brings it back early.
            state.add(key("bad"), now);
            assert_eq!(state.next(now), Next::Run(key("good")));
            state.done(key("good"), Outcome::Done, Duration::ZERO, now);
            let at = now + Duration::from_millis(expected);
            assert_eq!(state.next(now), Next::Wait(Some(at)));
            now = at;
        }
        assert_eq!(state.next(now), Next::Run(key("bad")));
        state.done(key("bad"), Outcome::Done, Duration::ZERO, now);
        assert!(state.failures.is_empty());
    }

    #[test]
    fn costly_keys_rest_and_cheap_ones_do_not() {
        let (mut state, now) = (State::default(), Instant::now());
        for (name, rest, expected_wait) in [("a", 100, Some(100)), ("b", 0, None)] {
            state.add(key(name), now);
            assert_eq!(state.next(now), Next::Run(key(name)));
            state.done(key(name), Outcome::Done, Duration::from_millis(rest), now);
            state.add(key(name), now);
            match expected_wait {
                Some(wait) => {
                    let at = now + Duration::from_millis(wait);
                    assert_eq!(state.next(now), Next::Wait(Some(at)));
                    assert_eq!(state.next(at), Next::Run(key(name)));
                    state.done(key(name), Outcome::Done, Duration::ZERO, at);
                }
                None => assert_eq!(state.next(now), Next::Run(key(name))),
            }
        }
    }

    #[test]
    fn the_earliest_plan_wins() {
        let (mut state, now) = (State::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        state.delay(key("a"), at(9));
        state.delay(key("a"), at(3));
        state.delay(key("a"), at(6));
        assert_eq!(state.next(now), Next::Wait(Some(at(3))));
        assert_eq!(state.next(at(3)), Next::Run(key("a")));
        state.done(key("a"), Outcome::Done, Duration::ZERO, at(3));
        assert_eq!(state.next(at(10)), Next::Wait(None));
    }
}
