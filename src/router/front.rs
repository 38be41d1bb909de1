//! What all lanes of the router share: the table, the way to the workers, the limits.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::dial::Dialer;
use super::table::RoutingTable;

/// Bounds on what a client or a pod may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Client connections of one lane.
    pub connections: usize,
    /// A client's request head, and the silence between two requests.
    pub head_timeout: Duration,
    /// The wait for a pod's response head.
    pub response_timeout: Duration,
    /// Silence inside a body, or of an upgraded or passed-through connection.
    pub idle_timeout: Duration,
    pub headers: usize,
    pub head_bytes: usize,
    /// Connections to pods that a lane keeps for reuse, for each pod.
    pub idle_upstreams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16 << 10,
            head_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(5),
            headers: 100,
            head_bytes: 64 << 10,
            idle_upstreams: 256,
        }
    }
}

/// See the module.
pub struct Front {
    table: ArcSwap<RoutingTable>,
    changed: watch::Sender<u64>,
    pub dialer: Dialer,
    pub limits: Limits,
}

impl Front {
    pub fn new(dialer: Dialer, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            table: ArcSwap::default(),
            changed: watch::Sender::new(0),
            dialer,
            limits,
        })
    }

    /// Replaces the table; the next request is routed by it.
    pub fn publish(&self, table: RoutingTable) {
        self.table.store(Arc::new(table));
        self.changed.send_modify(|version| *version += 1);
    }

    /// The table of this moment. Not to be held across a wait.
    pub fn table(&self) -> arc_swap::Guard<Arc<RoutingTable>> {
        self.table.load()
    }

    /// Tells when the table was replaced.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
