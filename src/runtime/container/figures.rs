//! What a container uses, and what its limits cost it.
//!
//! A command that is run beside it (`exec`, a probe, a hook) counts as its own, as in a cgroup: what it
//! computed and what was refused to it stays in the container's figures when the command has ended.
//! Its memory is the pod's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::ContainerHandle;

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// CPU time of all its instances.
    pub cpu: Duration,
    /// Time it had to rest because of its CPU limit.
    pub throttled: Duration,
    /// Linear memories and tables, of all its instances.
    pub memory_bytes: u64,
    /// The most they ever were.
    pub memory_peak_bytes: u64,
    /// Requests admitted, for a handler.
    pub requests: u64,
    /// Those of them that the guest did not answer.
    pub requests_failed: u64,
    /// Those in progress.
    pub in_flight: u32,
    /// Open descriptors of a WASI 0.1 program.
    pub descriptors: u64,
    /// What its limits cost it.
    pub refused: Refused,
}

/// What was refused to a container or lost, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Growths of linear memories and tables.
    pub memory: u64,
    /// Descriptors that a WASI 0.1 program wanted.
    pub descriptors: u64,
    /// Programs and requests that were ended because they held too many host objects or handles.
    pub handles: u64,
    /// Those that were ended because they handed too much to the host in one call.
    pub host_calls: u64,
    /// Requests that found as many in progress as may be.
    pub requests: u64,
    /// Bytes of output above the log rate.
    pub log_bytes: u64,
}

/// A limit by number at which nothing is refused: it ends the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Ended {
    Handles,
    HostCall,
}

/// How often that happened.
pub(in crate::runtime) struct Ends {
    handles: AtomicU64,
    host_calls: AtomicU64,
    limited: Arc<Notify>,
}

impl Ends {
    pub(in crate::runtime) fn new(limited: &Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            handles: AtomicU64::new(0),
            host_calls: AtomicU64::new(0),
            limited: Arc::clone(limited),
        })
    }

    pub(in crate::runtime) fn count(&self, ended: Ended) {
        let count = match ended {
            Ended::Handles => &self.handles,
            Ended::HostCall => &self.host_calls,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.limited.notify_one();
    }
}

/// The commands beside a container: those that run, and what the others came to.
#[derive(Default)]
pub(in crate::runtime) struct Beside(Mutex<Commands>);

#[derive(Default)]
struct Commands {
    running: Vec<ContainerHandle>,
    ended: ContainerStats,
}

impl Beside {
    fn with<T>(&self, work: impl FnOnce(&mut Commands) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A command's place in its container's figures, for as long as it runs.
pub(in crate::runtime) struct Counted {
    container: ContainerHandle,
    command: ContainerHandle,
}

impl Counted {
    pub(in crate::runtime) fn new(container: ContainerHandle, command: ContainerHandle) -> Self {
        let running = command.clone();
        container
            .0
            .beside
            .with(|commands| commands.running.push(running));
        Self { container, command }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.container.0.beside.with(|commands| {
            let is_other = |other: &ContainerHandle| !Arc::ptr_eq(&other.0, &self.command.0);
            commands.running.retain(is_other);
            commands.ended.add(&self.command.stats());
        });
    }
}

impl ContainerStats {
    /// Counts a command that was run beside it.
    fn add(&mut self, command: &Self) {
        self.cpu += command.cpu;
        self.throttled += command.throttled;
        self.refused.memory += command.refused.memory;
        self.refused.descriptors += command.refused.descriptors;
        self.refused.handles += command.refused.handles;
        self.refused.host_calls += command.refused.host_calls;
    }
}

impl ContainerHandle {
    /// What it uses now, commands beside it included.
    pub fn stats(&self) -> ContainerStats {
        let mut stats = self.own_stats();
        self.0.beside.with(|commands| {
            stats.add(&commands.ended);
            for command in &commands.running {
                stats.add(&command.own_stats());
            }
        });
        stats
    }

    fn own_stats(&self) -> ContainerStats {
        let container = &self.0;
        let (in_flight, requests, requests_failed) = container
            .handler
            .get()
            .map_or((0, 0, 0), |handler| handler.counts());
        ContainerStats {
            cpu: container.cpu.used(),
            throttled: container.cpu.throttled(),
            memory_bytes: container.memory.used(),
            memory_peak_bytes: container.memory.peak(),
            requests,
            requests_failed,
            in_flight,
            descriptors: container.descriptors.used(),
            refused: Refused {
                memory: container.memory.budget().refusals(),
                descriptors: container.descriptors.refusals(),
                handles: container.ends.handles.load(Ordering::Relaxed),
                host_calls: container.ends.host_calls.load(Ordering::Relaxed),
                requests: container.requests.refusals(),
                log_bytes: container.log_dropped.load(Ordering::Relaxed),
            },
        }
    }
}
