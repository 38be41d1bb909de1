//! The API server over real sockets: what any client sees, on a throw-away store.

mod harness;
mod kube_client;
mod large;
mod logs;
mod requests;
mod rights;
mod tokens;
mod uploads;
mod watches;
mod workloads;
