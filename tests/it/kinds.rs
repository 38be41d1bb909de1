//! Every kind, by every way: the rows of the table, and custom kinds, through HTTP and through the
//! registry itself. A new row is tested because it is a row.
//!
//! The API stands here without the loops of a control plane, so nothing changes but by a request.

mod behaviours;
mod door;
mod forms;
mod malformed;
mod names;
mod parts;
mod protobuf;
mod watching;
mod world;
