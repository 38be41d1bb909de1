//! Pods on the runtime.

mod bench;
