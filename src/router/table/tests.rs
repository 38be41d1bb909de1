//! The table's cases.

mod properties;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use super::*;

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap();
    Key::new(namespace, name)
}

fn service(index: &mut Index, name: &str, spec: Value) {
    let mut object = json!({ "metadata": {} });
    object["spec"] = spec;
    let object: core::Service = serde_json::from_value(object).unwrap();
    index.set_service(&key(name), Some(&object));
}

/// `endpoints`: address, ready, terminating, host name.
fn slice(index: &mut Index, name: &str, of: &str, endpoints: &[(&str, bool, bool, Option<&str>)]) {
    let endpoints = endpoints.iter().map(|(ip, ready, terminating, hostname)| {
        json!({
            "addresses": [ip],
            "conditions": { "ready": ready, "serving": true, "terminating": terminating },
            "nodeName": "dev-1",
            "hostname": hostname,
        })
    });
    let object = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": of } },
        "addressType": "IPv4",
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": [{ "name": "http", "port": 8080 }, { "name": "", "port": 9090 }],
    });
    let object: EndpointSlice = serde_json::from_value(object).unwrap();
    index.set_endpoint_slice(&key(name), Some(&object));
}

fn ingress(index: &mut Index, name: &str, created: &str, spec: Value) {
    let mut object = json!({ "metadata": { "creationTimestamp": created } });
    object["spec"] = spec;
    let object: Ingress = serde_json::from_value(object).unwrap();
    index.set_ingress(&key(name), Some(&object));
}

fn shop() -> Index {
    let mut index = Index::default();
    service(
        &mut index,
        "shop/web",
        json!({
            "type": "NodePort",
            "clusterIP": "10.43.0.10",
            "ports": [
                { "port": 81, "name": "admin" },
                { "port": 80, "name": "http", "nodePort": 30080 },
            ],
        }),
    );
    slice(
        &mut index,
        "shop/web-1",
        "web",
        &[
            ("10.64.0.2", true, false, None),
            ("10.64.0.3", true, false, None),
            ("10.64.0.4", false, false, None),
            ("10.64.0.5", true, true, None),
        ],
    );
    index
}

fn route(table: &RoutingTable, to: &str) -> String {
    let client = "10.64.9.9".parse().unwrap();
    match table.route(client, to.parse().unwrap(), Protocol::Tcp) {
        Decision::Endpoint(endpoint) => endpoint.addr.to_string(),
        Decision::Pod(addr) => format!("pod {addr}"),
        Decision::Nobody => "nobody".to_owned(),
        Decision::Outside => "outside".to_owned(),
    }
}

#[test]
fn addresses_are_routed_to_each_ready_endpoint_in_turn() {
    let table = shop().table();
    let mut seen: Vec<String> = (0..4).map(|_| route(&table, "10.43.0.10:80")).collect();
    assert_ne!(seen[0], seen[1]);
    assert_eq!(seen[..2], seen[2..]);
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["10.64.0.2:8080", "10.64.0.3:8080"]);
    let cases = [
        ("10.43.0.10:81", "nobody"),
        ("10.43.0.10:82", "nobody"),
        ("10.43.9.9:80", "nobody"),
        ("10.64.7.7:80", "pod 10.64.7.7:80"),
        ("10.127.255.1:1", "pod 10.127.255.1:1"),
        ("10.128.0.1:1", "outside"),
        ("192.0.2.1:80", "outside"),
        ("[fd00::1]:80", "outside"),
    ];
    for (to, expected) in cases {
        assert_eq!(route(&table, to), expected, "{to}");
    }
}

#[test]
fn endpoints_that_are_not_well_are_chosen_only_if_there_are_no_others() {
    let table = shop().table();
    let client = "10.64.9.9".parse().unwrap();
    let to = "10.43.0.10:80".parse().unwrap();
    let routed = |well: &[&str]| {
        let is_well = |it: &Endpoint| well.contains(&it.addr.ip().to_string().as_str());
        match table.route_where(client, to, Protocol::Tcp, is_well) {
            Decision::Endpoint(endpoint) => endpoint.addr.ip().to_string(),
            other => panic!("{other:?}"),
        }
    };
    for _ in 0..4 {
        assert_eq!(routed(&["10.64.0.3"]), "10.64.0.3");
    }
    assert_ne!(routed(&[]), routed(&[]));
}

