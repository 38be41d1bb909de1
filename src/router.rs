//! The router's room; `tunnel` is shared with the worker.

pub mod tunnel;
