//! Words that the API server and its workers say to each other, and nobody else.

/// The protocol to switch to for a connection to a pod as raw bytes.
pub const RAW_BYTES: &str = "wasmorch-bytes";