#[test]
fn a_client_keeps_its_endpoint_while_that_is_ready() {
    let mut index = shop();
    service(
        &mut index,
        "shop/web",
        json!({
            "clusterIP": "10.43.0.10",
            "sessionAffinity": "ClientIP",
            "ports": [{ "port": 80, "name": "http" }],
        }),
    );
    let first = route(&index.table(), "10.43.0.10:80");
    assert_eq!(route(&index.table(), "10.43.0.10:80"), first);
    let ip = first.strip_suffix(":8080").unwrap();
    slice(
        &mut index,
        "shop/web-1",
        "web",
        &[("10.64.0.8", true, false, None), (ip, true, false, None)],
    );
    let stays = ["10.64.0.8:8080", first.as_str()];
    assert!(stays.contains(&route(&index.table(), "10.43.0.10:80").as_str()));
    slice(
        &mut index,
        "shop/web-1",
        "web",
        &[("10.64.0.8", true, false, None)],
    );
    assert_eq!(route(&index.table(), "10.43.0.10:80"), "10.64.0.8:8080");
}

#[test]
fn a_snapshot_does_not_change() {
    let mut index = shop();
    let before = index.table();
    index.set_service(&key("shop/web"), None);
    assert_eq!(route(&index.table(), "10.43.0.10:80"), "nobody");
    assert_ne!(route(&before, "10.43.0.10:80"), "nobody");
    assert_eq!(index.table().listeners().node_ports().count(), 0);
}

#[test]
fn nodes_say_where_their_pods_are_reached() {
    let mut index = shop();
    let mut set = |name: &str, node: Option<(&str, &str)>| {
        let node = node.map(|(wire, cidr)| {
            let node = json!({
                "metadata": { "annotations": { "wasmorch.dev/wire-address": wire } },
                "spec": { "podCIDR": cidr },
            });
            serde_json::from_value::<core::Node>(node).unwrap()
        });
        index.set_node(name, node.as_ref());
        index.table()
    };
    let wire = |table: &RoutingTable, ip: &str| {
        let wire = table.wire_of_pod(ip.parse().unwrap());
        wire.map_or("nowhere".to_owned(), ToString::to_string)
    };
    set("dev-1", Some(("one:1", "10.64.0.0/19")));
    let table = set("dev-2", Some(("two:2", "10.64.64.7/19")));
    assert_eq!(table.wire("dev-1").map(|it| &**it), Some("one:1"));
    for (ip, expected) in [
        ("10.63.255.255", "nowhere"),
        ("10.64.0.0", "one:1"),
        ("10.64.31.255", "one:1"),
        ("10.64.32.0", "nowhere"),
        ("10.64.64.0", "two:2"),
        ("10.64.95.255", "two:2"),
        ("10.64.96.0", "nowhere"),
    ] {
        assert_eq!(wire(&table, ip), expected, "{ip}");
    }
    // A range may be given on before its first owner is forgotten.
    set("dev-3", Some(("three:3", "10.64.0.0/19")));
    let table = set("dev-1", None);
    assert_eq!(wire(&table, "10.64.1.1"), "three:3");
    let table = set("dev-3", Some(("three:3", "10.64.128.0/19")));
    assert_eq!(wire(&table, "10.64.1.1"), "nowhere");
    assert_eq!(wire(&table, "10.64.128.1"), "three:3");
    let table = set("dev-3", None);
    assert_eq!(wire(&table, "10.64.128.1"), "nowhere");
    assert_eq!(table.wire("dev-3"), None);
}

#[test]
fn names_are_those_a_resolver_would_try() {
    let mut index = shop();
    service(
        &mut index,
        "shop/db",
        json!({ "clusterIP": "None", "ports": [{ "port": 5432 }] }),
    );
    slice(
        &mut index,
        "shop/db-1",
        "db",
        &[
            ("10.64.0.7", true, false, Some("db-0")),
            ("10.64.0.6", false, false, Some("db-1")),
        ],
    );
    let external = |name: &str| json!({ "type": "ExternalName", "externalName": name });
    service(&mut index, "shop/mail", external("smtp.example.com"));
    service(
        &mut index,
        "shop/front",
        external("web.shop.svc.cluster.local."),
    );
    service(&mut index, "shop/loop", external("loop.shop.svc"));
    let table = index.table();
    let cases = [
        ("shop", "web", "10.43.0.10"),
        ("shop", "WEB.", "10.43.0.10"),
        ("other", "web", "-"),
        ("other", "web.shop", "10.43.0.10"),
        ("other", "web.shop.svc", "10.43.0.10"),
        ("other", "web.shop.svc.cluster.local", "10.43.0.10"),
        ("other", "web.shop.svc.cluster.local.", "10.43.0.10"),
        ("shop", "web.svc.cluster.local", "-"),
        ("shop", "db", "10.64.0.7"),
        ("shop", "db-0.db", "10.64.0.7"),
        ("other", "db-0.db.shop.svc.cluster.local", "10.64.0.7"),
        ("shop", "db-1.db", "-"),
        ("shop", "db-0.web", "-"),
        ("shop", "mail", "alias smtp.example.com"),
        ("shop", "front", "10.43.0.10"),
        ("shop", "loop", "-"),
        ("shop", "example.com", "-"),
        ("shop", "", "-"),
    ];
    for (namespace, name, expected) in cases {
        let answer = match table.resolve(namespace, name) {
            None => "-".to_owned(),
            Some(Answer::Alias(name)) => format!("alias {name}"),
            Some(Answer::Addresses(ips)) => {
                let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
                ips.join(",")
            }
        };
        assert_eq!(answer, expected, "{name} in {namespace}");
    }
}

