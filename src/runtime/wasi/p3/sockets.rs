//! `wasi:sockets` 0.3.
