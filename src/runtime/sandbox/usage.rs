//! What a pod uses, and what its limits refused, for stats and events.

use super::PodSandbox;
use crate::api::quantity::readable_bytes;
use crate::runtime::container::ContainerStats;
use crate::runtime::refusals;

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxStats {
    /// Memory of all kinds: linear memories, tables, files, socket buffers.
    pub memory_bytes: u64,
    /// Bytes and inodes of the in-memory filesystem.
    pub storage_bytes: u64,
    pub inodes: u64,
    /// Open virtual sockets.
    pub sockets: u64,
    /// Sockets, and bytes or inodes of storage, that were refused.
    pub sockets_refused: u64,
    pub storage_refused: u64,
    /// Requests to others that found as many on their way as may be.
    pub calls_refused: u64,
    /// By container, the last run of each.
    pub containers: Vec<(String, ContainerStats)>,
}

impl PodSandbox {
    /// What it uses now.
    pub fn stats(&self) -> SandboxStats {
        let usage = self.fs.usage();
        SandboxStats {
            memory_bytes: self.budget.used(),
            storage_bytes: usage.bytes,
            inodes: usage.inodes,
            sockets: self.net.sockets(),
            sockets_refused: self.net.socket_budget().refusals(),
            storage_refused: self.fs.refusals(),
            calls_refused: self.calls.refusals(),
            containers: self
                .containers()
                .iter()
                .map(|(name, container)| (name.clone(), container.stats()))
                .collect(),
        }
    }

    /// Resolves when the pod's files have asked for more than it may have; says what it has and
    /// what it may have.
    pub async fn storage_full(&self) -> String {
        self.fs.full().await;
        let (usage, limits) = (self.fs.usage(), &self.spec.limits);
        let (memory, readable) = (self.budget.used(), readable_bytes);
        format!(
            "writes were refused: files have {} of {} and {} of {} inodes, the pod {} of {} memory",
            readable(usage.bytes),
            readable(limits.storage_bytes),
            usage.inodes,
            limits.inodes,
            readable(memory),
            readable(limits.memory_bytes),
        )
    }

    /// Resolves when a limit has refused something to the pod, or slowed it; says which, with numbers.
    pub async fn limit_reached(&self) -> String {
        loop {
            self.limited.notified().await;
            let limits = &self.spec.limits;
            let said = refusals::words(&self.stats(), limits, &self.shared.tuning);
            if let Some(said) = said {
                return said;
            }
        }
    }
}
