//! NetworkPolicies: who may connect to some pods, and where these may connect to.
//!
//! The workers enforce them (`worker/policies`); here they are filled in and judged. SCTP may be
//! written, as in Kubernetes, and matches nothing, since no pod here speaks it.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, label_selector, port};
use crate::api::subnet::Subnet;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Pod-Selector"),
    Column::text("Age"),
];

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const TYPES: &[&str] = &["Egress", "Ingress"];
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

impl Strategy for NetworkPolicy {
    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let has_egress = spec.egress.as_ref().is_some_and(|it| !it.is_empty());
            let types = ["Ingress"]
                .into_iter()
                .chain(has_egress.then_some("Egress"));
            spec.policy_types = Some(types.map(str::to_owned).collect());
        }
        let ingress = spec.ingress.iter_mut().flatten();
        let egress = spec.egress.iter_mut().flatten();
        let ports = ingress.map(|rule| &mut rule.ports);
        let ports = ports.chain(egress.map(|rule| &mut rule.ports));
        for port in ports.flatten().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let empty = NetworkPolicySpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        validate_selector(
            &path.field("podSelector"),
            spec.pod_selector.as_ref(),
            errors,
        );
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let rules = path.field("ingress");
            let at = rules.index(index);
            validate_ports(&at.field("ports"), rule.ports.as_deref(), errors);
            validate_peers(&at.field("from"), rule.from.as_deref(), errors);
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let rules = path.field("egress");
            let at = rules.index(index);
            validate_ports(&at.field("ports"), rule.ports.as_deref(), errors);
            validate_peers(&at.field("to"), rule.to.as_deref(), errors);
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let at = path.field("policyTypes");
        if types.len() > TYPES.len() {
            errors.invalid_json(&at, &types, "may not specify more than two policyTypes");
            return;
        }
        for (index, found) in types.iter().enumerate() {
            errors.one_of(&at.index(index), Some(found), TYPES);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let selector = self.spec.as_ref().and_then(|it| it.pod_selector.as_ref());
        let selector = selector.map(cell::selector);
        vec![
            cell::name(&self.metadata),
            cell::or_none(selector.as_deref()),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "sample"},
            "spec": {"podSelector": {"matchLabels": {"app": "sample"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
                    "ports": [{"protocol": "TCP", "port": 80}]}]}})
    }
}

fn validate_selector(path: &Path<'_>, selector: Option<&LabelSelector>, errors: &mut Errors) {
    if let Some(selector) = selector {
        label_selector::validate(path, selector, errors);
    }
}

fn validate_ports(path: &Path<'_>, ports: Option<&[NetworkPolicyPort]>, errors: &mut Errors) {
    for (index, found) in ports.unwrap_or_default().iter().enumerate() {
        let at = path.index(index);
        errors.one_of(&at.field("protocol"), found.protocol.as_deref(), PROTOCOLS);
        let (port_path, end_path) = (at.field("port"), at.field("endPort"));
        if let Some(port) = &found.port {
            port::validate_reference(&port_path, port, errors);
        }
        let Some(end) = found.end_port else { continue };
        match &found.port {
            Some(IntOrString::Int(port)) => {
                if end < *port {
                    errors.invalid(&end_path, end, "must be greater than or equal to `port`");
                }
                port::validate_number(&end_path, end, errors);
            }
            Some(IntOrString::String(_)) => errors.invalid(
                &end_path,
                end,
                "may not be specified when `port` is non-numeric",
            ),
            None => errors.invalid(
                &end_path,
                end,
                "may not be specified when `port` is not specified",
            ),
        }
    }
}

fn validate_peers(path: &Path<'_>, peers: Option<&[NetworkPolicyPeer]>, errors: &mut Errors) {
    for (index, peer) in peers.unwrap_or_default().iter().enumerate() {
        let at = path.index(index);
        validate_selector(&at.field("podSelector"), peer.pod_selector.as_ref(), errors);
        let namespaces = peer.namespace_selector.as_ref();
        validate_selector(&at.field("namespaceSelector"), namespaces, errors);
        let has_selector = peer.pod_selector.is_some() || namespaces.is_some();
        match &peer.ip_block {
            Some(block) => {
                validate_block(&at.field("ipBlock"), block, errors);
                if has_selector {
                    errors.forbidden(&at, "may not specify both ipBlock and another peer");
                }
            }
            None if has_selector => {}
            None => errors.required(&at, "must specify a peer"),
        }
    }
}

fn validate_block(path: &Path<'_>, block: &IPBlock, errors: &mut Errors) {
    let at = path.field("cidr");
    if block.cidr.is_empty() {
        return errors.required(&at, "");
    }
    let Some(whole) = Subnet::parse(&block.cidr) else {
        return errors.invalid(&at, &block.cidr, CIDR);
    };
    let list = path.field("except");
    for (index, text) in block.except.iter().flatten().enumerate() {
        let at = list.index(index);
        match Subnet::parse(text) {
            None => errors.invalid(&at, text, CIDR),
            Some(part) if is_strictly_in(part, whole) => {}
            Some(_) => errors.invalid(&at, text, "must be a strict subset of `cidr`"),
        }
    }
}

