//! Who goes away, who comes home, and what an end away looks like.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::*;
use crate::runtime::ticker::Ticker;
use crate::tasks::TaskGroup;

const SECOND_NS: u64 = 1_000_000_000;

/// A container that requested nothing, and has used so much.
struct Bench {
    guests: Guests,
    cpu: Arc<Cpu>,
    _ticker: Ticker,
}

impl Bench {
    fn new(used_ns: u64) -> Self {
        let ticker = Ticker::start(Duration::from_millis(5)).unwrap();
        let guests = Guests::start(1, ticker.presence(), TaskGroup::new()).unwrap();
        let cpu = Cpu::new(None, 2, Instant::now(), &Arc::default());
        cpu.charge(used_ns);
        Self {
            guests,
            cpu,
            _ticker: ticker,
        }
    }

    fn run<F>(&self, guest: F) -> Metered<F>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        Metered::new(guest, Arc::clone(&self.cpu), self.guests.clone(), None)
    }

    /// The same with a disk.
    fn run_on_disk<F>(&self, guest: F) -> Metered<F>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let (cpu, guests) = (Arc::clone(&self.cpu), self.guests.clone());
        let lane = guests.lane();
        Metered::new(guest, cpu, guests, Some(&lane))
    }
}

/// A slice that is over, and then the name of the thread that goes on.
async fn thread_after_a_slice() -> String {
    let mut over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut over, true) {
            return Poll::Ready(());
        }
        turn::preempt();
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    thread_name()
}

/// Waits for a timer of the runtime that the caller is in.
async fn a_timer() {
    let never = std::future::pending::<()>();
    assert!(
        tokio::time::timeout(Duration::from_millis(1), never)
            .await
            .is_err()
    );
}

fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn who_is_within_its_share_computes_where_it_is() {
    let bench = Bench::new(SECOND_NS / 2);
    assert_eq!(bench.run(thread_after_a_slice()).await, thread_name());
}

#[tokio::test]
async fn who_computes_beyond_its_share_goes_away_and_comes_home_to_wait() {
    let bench = Bench::new(2 * SECOND_NS);
    let waited = Arc::new(Notify::new());
    let told = Arc::new(Notify::new());
    let guest = {
        let (waited, told) = (Arc::clone(&waited), Arc::clone(&told));
        async move {
            let away = thread_after_a_slice().await;
            told.notify_one();
            waited.notified().await;
            // A timer made here is this runtime's, which has one; the background has none.
            a_timer().await;
            (away, thread_name())
        }
    };
    let waking = async {
        told.notified().await;
        waited.notify_one();
    };
    let ((away, home), ()) = tokio::join!(bench.run(guest), waking);
    assert_eq!(away, "background");
    assert_eq!(home, thread_name());
}

