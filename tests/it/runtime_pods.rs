//! Pods on the runtime: programs of every kind in sandboxes, on the public interface alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod artifacts;
pub(crate) mod bench;
mod bodies;
pub(crate) mod calls;
mod commands;
#[cfg(target_os = "linux")]
mod disk;
pub(crate) mod echoes;
pub(crate) mod guests;
mod handlers;
mod outside;
pub(crate) mod proposals;
mod signals;
