//! WASI over the pod's filesystem and network: three thin faces of one core.
//!
//! `p2` and `p3` hold wasmtime-wasi's own interfaces for what touches neither (clocks, random,
//! standard streams) and ours for what does; `p1` is native functions over the same core.

mod environment;
pub mod p1;
pub mod p2;
pub mod p3;
