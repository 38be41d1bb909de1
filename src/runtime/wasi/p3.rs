//! WASI 0.3.

pub mod filesystem;
pub mod sockets;
