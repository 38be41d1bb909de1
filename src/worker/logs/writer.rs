//! The one thread that writes logs, so that a slow disk makes nobody wait but who writes much.
//!
//! A container's lines wait in its own [`ContainerLog`]; the queue here is one of containers that have
//! any, each in it at most once, so that what a container wrote stays in order and quick writers share
//! one `write`. All that waits together is bounded by [`QUEUED_BYTES`]; [`ContainerLog`] bounds its own
//! part of it. What has to see the files as they will be (readers, removals) stands in the same queue.
//! The queue itself is bounded by the containers, the pods that go and the readers that come.
//!
//! The thread ends when the last log and the [`Writer`] are dropped, and writes what waits first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

use super::file::ContainerLog;

/// What may wait for the disk, of all containers.
const QUEUED_BYTES: usize = 32 << 20;

/// Something for the thread to do.
enum Job {
    Write(Arc<ContainerLog>),
    Tidy(Box<dyn FnOnce() + Send>),
    /// Told when all before it is done.
    Reached(oneshot::Sender<()>),
}

/// The way to the thread; clones are the same.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: Sender<Job>,
    queued: Arc<AtomicUsize>,
}

/// Resolves when the files have what was written before it was made.
pub(super) struct Reached(oneshot::Receiver<()>);

impl Writer {
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, todo) = channel();
        let thread = std::thread::Builder::new().name("logs".to_owned());
        thread.spawn(move || run(&todo))?;
        Ok(Self {
            jobs,
            queued: Arc::default(),
        })
    }

    /// Puts a log with something to write in the queue; its owner does so once.
    pub(super) fn write(&self, log: Arc<ContainerLog>) {
        self.submit(Job::Write(log));
    }

    /// Does something with the files, after all that was to be written before.
    pub(super) fn tidy(&self, work: impl FnOnce() + Send + 'static) {
        self.submit(Job::Tidy(Box::new(work)));
    }

    /// For who must see what was written before this call.
    pub(super) fn reached(&self) -> Reached {
        let (reached, receiver) = oneshot::channel();
        self.submit(Job::Reached(reached));
        Reached(receiver)
    }

    /// Counts bytes that wait from now on.
    pub(super) fn queue(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that do not wait any longer.
    pub(super) fn unqueue(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What may come, as far as all containers together go.
    pub(super) fn room(&self) -> usize {
        QUEUED_BYTES.saturating_sub(self.queued.load(Ordering::Relaxed))
    }

    fn submit(&self, job: Job) {
        // The thread lives as long as any sender, unless it panicked: then logs are lost, not guests.
        let _ = self.jobs.send(job);
    }
}

impl Reached {
    pub(super) async fn wait(self) {
        // Whoever dropped it has ended, and writes nothing any more.
        let _ = self.0.await;
    }
}

fn run(todo: &Receiver<Job>) {
    while let Ok(job) = todo.recv() {
        match job {
            Job::Write(log) => log.write_queued(),
            Job::Tidy(work) => work(),
            // Who asked may have gone.
            Job::Reached(reached) => drop(reached.send(())),
        }
    }
}
