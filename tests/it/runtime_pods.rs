//! Pods on the runtime: programs of every kind in sandboxes, on the public interface alone.

mod artifacts;
mod bench;
mod commands;
mod guests;
mod handlers;
