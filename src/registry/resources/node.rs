//! Nodes: the workers. A worker registers itself with its status, so a node is created with it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use crate::api::names;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Status"),
    Column::text("Roles"),
    Column::text("Age"),
    Column::text("Version"),
    Column::text("Internal-IP").wide(),
    Column::text("External-IP").wide(),
    Column::text("OS-Image").wide(),
    Column::text("Kernel-Version").wide(),
    Column::text("Container-Runtime").wide(),
];
pub(crate) const FIELDS: &[Selectable] = &[Selectable::flag("spec.unschedulable")];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

impl Strategy for Node {
    fn prepare_create(&mut self) {
        self.spec.get_or_insert_default();
        self.status.get_or_insert_default();
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = Path::Root.field("spec");
        let Some(found) = &self.spec else { return };
        let taints = found.taints.as_deref().unwrap_or_default();
        validate_taints(&spec.field("taints"), taints, errors);
        if let Some(cidr) = &found.pod_cidr
            && !is_cidr(cidr)
        {
            errors.invalid(
                &spec.field("podCIDR"),
                cidr,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let cidr = |node: &Self| {
            let spec = node.spec.as_ref()?;
            spec.pod_cidr.clone().filter(|cidr| !cidr.is_empty())
        };
        if let Some(old) = cidr(old)
            && cidr(self).as_ref() != Some(&old)
        {
            let spec = Path::Root.field("spec");
            errors.forbidden(
                &spec.field("podCIDR"),
                "node updates may not change podCIDR except from \"\" to valid",
            );
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.as_ref();
        let info = status.and_then(|status| status.node_info.as_ref());
        vec![
            cell::name(&self.metadata),
            status_words(self).into(),
            roles(self),
            cell::age(&self.metadata, now),
            info.map_or_else(String::new, |info| info.kubelet_version.clone())
                .into(),
            address(self, "InternalIP"),
            address(self, "ExternalIP"),
            unknown(info.map(|info| info.os_image.as_str())),
            unknown(info.map(|info| info.kernel_version.as_str())),
            unknown(info.map(|info| info.container_runtime_version.as_str())),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "sample"}})
    }
}

fn validate_taints(path: &Path<'_>, taints: &[Taint], errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let at = path.index(index);
        if !names::is_qualified_name(&taint.key) {
            errors.invalid(&at.field("key"), &taint.key, names::QUALIFIED_NAME_RULE);
        }
        errors.one_of(
            &at.field("effect"),
            Some(&taint.effect),
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        let value = taint.value.as_deref().unwrap_or_default();
        if !names::is_label_value(value) {
            errors.invalid(&at.field("value"), value, names::LABEL_VALUE_RULE);
        }
        if !seen.insert((&taint.key, &taint.effect)) {
            errors.duplicate(&at, &format!("{}:{}", taint.key, taint.effect));
        }
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    match (address.parse(), bits.parse::<u8>()) {
        (Ok(std::net::IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(std::net::IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    }
}

fn status_words(node: &Node) -> String {
    let conditions = node.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.flatten().find(|found| found.type_ == "Ready");
    let mut words = match ready {
        Some(ready) if ready.status == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        words.push_str(",SchedulingDisabled");
    }
    words
}

fn roles(node: &Node) -> Value {
    let labels = node.metadata.labels.iter().flatten();
    let roles = labels.filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        _ if key == "kubernetes.io/role" && !value.is_empty() => Some(value.clone()),
        _ => None,
    });
    cell::joined(roles.collect::<BTreeSet<_>>())
}

fn address(node: &Node, kind: &str) -> Value {
    let addresses = node.status.iter().flat_map(|status| &status.addresses);
    let found = addresses.flatten().find(|address| address.type_ == kind);
    cell::or_none(found.map(|address| address.address.as_str()))
}

fn unknown(text: Option<&str>) -> Value {
    text.filter(|text| !text.is_empty())
        .unwrap_or("<unknown>")
        .into()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn taints_and_ranges_are_checked() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        check::<Node>(
            "/spec",
            &json!({"taints": [taint], "podCIDR": "10.64.0.0/19"}),
            &[],
        );
        check::<Node>(
            "/spec",
            &json!({"taints": [taint, taint]}),
            &["spec.taints[1]: Duplicate value: \"a:NoSchedule\""],
        );
        check::<Node>(
            "/spec",
            &json!({"taints": [{"key": "a", "effect": "Never"}]}),
            &[
                "spec.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        );
        check::<Node>(
            "/spec",
            &json!({"podCIDR": "10.64.0.0/33"}),
            &[
                "spec.podCIDR: Invalid value: \"10.64.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ],
        );
    }

    #[test]
    fn states_and_roles_read_like_kubectl() {
        let words = |spec: Value, ready: &str| {
            let node = json!({"spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            status_words(&serde_json::from_value(node).unwrap())
        };
        assert_eq!(words(json!({}), "True"), "Ready");
        assert_eq!(words(json!({}), "Unknown"), "NotReady");
        assert_eq!(
            words(json!({"unschedulable": true}), "True"),
            "Ready,SchedulingDisabled"
        );
        let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": ""}}});
        assert_eq!(roles(&serde_json::from_value(node).unwrap()), "worker");
        assert_eq!(roles(&Node::default()), cell::NONE);
        let labels = json!({"kubernetes.io/role": "worker", "node-role.kubernetes.io/edge": "",
            "node-role.kubernetes.io/worker": ""});
        let node = json!({"metadata": {"labels": labels}});
        assert_eq!(roles(&serde_json::from_value(node).unwrap()), "edge,worker");
    }
}
