//! The threads that run guests, apart from those that do the worker's I/O.
//!
//! A guest gives its thread back once per slice of some milliseconds. On a runtime with tokio's
//! usual `event_interval` of 61 polls, timers and sockets would wait for 61 such slices (measured:
//! 300 ms); here the driver is asked after every poll. What the worker itself must do in time
//! (leases, probes, status) runs on a runtime without guests.
//!
//! Handlers are the exception: they run on their caller's task (`http`). Whoever computes beyond its
//! share leaves either place for the threads of `background`, and whoever may wait for a disk for those
//! of `disk`.

use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use super::background;
use super::disk::{DISK_THREADS, Lane};
use super::ticker::Presence;
use crate::tasks::TaskGroup;

/// A handle to the guest threads; cheap to clone. They end when all clones are dropped.
#[derive(Clone)]
pub(super) struct Guests {
    threads: Arc<Threads>,
    presence: Presence,
    tasks: TaskGroup,
}

struct Threads {
    handle: Handle,
    background: Handle,
    disk: Handle,
    runtimes: Option<[Runtime; 3]>,
}

impl Guests {
    pub(super) fn start(
        threads: usize,
        presence: Presence,
        tasks: TaskGroup,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("guests")
            .event_interval(1)
            .enable_all()
            .build()?;
        // Without timers and sockets: a guest's own are its home runtime's.
        let background = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("background")
            .on_thread_start(background::yield_to_everybody)
            .max_blocking_threads(DISK_THREADS)
            .build()?;
        // Nobody drives it: only its threads for blocking calls are used, and they come when needed.
        let disk = Builder::new_current_thread()
            .thread_name("disk")
            .max_blocking_threads(DISK_THREADS)
            .build()?;
        Ok(Self {
            threads: Arc::new(Threads {
                handle: runtime.handle().clone(),
                background: background.handle().clone(),
                disk: disk.handle().clone(),
                runtimes: Some([runtime, background, disk]),
            }),
            presence,
            tasks,
        })
    }

    /// Runs `work` on the guest threads; its panic ends it alone.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let _inside = self.threads.handle.enter();
        self.tasks.spawn_contained(name, work)
    }

    /// Runs `work` on threads that get what nobody else wants of the cores.
    pub(super) fn spawn_background(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let _inside = self.threads.background.enter();
        self.tasks.spawn_contained(name, work);
    }

    /// A pod's way to the threads that may wait for a disk.
    pub(super) fn lane(&self) -> Arc<Lane> {
        Lane::new(&self.threads.disk, &self.threads.background)
    }

    /// For who polls a guest.
    pub(super) fn presence(&self) -> Presence {
        self.presence.clone()
    }

    /// The group that owns the tasks.
    pub(super) fn tasks(&self) -> &TaskGroup {
        &self.tasks
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for runtime in self.runtimes.take().into_iter().flatten() {
            // The last clone may be dropped by a task, which must not block.
            runtime.shutdown_background();
        }
    }
}
