//! The API server over real sockets: what any client sees, on a throw-away store.

mod custom_resources;
mod harness;
mod kube_client;
mod kube_runtime;
mod kubernetes_service;
mod large;
mod logs;
mod openapi;
mod requests;
mod rights;
mod shares;
mod styles;
mod tokens;
mod uploads;
mod watches;
mod workloads;
