//! Pods on the runtime: programs of every kind in sandboxes, on the public interface alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod artifacts;
pub(crate) mod bench;
mod bodies;
mod calls;
mod commands;
pub(crate) mod echoes;
pub(crate) mod guests;
mod handlers;
mod outside;
pub(crate) mod proposals;
mod signals;