#[tokio::test]
async fn who_has_a_disk_is_polled_away_as_often_as_it_is_woken() {
    let bench = Bench::new(0);
    let (told, waited) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, waiting) = (Arc::clone(&told), Arc::clone(&waited));
    let mut guest = Box::pin(async move {
        telling.notify_one();
        waiting.notified().await;
        a_timer().await;
    });
    let polls = Arc::new(Mutex::new(Vec::new()));
    let polled = Arc::clone(&polls);
    let mut guest = bench.run_on_disk(poll_fn(move |cx| {
        polled.lock().unwrap().push(thread_name());
        guest.as_mut().poll(cx)
    }));
    tokio::select! {
        () = &mut guest => unreachable!("it waits"),
        () = told.notified() => {}
    }
    // Polled for another reason than its own.
    for _ in 0..100 {
        assert!((&mut guest).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    waited.notify_one();
    guest.await;
    // The first, the word, the timer; the timer may be over when it is asked.
    let polls = polls.lock().unwrap();
    assert!(polls.len() <= 3, "{polls:?}");
    assert!(polls.iter().all(|thread| thread == "disk"), "{polls:?}");
}

#[tokio::test]
async fn who_has_a_disk_computes_beyond_its_share_in_the_background() {
    let bench = Bench::new(2 * SECOND_NS);
    let names = bench.run_on_disk(async { (thread_name(), thread_after_a_slice().await) });
    assert_eq!(names.await, ("disk".to_owned(), "background".to_owned()));
}

#[tokio::test]
async fn a_panic_at_a_disk_is_the_callers_and_dropping_happens_there() {
    struct Where(Option<oneshot::Sender<String>>);
    impl Drop for Where {
        fn drop(&mut self) {
            self.0.take().unwrap().send(thread_name()).unwrap();
        }
    }
    let bench = Bench::new(0);
    let guest = bench.run_on_disk(async { assert!(thread_name().is_empty(), "bug") });
    assert!(AssertUnwindSafe(guest).catch_unwind().await.is_err());
    let (ended, place) = oneshot::channel();
    let held = Where(Some(ended));
    drop(bench.run_on_disk(async move { drop(held) }));
    assert_eq!(place.await.unwrap(), "disk");
}

#[tokio::test]
async fn timers_made_away_work() {
    let bench = Bench::new(2 * SECOND_NS);
    bench
        .run(async {
            thread_after_a_slice().await;
            a_timer().await;
        })
        .await;
}

#[tokio::test]
async fn a_guest_away_ends_when_nobody_waits_for_it() {
    struct Ended(Arc<AtomicBool>, Arc<Notify>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
            self.1.notify_one();
        }
    }
    let bench = Bench::new(2 * SECOND_NS);
    let (ended, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let held = Ended(Arc::clone(&ended), Arc::clone(&told));
    let away = Arc::new(Notify::new());
    let guest = bench.run({
        let away = Arc::clone(&away);
        async move {
            let _held = held;
            loop {
                if thread_after_a_slice().await == "background" {
                    away.notify_one();
                }
            }
        }
    });
    tokio::select! {
        () = guest => unreachable!("it computes without end"),
        () = away.notified() => {}
    }
    told.notified().await;
    assert!(ended.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_panic_away_is_the_callers() {
    let bench = Bench::new(2 * SECOND_NS);
    let guest = bench.run(async {
        thread_after_a_slice().await;
        assert!(thread_name().is_empty(), "bug in a host call");
    });
    assert!(AssertUnwindSafe(guest).catch_unwind().await.is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn the_threads_are_idle_ones_to_the_kernel() {
    let policy = Mutex::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            yield_to_everybody();
            // SAFETY: it reads this thread's policy.
            *policy.lock().unwrap() = unsafe { libc::sched_getscheduler(0) };
        });
    });
    assert_eq!(policy.into_inner().unwrap(), libc::SCHED_IDLE);
}

/// Counts its turns, each of which it uses up, until there were `most`.
async fn turns(count: Arc<AtomicU64>, most: u64) {
    poll_fn(|cx| {
        if count.load(Ordering::SeqCst) >= most {
            return Poll::Ready(());
        }
        if thread_name() == "background" {
            count.fetch_add(1, Ordering::SeqCst);
        }
        turn::preempt();
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test]
async fn beyond_their_guarantees_guests_have_turns_by_their_shares() {
    let ticker = Ticker::start(Duration::from_millis(5)).unwrap();
    let guests = Guests::start(1, ticker.presence(), TaskGroup::new()).unwrap();
    let counts: [Arc<AtomicU64>; 3] = Default::default();
    let run = |count: &Arc<AtomicU64>, shares, most| {
        let cpu = Cpu::new(None, shares, Instant::now(), &Arc::default());
        // Nothing that is guaranteed to it makes that good.
        cpu.charge(1000 * SECOND_NS);
        Metered::new(turns(Arc::clone(count), most), cpu, guests.clone(), None)
    };
    // A quarter of a core, a tenth, a hundredth.
    let [quarter, tenth, hundredth] = &counts;
    tokio::select! {
        () = run(quarter, 256, 26_000) => {}
        () = run(tenth, 102, u64::MAX) => {}
        () = run(hundredth, 10, u64::MAX) => {}
    }
    let [quarter, tenth, hundredth] = counts.map(|count| count.load(Ordering::SeqCst));
    // They do not come and go at the same moment.
    assert!((2..=4).contains(&(quarter / tenth)), "{quarter}:{tenth}");
    assert!(
        (20..=32).contains(&(quarter / hundredth)),
        "{quarter}:{hundredth}"
    );
}
