//! Pods on the runtime: programs of every kind in sandboxes, on the public interface alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod artifacts;
mod bench;
mod commands;
mod guests;
mod handlers;
mod proposals;
