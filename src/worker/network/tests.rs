//! The way to the API server, beside what is published of it.

use super::*;
use serde_json::{Value, json};

fn decoded<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// The world with Service `kubernetes`, and with the endpoint that the server publishes for it.
fn world() -> RoutingTable {
    let mut index = Index::default();
    let key = Key::new("default", "kubernetes");
    let service = decoded(
        json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"], "ports": [
            {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]}}),
    );
    index.set_service(&key, Some(&service));
    let slice = decoded(
        json!({"metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}),
    );
    index.set_endpoint_slice(&key, Some(&slice));
    index.table()
}

#[test]
fn guests_reach_the_api_server_by_the_workers_own_way() {
    let network = Network::new("dev-1".to_owned(), Some("127.0.0.1:7443".parse().unwrap()));
    network.table.store(Arc::new(world()));
    let check = |to: &str, protocol, expected: Route| {
        let from = "10.64.0.5".parse().unwrap();
        assert_eq!(network.route(from, to.parse().unwrap(), protocol), expected);
    };
    let service = "10.43.0.1:443";
    check(service, Protocol::Tcp, Route::Pod(service.parse().unwrap()));
    check(service, Protocol::Udp, Route::Refused);
    check("10.43.0.1:80", Protocol::Tcp, Route::Refused);
    // The endpoint itself is an address of nobody in the cluster.
    let published = "127.0.0.1:6443";
    let outside = Route::External(published.parse().unwrap());
    check(published, Protocol::Tcp, outside);
}
