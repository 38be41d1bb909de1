//! HTTP between the cluster and guests: what a request, a response and a failure are.
//!
//! A [`Handler`] is a container whose component exports `wasi:http`. It is called as a function,
//! with bodies that stream both ways; whether the caller read the request from a socket, from the
//! wire or from another guest of the same worker does not matter to it.
//!
//! **A request runs on the task that calls [`Handler::call`].** The guest is polled by that task,
//! first while the response is awaited, then while the response's body is read, so nothing crosses
//! a thread and there is nothing to cancel: who loses interest drops the future or the body, and
//! the guest is gone with it. A hand-off to a runtime of its own would cost two wake-ups on another
//! core, more than the guest's whole work (measured: 14–40 µs a request). The price is that guest
//! code runs on an I/O thread, at most two epoch ticks at a time; whoever builds that runtime sets
//! `event_interval(1)`.

mod body;
mod error;

pub use body::Body;
pub use error::Error;
