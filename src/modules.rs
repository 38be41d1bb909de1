//! Wasm artifacts: the bytes of modules, and what can be known of them before anyone runs them.
//!
//! A blob is stored once under the digest of its bytes ([`blobs`]); names and tags are objects of
//! kind `Module` and belong to the registry. Everything that arrives is inspected first
//! ([`inspect`]): what cannot run is refused at the door, with words that name the fix
//! ([`refusal`]), because the same fact found on a worker is a crash loop with a linker's message.
//!
//! This room knows no HTTP, no objects and no wasmtime. Inspection must agree with what the runtime
//! offers; the one table of that is [`crate::api::interfaces`].

pub mod refusal;

pub mod blobs;
pub mod inspect;

pub use blobs::{Blobs, Lease, Upload};
pub use inspect::Inspection;
pub use refusal::Refusal;
