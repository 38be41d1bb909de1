//! WASI 0.2.

pub mod filesystem;
pub mod sockets;
