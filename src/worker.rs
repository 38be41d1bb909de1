//! The worker: node agent, kubelet by another name.

pub mod lifecycle;
pub mod plan;
pub mod probes;
pub mod restart;
