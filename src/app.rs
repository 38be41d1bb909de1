//! The composition roots: one role of the binary each, `Config → build → run → drain`.

pub mod worker;
