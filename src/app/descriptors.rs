//! Descriptors: a process may open as many as the system lets it.
//!
//! The soft limit that a shell gives is often 1,024, for programs that still use `select`; connections,
//! files of volumes and sockets of guests that lead out are one descriptor each. As Go programs do, each
//! role raises its soft limit to the hard one before it opens anything.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of descriptors to the hard one; a failure is told and changes nothing.
pub(super) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
