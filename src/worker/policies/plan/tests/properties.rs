//! What must hold of all policies: they only add up.

use proptest::prelude::*;

use super::*;

fn any_peers() -> impl Strategy<Value = Value> {
    let peer = prop_oneof![
        Just(json!({"podSelector": {}})),
        Just(json!({"podSelector": {"matchLabels": {"app": "web"}}})),
        Just(json!({"namespaceSelector": {"matchLabels": {"team": "red"}}})),
        Just(json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}})),
        Just(json!({"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}})),
        Just(json!({"ipBlock": {"cidr": "10.64.0.0/16"}})),
    ];
    prop::collection::vec(peer, 0..3).prop_map(Value::Array)
}

fn any_ports() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        Just(json!({"port": 8080})),
        Just(json!({"port": "http"})),
        Just(json!({"port": 5000, "endPort": 9000})),
        Just(json!({"protocol": "UDP"})),
        Just(json!({"protocol": "SCTP", "port": 1})),
    ];
    prop::collection::vec(port, 0..3).prop_map(Value::Array)
}

fn any_rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let rule = (any_peers(), any_ports())
        .prop_map(move |(found, ports)| json!({peers: found, "ports": ports}));
    prop::collection::vec(rule, 0..3).prop_map(Value::Array)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let selector = prop_oneof![
        Just(json!({})),
        Just(json!({"matchLabels": {"app": "web"}})),
        Just(json!({"matchLabels": {"app": "db"}})),
    ];
    let types = prop_oneof![
        Just(json!(["Ingress"])),
        Just(json!(["Egress"])),
        Just(json!(["Ingress", "Egress"])),
    ];
    (selector, types, any_rules("from"), any_rules("to")).prop_map(
        |(selector, types, ingress, egress)| {
            policy(
                "shop",
                &json!({"podSelector": selector, "policyTypes": types, "ingress": ingress, "egress": egress}),
            )
        },
    )
}

/// Every flow that some policy above could tell from another.
fn flows(cluster: &Cluster) -> Vec<(IpAddr, Protocol, u16)> {
    let outside = ["203.0.113.1", "203.0.113.200", "198.51.100.1"];
    let outside = outside.iter().map(|ip| ip.parse().unwrap());
    let peers: Vec<IpAddr> = cluster
        .pods
        .iter()
        .flat_map(PeerPod::ips)
        .chain(outside)
        .collect();
    let ports = [1, 5000, 5432, 8080, 9001];
    let mut flows = Vec::new();
    for peer in peers {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            flows.extend(ports.map(|port| (peer, protocol, port)));
        }
    }
    flows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The rules of several policies let through what any of them lets through alone; so one more
    /// never takes a flow from a pod that is isolated already, and only the first isolates.
    #[test]
    fn policies_are_a_union(policies in prop::collection::vec(any_policy(), 1..4)) {
        let cluster = Cluster::new();
        for name in ["shop/web", "shop/db", "test/web"] {
            let together = cluster.rules(name, &policies).unwrap_or_default();
            let alone: Vec<Rules> = policies
                .iter()
                .filter_map(|policy| cluster.rules(name, std::slice::from_ref(policy)))
                .collect();
            let inward: Vec<&Rules> = alone.iter().filter(|it| it.ingress.is_some()).collect();
            let outward: Vec<&Rules> = alone.iter().filter(|it| it.egress.is_some()).collect();
            for (peer, protocol, port) in flows(&cluster) {
                let is_in = inward.is_empty()
                    || inward.iter().any(|rules| rules.let_in(peer, protocol, port));
                prop_assert_eq!(together.let_in(peer, protocol, port), is_in);
                let is_out = outward.is_empty()
                    || outward.iter().any(|rules| rules.let_out(peer, protocol, port));
                prop_assert_eq!(together.let_out(peer, protocol, port), is_out);
            }
        }
    }

    /// One more rule in a policy never takes a flow away.
    #[test]
    fn a_rule_more_only_adds(mut one in any_policy(), other in any_policy()) {
        let cluster = Cluster::new();
        let before = cluster.rules("shop/web", std::slice::from_ref(&one)).unwrap_or_default();
        for (rules, more) in [(&mut one.ingress, &other.ingress), (&mut one.egress, &other.egress)] {
            if let Some(rules) = rules {
                rules.extend(more.iter().flatten().cloned());
            }
        }
        let after = cluster.rules("shop/web", std::slice::from_ref(&one)).unwrap_or_default();
        for (peer, protocol, port) in flows(&cluster) {
            prop_assert!(!before.let_in(peer, protocol, port) || after.let_in(peer, protocol, port));
            prop_assert!(!before.let_out(peer, protocol, port) || after.let_out(peer, protocol, port));
        }
    }
}
