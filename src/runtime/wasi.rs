//! WASI over the pod's filesystem and network: three thin faces of one core.

pub mod p1;
pub mod p2;
pub mod p3;
