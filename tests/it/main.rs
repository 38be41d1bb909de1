//! One integration binary: the rooms against each other, and journeys on the built binary.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a helper of a test fails the test, too"
)]

mod apiserver;
mod cli;
mod cluster;
mod conformance;
mod controllers;
mod hostile;
mod journeys;
mod kinds;
mod modules;
mod registry;
mod router;
mod runtime_fs;
mod runtime_net;
mod runtime_pods;
mod scheduler;
mod store;
mod versions;
mod worker;
