//! Pods on the runtime: programs of every kind in sandboxes, on the public interface alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod artifacts;
mod bench;
mod bodies;
mod calls;
mod commands;
pub(crate) mod echoes;
mod guests;
mod handlers;
mod proposals;
