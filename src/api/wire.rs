//! Words that the API server and its workers say to each other, and nobody else.

/// The protocol to switch to for a connection to a pod as raw bytes.
pub const RAW_BYTES: &str = "wasmorch-bytes";

/// What commands and attaching speak over a WebSocket, best first; the last is for those who name
/// none.
pub const COMMAND_PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];
