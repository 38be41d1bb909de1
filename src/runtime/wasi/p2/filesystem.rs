//! `wasi:filesystem` 0.2.
