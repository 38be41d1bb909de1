//! Kubernetes' documented recipes, a flow a line; and in `properties` what must hold of all policies.

mod properties;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::*;

/// name, namespace, labels, address. The http port of `db` is not that of the others.
const PODS: &[(&str, &str, (&str, &str), &str)] = &[
    ("web", "shop", ("app", "web"), "10.64.0.1"),
    ("db", "shop", ("app", "db"), "10.64.0.2"),
    ("cron", "shop", ("app", "cron"), "10.64.0.3"),
    ("web", "test", ("app", "web"), "10.64.1.1"),
    ("probe", "ops", ("app", "probe"), "10.64.2.1"),
];

struct Cluster {
    pods: Vec<PeerPod>,
    namespaces: Vec<(String, LabelMap)>,
}

impl Cluster {
    fn new() -> Self {
        let pod = |(name, namespace, label, ip): &(&str, &str, (&str, &str), &str)| {
            let http = if *name == "db" { 5432 } else { 8080 };
            let object = json!({
                "metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}/{name}"),
                    "labels": {label.0: label.1}},
                "spec": {"containers": [{"name": "main", "ports": [{"name": "http", "containerPort": http}]}]},
                "status": {"phase": "Running", "podIP": ip}});
            serde_json::from_value(object).unwrap()
        };
        let namespace = |name: &str, team: &str| {
            let labels = [("kubernetes.io/metadata.name", name), ("team", team)];
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
            (name.to_owned(), Some(labels.into_iter().collect()))
        };
        Self {
            pods: PODS.iter().map(pod).collect(),
            namespaces: vec![
                namespace("shop", "red"),
                namespace("test", "red"),
                namespace("ops", "blue"),
            ],
        }
    }

    fn pod(&self, name: &str) -> &PeerPod {
        self.pods.iter().find(|pod| pod.uid() == name).unwrap()
    }

    fn rules(&self, name: &str, policies: &[Policy]) -> Option<Rules> {
        let view = View {
            policies: policies.iter().collect(),
            namespaces: self
                .namespaces
                .iter()
                .map(|(n, l)| (n.as_str(), l))
                .collect(),
            pods: self.pods.iter().collect(),
        };
        plan(&view, &[self.pod(name)]).pop().unwrap()
    }
}

fn policy(namespace: &str, spec: &Value) -> Policy {
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "it", "namespace": namespace}, "spec": spec});
    let object: NetworkPolicy = serde_json::from_value(object).unwrap();
    Policy::of(&object)
}

/// `shop/web < test/web tcp 8080` is in, `>` is out; `!` in front: refused. A peer may be an address.
fn check(specs: &[Value], flows: &[&str]) {
    let cluster = Cluster::new();
    let policies: Vec<Policy> = specs.iter().map(|spec| policy("shop", spec)).collect();
    for flow in flows {
        let (expected, text) = match flow.strip_prefix('!') {
            Some(text) => (false, text),
            None => (true, *flow),
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [pod, direction, peer, protocol, port] = words[..] else {
            panic!("{flow}");
        };
        let address = peer.parse().unwrap_or_else(|_| {
            let mut ips = cluster.pod(peer).ips();
            ips.next().unwrap()
        });
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            _ => Protocol::Udp,
        };
        let port = port.parse().unwrap();
        let rules = cluster.rules(pod, &policies).unwrap_or_default();
        let passes = match direction {
            "<" => rules.let_in(address, protocol, port),
            _ => rules.let_out(address, protocol, port),
        };
        assert_eq!(passes, expected, "{flow} under {specs:?}");
    }
}

#[test]
fn without_a_policy_everything_passes_and_no_rules_are_made() {
    let cluster = Cluster::new();
    let elsewhere = policy("ops", &json!({"podSelector": {}}));
    let others = policy(
        "shop",
        &json!({"podSelector": {"matchLabels": {"app": "db"}}}),
    );
    let policies = [elsewhere, others];
    assert_eq!(cluster.rules("shop/web", &policies), None);
    assert!(cluster.rules("shop/db", &policies).is_some());
    check(
        &[],
        &["shop/web < 203.0.113.1 udp 1", "shop/web > ops/probe tcp 1"],
    );
}

