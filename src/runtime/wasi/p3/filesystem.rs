//! `wasi:filesystem` 0.3.
