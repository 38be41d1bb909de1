//! The strategies, one file per kind; what several kinds share has a file named for what it is.

pub(crate) mod config_map;
pub(crate) mod controller_revision;
pub(crate) mod cron_job;
pub(crate) mod custom_resource_definition;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod endpoint_slice;
pub(crate) mod endpoints;
pub(crate) mod ephemeral;
pub(crate) mod event;
pub(crate) mod horizontal_pod_autoscaler;
pub(crate) mod ingress;
pub(crate) mod ingress_class;
pub(crate) mod job;
pub(crate) mod lease;
pub(crate) mod limit_range;
pub(crate) mod module;
pub(crate) mod namespace;
pub(crate) mod network_policy;
pub(crate) mod node;
pub(crate) mod persistent_volume;
pub(crate) mod persistent_volume_claim;
pub(crate) mod pod;
pub(crate) mod pod_disruption_budget;
pub(crate) mod pod_template_object;
pub(crate) mod priority_class;
pub(crate) mod replica_set;
pub(crate) mod replication_controller;
pub(crate) mod resource_quota;
pub(crate) mod role;
pub(crate) mod role_binding;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;
pub(crate) mod stateful_set;
pub(crate) mod storage_class;

mod access_mode;
mod affinity;
mod cell;
mod config_data;
mod container;
mod env;
mod label_selector;
mod lifecycle;
mod pod_annotations;
mod pod_spec;
mod pod_status_word;
mod pod_template;
mod port;
mod probe;
mod topology_spread;
mod volume;

/// The sample of a kind, changed at a JSON pointer, and what validation has to say about it.
#[cfg(test)]
fn check<K: super::strategy::Strategy>(
    pointer: &str,
    value: &serde_json::Value,
    expected: &[&str],
) {
    let mut object = K::sample();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value.clone();
    let mut object: K = super::decode::decode(&object).unwrap().object;
    object.metadata_mut().namespace = Some("default".to_owned());
    object.set_defaults();
    let mut errors = super::field_error::Errors::default();
    object.validate(&mut errors);
    let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{pointer} {value}");
}
