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
//!
//! For the same reason 0.3 handlers do not go through wasmtime-wasi-http's `ProxyHandler`, which
//! spawns a task per instance, cannot be cancelled and hides its polls from the CPU account.

mod body;
mod error;
mod exchange;
mod handler;
mod holdings;
mod idle;
mod in_flight;
mod incoming;
mod instance;
pub(super) mod outgoing;
mod pool;
mod unread;

pub use body::Body;
pub use error::Error;
pub use handler::Handler;
pub(super) use handler::HandlerConfig;
pub(super) use holdings::Holdings;
pub(super) use incoming::Port;
pub use unread::Unread;
