//! One run of one container: from its start to the exit that is told once and kept.
//!
//! ```text
//!              stop()                    guest ends, or handler drained
//!   Running ───────────▶ Stopping ───────────────────────────────────▶ Exited
//!      │                    │                                             ▲
//!      └────────────────────┴──────── kill(), trap, limit ────────────────┘
//! ```
//!
//! WASI has no signals, so *stopping* is three things at once: the file named by
//! `$WASMORCH_TERM_FILE` appears, standard input ends where it was kept open (`stdin: true`), and a
//! handler admits no more requests and ends when it has answered those it has. Who does not listen
//! is killed by the worker after the grace period.
//!
//! A kill drops the guest's task at its next yield and makes every instance trap at its next epoch
//! tick, whichever is first. Either way the store and the incarnation are dropped: memory, handles,
//! ports and connections are free before the exit is told. A restart is a new [`Container`].

mod figures;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub(super) use self::figures::{Beside, Counted, Ended, Ends};
pub use self::figures::{ContainerStats, Refused};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wasmtime::Store;

use super::Slot;
use super::artifact::{Artifact, Entry};
use super::background::Metered;
use super::budget::Budget;
use super::cpu::Cpu;
use super::exit::{self, Outcome};
use super::fs::Root;
use super::guests::Guests;
use super::heap;
use super::host::{Host, Launch, Life};
use super::http::Handler;
use super::limits::Memory;
use super::net::Incarnation;
use super::spec::{ContainerSpec, Exit, LogStream};
use super::stdio::Stdin;

/// How long a killed handler's exit waits for requests that are being dropped.
const AFTER_KILL: Duration = Duration::from_millis(500);

/// A container's run, seen from its tasks and from its handles.
pub(super) struct Container {
    pub(super) name: String,
    pub(super) cpu: Arc<Cpu>,
    pub(super) memory: Arc<Memory>,
    /// Open descriptors of a WASI 0.1 program.
    pub(super) descriptors: Arc<Budget>,
    /// Requests in progress in a handler.
    pub(super) requests: Arc<Budget>,
    /// Bytes of output that came too fast.
    pub(super) log_dropped: Arc<AtomicU64>,
    /// Ends at limits that only end.
    pub(super) ends: Arc<Ends>,
    /// What is run beside it.
    pub(super) beside: Beside,
    pub(super) stopped: CancellationToken,
    pub(super) killed: CancellationToken,
    /// Cancelled when it has ended; what was run beside it ends then.
    pub(super) ended: CancellationToken,
    pub(super) handler: OnceLock<Arc<Handler>>,
    /// What it was started with, until it ends.
    pub(super) scene: Mutex<Option<Scene>>,
    pub(super) stdin: Option<Stdin>,
    /// Makes the stop file appear.
    pub(super) term_file: Box<dyn Fn() + Send + Sync>,
    pub(super) exit: watch::Sender<Option<Exit>>,
}

/// What a further program in the container's surroundings finds there.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) spec: ContainerSpec,
    pub(super) root: Arc<Root>,
    pub(super) artifact: Arc<Artifact>,
}

impl Container {
    pub(super) fn scene(&self) -> Option<Scene> {
        self.scene
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn leave_scene(&self) -> Option<Scene> {
        self.scene
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A handle to a container's run; clones are the same run.
#[derive(Clone)]
pub struct ContainerHandle(pub(super) Arc<Container>);

impl ContainerHandle {
    /// The container's name in its pod.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How it ended, once it has; any number may wait.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.0.exit.subscribe();
        let ended = exit.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|exit| exit.clone())
            .unwrap_or_else(Exit::killed)
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.0.exit.borrow().clone()
    }

    /// The sending end of its standard input, if it was started with one.
    pub fn stdin(&self) -> Option<&Stdin> {
        self.0.stdin.as_ref()
    }

    /// Asks it to end in good order; it may take its time or not listen at all.
    pub fn stop(&self) {
        if !self.0.stopped.is_cancelled() {
            (self.0.term_file)();
            self.0.stopped.cancel();
        }
    }

    /// Whether it was asked to end or made to.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.is_cancelled() || self.0.killed.is_cancelled()
    }

    /// Ends it now.
    pub fn kill(&self) {
        self.0.cpu.kill();
        self.0.killed.cancel();
    }
}