#[test]
fn default_deny_and_allow_all() {
    let deny_in = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    let flows = [
        "!shop/web < shop/db tcp 8080",
        "!shop/web < 203.0.113.1 udp 53",
        "shop/web > shop/db tcp 5432",
        "test/web < shop/web tcp 8080",
    ];
    check(std::slice::from_ref(&deny_in), &flows);
    // An empty list of rules and none at all are the same.
    check(&[json!({"podSelector": {}, "ingress": []})], &flows);
    check(
        &[json!({"podSelector": {}, "policyTypes": ["Egress"]})],
        &[
            "shop/web < shop/db tcp 8080",
            "!shop/web > shop/db tcp 5432",
            "!shop/web > 203.0.113.1 tcp 443",
        ],
    );
    check(
        &[json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})],
        &[
            "!shop/web < shop/db tcp 8080",
            "!shop/web > shop/db tcp 5432",
        ],
    );
    let all = json!({"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]});
    check(
        &[deny_in.clone(), all],
        &[
            "shop/web < shop/db tcp 8080",
            "shop/web < 203.0.113.1 udp 53",
        ],
    );
    // No peers and an empty list of peers are the same, too: everybody.
    check(
        &[
            deny_in,
            json!({"podSelector": {}, "ingress": [{"from": [], "ports": []}]}),
        ],
        &["shop/web < 203.0.113.1 udp 53"],
    );
    check(
        &[json!({"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]})],
        &["shop/web > 203.0.113.1 tcp 443"],
    );
}

#[test]
fn pods_namespaces_and_both() {
    let from = |peers: Value| json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": peers}]});
    let web = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    check(
        &[from(json!([web]))],
        &[
            "shop/db < shop/web tcp 5432",
            "!shop/db < test/web tcp 5432",
            "!shop/db < shop/cron tcp 5432",
            "shop/web < shop/cron tcp 8080",
        ],
    );
    let red = json!({"matchLabels": {"team": "red"}});
    check(
        &[from(json!([{"namespaceSelector": red}]))],
        &[
            "shop/db < shop/cron tcp 5432",
            "shop/db < test/web tcp 5432",
            "!shop/db < ops/probe tcp 5432",
            "!shop/db < 203.0.113.1 tcp 5432",
        ],
    );
    // One peer with both is both; two peers are either.
    let both = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "test"}},
        "podSelector": {"matchLabels": {"app": "web"}}});
    check(
        &[from(json!([both]))],
        &[
            "shop/db < test/web tcp 5432",
            "!shop/db < shop/web tcp 5432",
        ],
    );
    let ops = json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}});
    check(
        &[from(json!([web, ops]))],
        &[
            "shop/db < shop/web tcp 5432",
            "shop/db < ops/probe tcp 5432",
            "!shop/db < test/web tcp 5432",
        ],
    );
    check(
        &[from(json!([{"podSelector": {}}]))],
        &["shop/db < shop/cron tcp 1", "!shop/db < test/web tcp 1"],
    );
    check(
        &[from(json!([{"namespaceSelector": {}}]))],
        &["shop/db < ops/probe tcp 1", "!shop/db < 203.0.113.1 tcp 1"],
    );
    let others = json!([{"namespaceSelector": {"matchExpressions":
        [{"key": "team", "operator": "NotIn", "values": ["red"]}]}}]);
    check(
        &[from(others)],
        &["shop/db < ops/probe tcp 1", "!shop/db < test/web tcp 1"],
    );
}

#[test]
fn blocks_with_holes() {
    let block = json!({"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}});
    check(
        &[json!({"podSelector": {}, "ingress": [{"from": [block]}],
            "egress": [{"to": [block], "ports": [{"protocol": "TCP", "port": 5978}]}]})],
        &[
            "shop/web < 172.17.0.9 tcp 8080",
            "!shop/web < 172.17.1.9 tcp 8080",
            "!shop/web < shop/db tcp 8080",
            "shop/web > 172.17.0.9 tcp 5978",
            "!shop/web > 172.17.0.9 tcp 5979",
            "!shop/web > 172.17.1.9 tcp 5978",
        ],
    );
}

#[test]
fn ports_by_number_range_and_name() {
    let ports = |ports: Value| json!({"podSelector": {}, "ingress": [{"ports": ports}]});
    check(
        &[ports(
            json!([{"port": 32000, "endPort": 32768}, {"protocol": "UDP"}]),
        )],
        &[
            "!shop/web < shop/db tcp 31999",
            "shop/web < shop/db tcp 32000",
            "shop/web < shop/db tcp 32768",
            "!shop/web < shop/db tcp 32769",
            "shop/web < shop/db udp 9",
        ],
    );
    check(
        &[ports(json!([{"port": "http"}]))],
        &[
            "shop/web < shop/db tcp 8080",
            "!shop/web < shop/db tcp 5432",
            "shop/db < shop/web tcp 5432",
            "!shop/db < shop/web udp 5432",
        ],
    );
    check(
        &[ports(json!([{"port": "nope"}]))],
        &["!shop/web < shop/db tcp 8080"],
    );
    // SCTP may be named, and nobody speaks it.
    check(
        &[ports(json!([{"protocol": "SCTP", "port": 7}]))],
        &["!shop/web < shop/db tcp 7", "!shop/web < shop/db udp 7"],
    );
    // On the way out a name is a port of whoever is reached.
    check(
        &[json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": "http"}, {"port": 9}]}]})],
        &[
            "shop/web > shop/db tcp 5432",
            "!shop/web > shop/db tcp 8080",
            "shop/web > shop/cron tcp 8080",
            "shop/web > shop/db tcp 9",
            "!shop/web > test/web tcp 8080",
            "!shop/web > 203.0.113.1 tcp 8080",
        ],
    );
}

#[test]
fn policies_add_up() {
    let select = |peer: &str, port: u16| {
        json!({"podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": peer}}}], "ports": [{"port": port}]}]})
    };
    check(
        &[select("web", 1), select("cron", 2)],
        &[
            "shop/db < shop/web tcp 1",
            "!shop/db < shop/web tcp 2",
            "shop/db < shop/cron tcp 2",
            "!shop/db < shop/cron tcp 1",
        ],
    );
}
