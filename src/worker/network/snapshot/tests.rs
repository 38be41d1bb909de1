//! Names, routes and wires out of a small cluster.

use serde_json::{Value, json};

use super::*;

fn service(name: &str, spec: &Value) -> Service {
    serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}),
    )
    .unwrap()
}

fn slice(service: &str, endpoints: &Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": service, "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints}))
    .unwrap()
}

fn snapshot() -> Snapshot {
    let services = [
        service(
            "web",
            &json!({"clusterIP": "10.43.0.9", "ports": [{"port": 80}]}),
        ),
        service(
            "empty",
            &json!({"clusterIP": "10.43.0.10", "ports": [{"port": 80}]}),
        ),
        service(
            "sticky",
            &json!({"clusterIP": "10.43.0.11", "ports": [{"port": 80}], "sessionAffinity": "ClientIP"}),
        ),
        service(
            "db",
            &json!({"clusterIP": "None", "ports": [{"port": 5432}]}),
        ),
        service(
            "away",
            &json!({"type": "ExternalName", "externalName": "example.com"}),
        ),
    ];
    let two = json!([{"addresses": ["10.64.0.2"], "conditions": {"ready": true}, "nodeName": "dev-1"},
                     {"addresses": ["10.64.32.2"], "conditions": {"ready": true}, "nodeName": "dev-2"},
                     {"addresses": ["10.64.32.3"], "conditions": {"ready": false}}]);
    let slices = [
        slice("web", &two),
        slice("sticky", &two),
        slice(
            "db",
            &json!([{"addresses": ["10.64.0.7"], "hostname": "db-0"}, {"addresses": ["10.64.0.8"], "hostname": "db-1", "conditions": {"ready": false}}]),
        ),
    ];
    let node = |name: &str, cidr: &str, wire: &str| -> Node {
        serde_json::from_value(json!({"metadata": {"name": name, "annotations": {"wasmorch.dev/wire-address": wire}}, "spec": {"podCIDR": cidr}}))
            .unwrap()
    };
    let nodes = [
        node("dev-1", "10.64.0.0/19", "127.0.0.1:1"),
        node("dev-2", "10.64.32.0/19", "127.0.0.1:2"),
    ];
    Snapshot::of(&World {
        node: "dev-1",
        services: services.iter().collect(),
        slices: slices.iter().collect(),
        nodes: nodes.iter().collect(),
    })
}

#[test]
fn names() {
    let snapshot = snapshot();
    let cases = [
        ("web", Some("10.43.0.9")),
        ("WEB.default.", Some("10.43.0.9")),
        ("web.default.svc", Some("10.43.0.9")),
        ("web.default.svc.cluster.local", Some("10.43.0.9")),
        ("web.default.svc.cluster.local.", Some("10.43.0.9")),
        ("web.other", None),
        ("db", Some("10.64.0.7")),
        ("db-0.db", Some("10.64.0.7")),
        ("db-0.db.default.svc.cluster.local", Some("10.64.0.7")),
        ("db-1.db", None),
        ("10-64-0-9.default.pod.cluster.local", Some("10.64.0.9")),
        ("away", None),
        ("example.com", None),
        ("", None),
    ];
    for (name, expected) in cases {
        let found = snapshot.resolve("default", name);
        let expected = expected.map(|ip| vec![ip.parse::<IpAddr>().unwrap()]);
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(snapshot.resolve("other", "web"), None);
}

#[test]
fn routes() {
    let snapshot = snapshot();
    let from: IpAddr = "10.64.0.5".parse().unwrap();
    let route = |to: &str, turn| snapshot.route(from, to.parse().unwrap(), Protocol::Tcp, turn);
    let pod = |to: &str| Route::Pod(to.parse().unwrap());
    assert_eq!(route("10.43.0.9:80", 0), pod("10.64.0.2:8080"));
    assert_eq!(route("10.43.0.9:80", 1), pod("10.64.32.2:8080"));
    assert_eq!(route("10.43.0.9:81", 0), Route::Refused);
    assert_eq!(route("10.43.0.10:80", 0), Route::Refused);
    assert_eq!(route("10.43.9.9:80", 0), Route::Refused);
    assert_eq!(route("10.64.0.9:1", 0), pod("10.64.0.9:1"));
    assert_eq!(route("10.127.0.9:1", 0), Route::Refused);
    let out = "93.184.216.34:443".parse().unwrap();
    assert_eq!(route("93.184.216.34:443", 0), Route::External(out));
    let stays = (0..8).map(|turn| route("10.43.0.11:80", turn));
    assert_eq!(
        stays
            .collect::<Vec<_>>()
            .windows(2)
            .filter(|pair| pair[0] != pair[1])
            .count(),
        0
    );
}

#[test]
fn wires_and_links() {
    let snapshot = snapshot();
    let wire = snapshot.wire_of("10.64.33.1".parse().unwrap());
    assert_eq!(wire, Some("127.0.0.1:2".parse().unwrap()));
    assert_eq!(snapshot.wire_of("10.64.64.1".parse().unwrap()), None);
    let links = snapshot.service_links("default");
    assert!(links.iter().any(|link| link.name == "web"));
    assert!(
        links.iter().all(|link| link.name != "db"),
        "headless services have no address"
    );
    assert_eq!(snapshot.service_links("other"), []);
}