/// What a run holds until its exit is told.
pub(super) struct Held {
    pub(super) incarnation: Incarnation,
    /// A command's place in the worker; a handler's requests take theirs in the pool.
    pub(super) slot: Option<Slot>,
}

/// Runs a command to its end.
pub(super) async fn run_command(
    container: Arc<Container>,
    launch: Arc<Launch>,
    artifact: Arc<Artifact>,
    held: Held,
    guests: Guests,
) {
    let cpu = Arc::clone(&launch.cpu);
    let entry = call_entry(Arc::clone(&launch), artifact);
    let guest = Metered::new(entry, cpu, guests, launch.disk.as_ref());
    let ending = Ending::new(&container, launch, held);
    let exit = tokio::select! {
        biased;
        () = container.killed.cancelled() => Exit::killed(),
        outcome = guest => {
            if let Some(ended) = outcome.as_ref().err().and_then(exit::limit) {
                container.ends.count(ended);
            }
            Exit::of(outcome, container.memory.refusal())
        }
    };
    ending.tell(exit);
}

/// Keeps a handler until it is stopped and has answered what it admitted, or is killed.
pub(super) async fn run_handler(
    container: Arc<Container>,
    launch: Arc<Launch>,
    handler: Arc<Handler>,
    held: Held,
    unbind: impl FnOnce() + Send,
) {
    let ending = Ending::new(&container, launch, held);
    let drained = async {
        container.stopped.cancelled().await;
        handler.drain().await;
    };
    let exit = tokio::select! {
        biased;
        () = container.killed.cancelled() => Exit::killed(),
        () = drained => Exit::completed(),
    };
    unbind();
    // Requests in flight trap at their next tick or see the kill where they wait. One whose client
    // does not read is polled by nobody; it ends when that connection does.
    let _ = tokio::time::timeout(AFTER_KILL, handler.drain()).await;
    ending.tell(exit);
}

async fn call_entry(launch: Arc<Launch>, artifact: Arc<Artifact>) -> Outcome {
    let engine = artifact.engine();
    match artifact.entry() {
        Entry::Core { pre, .. } => {
            let mut store = launch.core_store(engine);
            let instance = pre.instantiate_async(&mut store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
            start.call_async(&mut store, ()).await?;
            Ok(Ok(()))
        }
        Entry::Command2(pre) => {
            let mut store = process_store(&launch, &artifact);
            let command = pre.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        }
        Entry::Command3(pre) => {
            let mut store = process_store(&launch, &artifact);
            let command = pre.instantiate_async(&mut store).await?;
            store
                .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
                .await?
        }
        Entry::Handler2(_) | Entry::Handler3(_) => {
            wasmtime::bail!("a handler is not run but called")
        }
    }
}

fn process_store(launch: &Arc<Launch>, artifact: &Artifact) -> Store<Host> {
    launch.store(artifact.engine(), Life::Process)
}

/// Tells the exit once, also when the task that runs the container is dropped or panics; by then
/// all that the run held is free.
struct Ending {
    container: Arc<Container>,
    held: Option<(Arc<Launch>, Held)>,
}

impl Ending {
    fn new(container: &Arc<Container>, launch: Arc<Launch>, held: Held) -> Self {
        Self {
            container: Arc::clone(container),
            held: Some((launch, held)),
        }
    }

    fn tell(mut self, exit: Exit) {
        self.end(exit);
    }

    fn end(&mut self, exit: Exit) {
        let Some((launch, held)) = self.held.take() else {
            return;
        };
        launch.client.close();
        let Held { incarnation, slot } = held;
        drop(incarnation);
        drop(slot);
        if let Some(stdin) = &self.container.stdin {
            stdin.close();
        }
        if exit.is_trap() {
            let text = format!("wasmorch: {}\n", exit.message);
            launch.log.write(LogStream::Stderr, text.as_bytes());
        }
        launch.log.close();
        let exit = exit.with_termination_message(self.container.leave_scene());
        drop(launch);
        heap::freed();
        self.container.ended.cancel();
        self.container.exit.send_replace(Some(exit));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end(Exit {
            message: "the worker gave the container up".to_owned(),
            ..Exit::killed()
        });
    }
}
