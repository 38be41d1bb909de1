//! The vocabulary: what the API's words mean, without any behaviour of the cluster.
//!
//! Kubernetes' own types come from `k8s-openapi`; they are the form on the wire and in the store.
//! Here are the small parsers, formatters and questions that every layer asks of them, and the few
//! words that are wasmorch's own (`module`). Nothing in here waits, reads a clock or keeps state.

pub mod annotations;
pub mod condition;
pub mod cron;
pub mod custom_resource;
pub mod duration;
pub mod event_name;
pub mod image;
pub mod image_files;
pub mod interfaces;
pub mod job;
pub mod json_path;
pub mod module;
pub mod names;
pub mod node_affinity;
pub mod object;
pub mod owner;
pub mod pod;
pub mod priority;
pub mod quantity;
pub mod replication_controller;
pub mod selector;
pub mod share;
pub mod storage;
pub mod subnet;
pub mod table;
pub mod unseen;
pub mod wire;
