//! Whom a request reaches, once its name is resolved and routed.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::HOPS;
use crate::runtime::http::Handler;

/// Whom a request reaches.
pub(super) enum Target {
    Handler(Arc<Handler>, SocketAddr),
    Pod(SocketAddr),
    /// A pod of this worker that has stopped.
    Gone(SocketAddr),
    Outside(SocketAddr),
}

impl Target {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Handler(_, to) | Self::Pod(to) | Self::Gone(to) | Self::Outside(to) => *to,
        }
    }

    /// Tells the others of the cluster, and nobody else, how many handlers a request has passed.
    pub(super) fn mark(&self, headers: &mut HeaderMap, hops: u32) {
        match self {
            Self::Handler(..) | Self::Pod(_) | Self::Gone(_) => {
                headers.insert(HOPS, HeaderValue::from(hops));
            }
            Self::Outside(_) => drop(headers.remove(HOPS)),
        }
    }
}
