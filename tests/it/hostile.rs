//! Hostile guests: each takes as much as it can of one thing. It is contained, its limit is named,
//! a neighbour in the same worker goes on answering, and what it took comes back.
//!
//! The bound on the neighbour is generous because tests run beside each other on small machines; what
//! was measured is printed. `wasmorch bench hostile` is the strict measurement.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arena;
pub(crate) mod attacks;
mod bytes;
mod compile;
mod counts;
mod guests;
mod loops;
mod memory;
mod requests;
