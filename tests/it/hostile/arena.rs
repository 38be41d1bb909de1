//! A worker with one well-behaved handler, in which attacks happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};
use wasmorch::runtime::http::{Body, Handler};
use wasmorch::runtime::spec::{Exit, LogSink};
use wasmorch::runtime::{Artifact, ContainerHandle, ContainerStats, PodSandbox, Tuning};

use crate::runtime_pods::bench::{Bench, Log, container, ended, pod_spec, until, within};
use crate::runtime_pods::guests::{ANSWER, handler};

/// Requests that the neighbour answers before and at least during an attack.
const CALLS: usize = 200;
/// How much slower its slowest hundredth may become, and what is never too slow.
const FACTOR: u32 = 20;
const NEVER_SLOW: Duration = Duration::from_millis(500);
/// What a process may keep of an attack: allocators do not give all back at once, and other tests
/// run beside.
const RESIDENT: u64 = 512 << 20;

/// One attack at a time, or the one would be measured as the other's.
static ARENA: Mutex<()> = Mutex::const_new(());

pub(super) struct Arena {
    pub(super) bench: Bench,
    neighbour: Arc<Handler>,
    quiet: Duration,
    /// What the neighbour has answered since the attack began.
    answers: AtomicUsize,
    resident: u64,
    _alone: MutexGuard<'static, ()>,
    _pod: Arc<PodSandbox>,
}

/// A pod under attack from within, and what it used before.
pub(super) struct Attacked {
    pub(super) pod: Arc<PodSandbox>,
    memory: u64,
}

impl Arena {
    pub(super) async fn new() -> Self {
        Self::tuned(|_| {}).await
    }

    pub(super) async fn tuned(tune: impl FnOnce(&mut Tuning)) -> Self {
        let alone = ARENA.lock().await;
        let bench = Bench::tuned(tune);
        let pod = bench.pod("10.64.0.80");
        let artifact = bench.wat(&handler(ANSWER)).await;
        let log: Arc<dyn LogSink> = Arc::new(Log::default());
        pod.start(container("web", &[]), artifact, log).unwrap();
        let neighbour = pod.http_handler(8080).unwrap();
        let mut latencies = Vec::new();
        for _ in 0..CALLS {
            latencies.push(call(&neighbour).await);
        }
        Self {
            bench,
            neighbour,
            quiet: p99(&mut latencies),
            answers: AtomicUsize::new(0),
            resident: resident(),
            _alone: alone,
            _pod: pod,
        }
    }

    pub(super) fn pod(&self) -> Attacked {
        let pod = self.bench.runtime.create_sandbox(pod_spec("10.64.0.66"));
        let pod = pod.unwrap();
        let memory = pod.stats().memory_bytes;
        Attacked { pod, memory }
    }

    /// Does `attack` while the neighbour is called all the time.
    pub(super) async fn during<T>(&self, attack: impl Future<Output = T>) -> T {
        self.answers.store(0, Ordering::Relaxed);
        let mut latencies = Vec::new();
        let mut attack = std::pin::pin!(attack);
        let mut outcome = None;
        while outcome.is_none() || latencies.len() < CALLS {
            latencies.push(call(&self.neighbour).await);
            self.answers.store(latencies.len(), Ordering::Relaxed);
            if outcome.is_none() {
                outcome = tokio::select! {
                    biased;
                    done = &mut attack => Some(done),
                    () = tokio::task::yield_now() => None,
                };
            }
        }
        let answers = latencies.len();
        let (quiet, loud) = (self.quiet, p99(&mut latencies));
        let grown = resident().saturating_sub(self.resident) >> 20;
        let test = std::thread::current().name().map(str::to_owned);
        eprintln!(
            "{}: neighbour p99 {loud:?} (quiet {quiet:?}) of {answers} answers, {grown} MiB more resident",
            test.unwrap_or_default()
        );
        assert!(
            loud <= (quiet * FACTOR).max(NEVER_SLOW),
            "{loud:?}, quiet {quiet:?}"
        );
        outcome.unwrap()
    }

    /// Runs a program to its end in a pod of its own, again and again while the neighbour is measured;
    /// what it took has come back when it has ended.
    pub(super) async fn run(&self, text: &str) -> (Exit, ContainerStats) {
        let attacked = self.pod();
        let artifact = self.bench.wat(text).await;
        let again_and_again = async {
            loop {
                let running = start(&attacked.pod, &artifact);
                let exit = ended(&running).await;
                if self.answers.load(Ordering::Relaxed) >= CALLS {
                    return (exit, running.stats());
                }
            }
        };
        let end = self.during(again_and_again).await;
        attacked.close(self).await;
        end
    }

    /// The same for a program that only ends when it is killed, once `is_at_it`.
    pub(super) async fn run_until(
        &self,
        text: &str,
        is_at_it: impl Fn(&ContainerStats) -> bool,
    ) -> (Exit, ContainerStats) {
        let attacked = self.pod();
        let artifact = self.bench.wat(text).await;
        let running = start(&attacked.pod, &artifact);
        let exit = self
            .during(async {
                until("it is at it", || is_at_it(&running.stats())).await;
                let killed = Instant::now();
                running.kill();
                let exit = ended(&running).await;
                assert!(
                    killed.elapsed() < Duration::from_secs(5),
                    "{:?}",
                    killed.elapsed()
                );
                exit
            })
            .await;
        let stats = running.stats();
        attacked.close(self).await;
        (exit, stats)
    }
}

impl Attacked {
    /// Ends the pod; nothing of what it took is left, its files aside.
    pub(super) async fn close(self, arena: &Arena) {
        within(self.pod.close()).await;
        let stats = self.pod.stats();
        let taken = stats.memory_bytes.saturating_sub(self.memory);
        // Inodes and names of its files are charged too, and end with the sandbox.
        let kept = if stats.inodes > 100 {
            512 * stats.inodes
        } else {
            16 << 10
        };
        assert!(
            taken <= stats.storage_bytes + kept,
            "{taken} are still charged: {stats:?}"
        );
        assert_eq!(stats.sockets, 0);
        for (name, container) in &stats.containers {
            assert_eq!(
                (container.memory_bytes, container.descriptors),
                (0, 0),
                "{name}"
            );
            assert_eq!(container.in_flight, 0, "{name}");
        }
        drop(self.pod);
        let left = resident().saturating_sub(arena.resident);
        assert!(left < RESIDENT, "{} MiB are still resident", left >> 20);
        assert_eq!(arena.bench.runtime.instances(), 0);
        // Its address is free: nothing holds the sandbox.
        drop(arena.pod());
    }
}

pub(super) fn start(pod: &Arc<PodSandbox>, artifact: &Arc<Artifact>) -> ContainerHandle {
    let log: Arc<dyn LogSink> = Arc::new(Log::default());
    pod.start(container("app", &[]), Arc::clone(artifact), log)
        .unwrap()
}

async fn call(handler: &Arc<Handler>) -> Duration {
    let since = Instant::now();
    let request = http::Request::get("/").body(Body::empty()).unwrap();
    let response = within(handler.call(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    since.elapsed()
}

fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: u64| pages * 4096)
}
