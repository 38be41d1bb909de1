//! Connections that a container keeps open to those it calls.
//!
//! Few and for a short time: what runs on this worker is called without any connection, so these
//! are for guests with a socket of their own and for pods of other workers. A connection is kept
//! while a response is still being read and taken again only when it is ready; one that the other
//! side closed meanwhile is noticed when it is taken, or by the caller's one retry.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use wasmtime_wasi_http::WasiBody;

use super::outgoing::Destination;

const MAX_PER_ENDPOINT: usize = 8;
const MAX_ENDPOINTS: usize = 64;
const IDLE: Duration = Duration::from_secs(15);

type Connection = SendRequest<WasiBody>;

/// See the module.
#[derive(Default)]
pub(super) struct Pool(Mutex<HashMap<Destination, Vec<(Connection, Instant)>>>);

impl Pool {
    /// A connection to `to` that can take a request now.
    pub(super) fn take(&self, to: &Destination) -> Option<Connection> {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = endpoints.get_mut(to)?;
        connections.retain(|(connection, since)| is_usable(connection, *since));
        let index = connections
            .iter()
            .rposition(|(connection, _)| connection.is_ready())?;
        Some(connections.swap_remove(index).0)
    }

    /// Keeps a connection for later.
    pub(super) fn put(&self, to: &Destination, connection: Connection) {
        let mut endpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoints.len() >= MAX_ENDPOINTS && !endpoints.contains_key(to) {
            endpoints.retain(|_, connections| {
                connections.retain(|(connection, since)| is_usable(connection, *since));
                !connections.is_empty()
            });
            if endpoints.len() >= MAX_ENDPOINTS {
                return;
            }
        }
        let connections = endpoints.entry(to.clone()).or_default();
        if connections.len() < MAX_PER_ENDPOINT {
            connections.push((connection, Instant::now()));
        }
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

fn is_usable(connection: &Connection, since: Instant) -> bool {
    !connection.is_closed() && since.elapsed() < IDLE
}
