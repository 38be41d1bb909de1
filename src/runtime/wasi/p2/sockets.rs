//! `wasi:sockets` 0.2.
