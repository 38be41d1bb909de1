//! The strategies, one file per kind; what several kinds share has a file named for what it is.

pub(crate) mod config_map;
pub(crate) mod deployment;
pub(crate) mod endpoint_slice;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod ingress;
pub(crate) mod ingress_class;
pub(crate) mod lease;
pub(crate) mod module;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod replica_set;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;

mod cell;
mod config_data;
mod container;
mod env;
mod label_selector;
mod pod_spec;
mod pod_status_word;
mod pod_template;
mod port;
mod probe;
mod volume;
