//! Cluster IPs and node ports: given, kept, given back, never given twice.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wasmorch::registry::{Config, DeleteOptions, WriteOptions};

use super::{Fixture, NS, complaints};

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

impl Fixture {
    async fn remove_service(&self, name: &str) {
        let row = self.row("services");
        let options = DeleteOptions::default();
        let delete = self.registry.delete(row, NS, name, &options, &self.caller);
        delete.await.unwrap();
    }
}

#[tokio::test]
async fn the_api_server_has_the_first_address() {
    let fixture = Fixture::new().await;
    let kubernetes = fixture.get("services", "kubernetes").unwrap();
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.43.0.1");
    // Again, also on a new registry over the same store, changes nothing.
    fixture.registry.bootstrap().await.unwrap();
}

#[tokio::test]
async fn no_two_services_have_the_same_address() {
    let config = Config {
        service_cidr: "10.43.0.0/27".to_owned(),
        node_port_range: (30_000, 30_029),
        ..Config::default()
    };
    let fixture = Fixture::with(config).await;
    let creates = (0..40).map(|index| {
        let object = service(&format!("s{index}"), json!({"type": "NodePort"}));
        fixture.create("services", object)
    });
    let (mut ips, mut ports, mut refused) = (BTreeSet::new(), BTreeSet::new(), 0);
    for result in futures::future::join_all(creates).await {
        match result {
            Ok(written) => {
                let spec = &written.object.object["spec"];
                assert!(ips.insert(spec["clusterIP"].to_string()));
                assert!(ports.insert(spec["ports"][0]["nodePort"].to_string()));
            }
            Err(error) => {
                assert!(complaints::<()>(Err(error))[0].contains("range is full"));
                refused += 1;
            }
        }
    }
    // 32 addresses less network, broadcast and the API server's own.
    assert_eq!((ips.len(), refused), (29, 11));
    fixture.remove_service("s0").await;
    fixture
        .created("services", service("next", json!({})))
        .await;
}

#[tokio::test]
async fn what_is_asked_for_by_number_is_checked() {
    let fixture = Fixture::new().await;
    let refused =
        async |spec: Value| complaints(fixture.create("services", service("x", spec)).await);
    assert_eq!(
        refused(json!({"clusterIP": "10.43.0.1"})).await,
        [
            "spec.clusterIPs: Invalid value: [\"10.43.0.1\"]: failed to allocate IP 10.43.0.1: provided IP is already allocated"
        ]
    );
    assert!(
        refused(json!({"clusterIP": "10.99.0.1"})).await[0]
            .contains("The range of valid IPs is 10.43.0.0/16")
    );
    let port = |port: u16| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    assert_eq!(
        refused(port(80)).await,
        [
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
        ]
    );
    fixture
        .created("services", service("a", port(30_080)))
        .await;
    assert_eq!(
        refused(port(30_080)).await,
        ["spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"]
    );
    // What a refused or pretended create had taken is free again.
    let dry = WriteOptions {
        dry_run: true,
        ..WriteOptions::default()
    };
    let row = fixture.row("services");
    let object = service("b", port(30_081));
    let pretended = fixture
        .registry
        .create(row, NS, object.clone(), &dry, &fixture.caller);
    pretended.await.unwrap();
    let mut wrong = object.clone();
    wrong["spec"]["sessionAffinity"] = json!("Sometimes");
    assert!(!complaints(fixture.create("services", wrong).await).is_empty());
    fixture.created("services", object).await;
    fixture.remove_service("a").await;
    fixture
        .created("services", service("c", port(30_080)))
        .await;
}

#[tokio::test]
async fn an_update_keeps_what_was_given() {
    let fixture = Fixture::new().await;
    let created = fixture
        .created("services", service("web", json!({"type": "NodePort"})))
        .await;
    let mut bare = service(
        "web",
        json!({"type": "NodePort", "selector": {"app": "web"}}),
    );
    bare["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
    let updated = fixture.update("services", None, bare).await.unwrap();
    assert_eq!(updated["spec"]["clusterIP"], created["spec"]["clusterIP"]);
    assert_eq!(updated["spec"]["ports"], created["spec"]["ports"]);
    let mut moved = updated.clone();
    moved["spec"]["clusterIP"] = json!("10.43.77.77");
    moved["spec"]["clusterIPs"] = json!(["10.43.77.77"]);
    let refused = complaints(fixture.update("services", None, moved).await);
    assert_eq!(
        refused,
        ["spec.clusterIPs[0]: Invalid value: [\"10.43.77.77\"]: may not change once set"]
    );
    let mut internal = updated.clone();
    internal["spec"]["type"] = json!("ClusterIP");
    let internal = fixture.update("services", None, internal).await.unwrap();
    assert!(internal["spec"]["ports"][0].get("nodePort").is_none());
    let mut named = internal;
    named["spec"]["type"] = json!("ExternalName");
    named["spec"]["externalName"] = json!("example.com");
    let named = fixture.update("services", None, named).await.unwrap();
    assert!(named["spec"].get("clusterIP").is_none());
}

#[tokio::test]
async fn headless_services_have_no_address() {
    let fixture = Fixture::new().await;
    let created = fixture
        .created("services", service("db", json!({"clusterIP": "None"})))
        .await;
    assert_eq!(created["spec"]["clusterIPs"], json!(["None"]));
}

/// A write whose caller went away may still happen: until that is certain, its port is nobody's.
#[tokio::test]
async fn a_write_of_unknown_end_keeps_its_addresses_for_a_while() {
    let fixture = Fixture::new().await;
    let wanted = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_080}]});
    {
        let create = std::pin::pin!(fixture.create("services", service("a", wanted.clone())));
        assert!(futures::poll!(create).is_pending());
    }
    let refused = complaints(fixture.create("services", service("b", wanted)).await);
    assert!(refused[0].ends_with("provided port is already allocated"));
}