fn is_strictly_in(part: Subnet, whole: Subnet) -> bool {
    let ip: IpAddr = part.ip;
    whole.contains(ip) && whole.prefix < part.prefix
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn check_peer(peer: &Value, expected: &[&str]) {
        let rule = json!([{"from": [peer]}]);
        check::<NetworkPolicy>("/spec/ingress", &rule, expected);
    }

    #[test]
    fn peers_are_checked_in_kubernetes_words() {
        check_peer(&json!({"podSelector": {}}), &[]);
        check_peer(&json!({"namespaceSelector": {}, "podSelector": {}}), &[]);
        let at = "spec.ingress[0].from[0]";
        check_peer(
            &json!({}),
            &[&format!("{at}: Required value: must specify a peer")],
        );
        check_peer(
            &json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
            &[&format!(
                "{at}: Forbidden: may not specify both ipBlock and another peer"
            )],
        );
        check_peer(
            &json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            &[&format!(
                "{at}.namespaceSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            )],
        );
        check_peer(
            &json!({"ipBlock": {"cidr": ""}}),
            &[&format!("{at}.ipBlock.cidr: Required value")],
        );
        check_peer(
            &json!({"ipBlock": {"cidr": "10.0.0.0"}}),
            &[&format!(
                "{at}.ipBlock.cidr: Invalid value: \"10.0.0.0\": {CIDR}"
            )],
        );
        check_peer(
            &json!({"ipBlock": {"cidr": "10.0.0.0/8",
                "except": ["10.1.0.0/16", "x", "10.0.0.0/8", "11.0.0.0/16", "fd00::/64"]}}),
            &[
                &format!("{at}.ipBlock.except[1]: Invalid value: \"x\": {CIDR}"),
                &format!(
                    "{at}.ipBlock.except[2]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"
                ),
                &format!(
                    "{at}.ipBlock.except[3]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"
                ),
                &format!(
                    "{at}.ipBlock.except[4]: Invalid value: \"fd00::/64\": must be a strict subset of `cidr`"
                ),
            ],
        );
    }

    #[test]
    fn ports_are_checked_in_kubernetes_words() {
        let at = "spec.ingress[0].ports[0]";
        let cases = [
            (json!({"port": 80}), None),
            (json!({"port": "http", "protocol": "UDP"}), None),
            (
                json!({"protocol": "SCTP", "port": 32000, "endPort": 32768}),
                None,
            ),
            (
                json!({"protocol": "ICMP"}),
                Some(
                    "protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                ),
            ),
            (
                json!({"port": 0}),
                Some("port: Invalid value: 0: must be between 1 and 65535, inclusive"),
            ),
            (
                json!({"port": 80, "endPort": 79}),
                Some("endPort: Invalid value: 79: must be greater than or equal to `port`"),
            ),
            (
                json!({"port": 80, "endPort": 70000}),
                Some("endPort: Invalid value: 70000: must be between 1 and 65535, inclusive"),
            ),
            (
                json!({"port": "http", "endPort": 81}),
                Some("endPort: Invalid value: 81: may not be specified when `port` is non-numeric"),
            ),
            (
                json!({"endPort": 81}),
                Some(
                    "endPort: Invalid value: 81: may not be specified when `port` is not specified",
                ),
            ),
        ];
        for (port, expected) in cases {
            let expected: Vec<String> = expected.iter().map(|it| format!("{at}.{it}")).collect();
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            check::<NetworkPolicy>("/spec/ingress", &json!([{"ports": [port]}]), &expected);
        }
    }

    #[test]
    fn directions_are_named_or_follow_from_the_rules() {
        check::<NetworkPolicy>(
            "/spec/policyTypes",
            &json!(["Ingress", "Both"]),
            &[
                "spec.policyTypes[1]: Unsupported value: \"Both\": supported values: \"Egress\", \"Ingress\"",
            ],
        );
        check::<NetworkPolicy>(
            "/spec/policyTypes",
            &json!(["Ingress", "Egress", "Ingress"]),
            &[
                "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two policyTypes",
            ],
        );
        let cases = [
            (json!({}), vec!["Ingress"]),
            (json!({"egress": []}), vec!["Ingress"]),
            (json!({"egress": [{}]}), vec!["Ingress", "Egress"]),
            (
                json!({"egress": [{}], "policyTypes": ["Egress"]}),
                vec!["Egress"],
            ),
        ];
        for (spec, expected) in cases {
            let mut policy: NetworkPolicy = serde_json::from_value(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {}, "spec": spec}))
            .unwrap();
            policy.set_defaults();
            let spec = policy.spec.unwrap();
            assert_eq!(spec.policy_types.unwrap(), expected);
            assert_eq!(spec.pod_selector, Some(LabelSelector::default()));
        }
    }

    #[test]
    fn a_row_shows_whom_it_selects() {
        let mut policy: NetworkPolicy = serde_json::from_value(NetworkPolicy::sample()).unwrap();
        let shown = |policy: &NetworkPolicy| policy.cells(Timestamp::UNIX_EPOCH)[1].clone();
        assert_eq!(shown(&policy), "app=sample");
        policy.spec.as_mut().unwrap().pod_selector = Some(LabelSelector::default());
        assert_eq!(shown(&policy), "<none>");
    }
}
