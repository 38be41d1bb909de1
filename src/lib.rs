//! Kubernetes for WASI in one binary.
//!
//! The crate is a house of layers; a module uses what stands below it in its own half, `api` and
//! the ground, and nothing else (`tests/tidy.rs` reads the `use` lines and fails on any other edge).
//! Read it from the bottom up: the ground and the vocabulary, then the control plane (left), then
//! the data plane (right), then the composition roots that build one role each.

// The ground: the only time source, the only randomness, owned tasks, errors.
pub mod backoff;
pub mod clock;
pub mod errors;
pub mod ids;
pub mod replay;
pub mod tasks;

// The vocabulary.
pub mod api;

// The control plane, each line on top of the one before.
pub mod modules;
pub mod store;

pub mod registry;

pub mod cloud;
pub mod controllers;
pub mod scheduler;

pub mod apiserver;

// The data plane: remote clients of the control plane.
pub mod client;
pub mod runtime;

pub mod router;
pub mod worker;

// The composition roots and the command line.
pub mod app;
pub mod cli;