#[test]
fn hosts_and_paths_find_their_service() {
    let mut index = shop();
    let backend = |name: &str, port: Value| json!({ "service": { "name": name, "port": port } });
    let path = |path: &str, kind: &str, name: &str| json!({ "path": path, "pathType": kind, "backend": backend(name, json!({ "number": 80 })) });
    service(
        &mut index,
        "shop/api",
        json!({ "clusterIP": "10.43.0.11", "ports": [{ "port": 80 }] }),
    );
    let rules = json!({ "rules": [
        { "host": "Shop.Test", "http": { "paths": [
            path("/", "Prefix", "web"),
            path("/api/", "Prefix", "api"),
            path("/api/v1", "Exact", "web"),
            path("/gone", "Prefix", "gone"),
        ] } },
        { "host": "*.shop.test", "http": { "paths": [path("/", "Prefix", "api")] } },
    ] });
    ingress(&mut index, "shop/one", "2026-01-02T00:00:00Z", rules);
    let rules = json!({ "rules": [
        { "host": "shop.test", "http": { "paths": [path("/", "Prefix", "api")] } },
    ] });
    ingress(&mut index, "shop/late", "2026-01-03T00:00:00Z", rules);
    let rules = json!({ "ingressClassName": "nginx", "defaultBackend": backend("web", json!({ "number": 80 })) });
    ingress(&mut index, "shop/foreign", "2026-01-01T00:00:00Z", rules);
    let cases = [
        ("web.shop.localhost", "/any", "web http"),
        ("api.shop.localhost", "/", "api "),
        ("gone.shop.localhost", "/", "no service gone"),
        ("localhost", "/", "no rule"),
        ("a.b.c.localhost", "/", "no rule"),
        ("shop.test", "/", "web http"),
        ("shop.test", "/apis", "web http"),
        ("shop.test", "/api", "api "),
        ("shop.test", "/api/x", "api "),
        ("shop.test", "/api/v1", "web http"),
        ("shop.test", "/api/v1/", "api "),
        ("shop.test", "/gone", "no service gone"),
        ("a.shop.test", "/", "api "),
        ("a.b.shop.test", "/", "no rule"),
        (".shop.test", "/", "no rule"),
        ("else.test", "/", "no rule"),
    ];
    let describe = |table: &RoutingTable, host: &str, path: &str| match table.http(host, path) {
        Backend::Port(service, port) => {
            format!("{} {}", service.name, port.of(service).unwrap().name)
        }
        Backend::NoRule => "no rule".to_owned(),
        Backend::NoService(key) => format!("no service {}", key.name()),
    };
    let table = index.table();
    for (host, path, expected) in cases {
        assert_eq!(describe(&table, host, path), expected, "{host}{path}");
    }
    let rules = json!({ "defaultBackend": backend("web", json!({ "name": "admin" })) });
    ingress(&mut index, "shop/default", "2026-01-04T00:00:00Z", rules);
    assert_eq!(describe(&index.table(), "else.test", "/x"), "web admin");
    index.set_ingress(&key("shop/one"), None);
    assert_eq!(describe(&index.table(), "shop.test", "/x"), "api ");
}

#[test]
fn what_only_one_can_have_goes_to_the_first() {
    let mut index = shop();
    let rival = json!({
        "type": "LoadBalancer",
        "clusterIP": "10.43.0.10",
        "ports": [{ "port": 80, "nodePort": 30080 }],
    });
    service(&mut index, "evil/rival", rival);
    let owner = |index: &mut Index| {
        let table = index.table();
        let listener = table.listeners().node_port(30080, Protocol::Tcp);
        listener.map(|it| it.service.name.clone())
    };
    assert_eq!(owner(&mut index).as_deref(), Some("web"));
    assert_ne!(route(&index.table(), "10.43.0.10:80"), "nobody");
    index.set_service(&key("shop/web"), None);
    assert_eq!(owner(&mut index).as_deref(), Some("rival"));
    index.set_service(&key("evil/rival"), None);
    assert_eq!(owner(&mut index), None);
}
