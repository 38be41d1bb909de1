//! The worker: node agent, kubelet by another name.

pub mod addresses;
pub mod checkpoint;
pub mod env;
pub mod events;
pub mod expand;
pub mod fence;
pub mod fields;
pub mod images;
pub mod lifecycle;
pub mod logs;
pub mod objects;
pub mod plan;
pub mod probes;
pub mod qos;
pub mod restart;
pub mod specs;
pub mod status;
pub mod status_sender;
pub mod volumes;
pub mod wire;
