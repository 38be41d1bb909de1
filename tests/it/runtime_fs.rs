//! The filesystem through WASI 0.1, 0.2 and 0.3: small guests on a plain engine.
//!
//! The 0.1 guest exports every function of `wasi_snapshot_preview1` again, so that a test can call
//! them one by one with its own memory; what is tested is the host, not a libc.

#![expect(clippy::unwrap_used, reason = "a test's support may fail the test")]

mod guest;
mod p1;
mod p1_sockets;
mod p2;
mod world;

use std::sync::Arc;

use wasmorch::clock::Clock;
use wasmorch::runtime::budget::Budget;
use wasmorch::runtime::fs::{HostVolumes, PodFs, Root, RootSpec};
use wasmorch::runtime::spec::{PodLimits, VolumeSpec};

/// A pod of 64 MiB with one container that sees only the root.
fn root_with(volumes: &[VolumeSpec], spec: &RootSpec<'_>) -> Arc<Root> {
    let limits = PodLimits {
        memory_bytes: 64 << 20,
        storage_bytes: 64 << 20,
        inodes: 10_000,
        sockets: 100,
    };
    let budget = Budget::new(limits.memory_bytes);
    let pod = PodFs::new(
        &limits,
        &budget,
        volumes,
        &HostVolumes::default(),
        Clock::system(),
    )
    .unwrap();
    pod.root(spec).unwrap()
}

fn root() -> Arc<Root> {
    root_with(&[], &RootSpec::default())
}
