//! Service `kubernetes` says where the API server is, whatever anybody does to what it says.

use serde_json::{Value, json};

use super::harness::Cluster;
use crate::cluster::until;

const CORE: &str = "/api/v1/namespaces/default";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";

/// Waits until all three objects lead to the server.
async fn lead_home(cluster: &Cluster) {
    let port = cluster.addresses.https.port();
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    until("the service to lead home", async || {
        let (_, service) = cluster.get(&format!("{CORE}/services/kubernetes")).await;
        let (_, endpoints) = cluster.get(&format!("{CORE}/endpoints/kubernetes")).await;
        let (_, slice) = cluster.get(SLICE).await;
        let subsets = json!([{"addresses": [{"ip": "127.0.0.1"}], "ports": ports}]);
        let addresses = json!([{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]);
        let spec = &service["spec"];
        let is_home = spec["ports"][0]["targetPort"] == port
            && spec["clusterIP"] == "10.43.0.1"
            && endpoints["subsets"] == subsets
            && endpoints["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"] == "true"
            && slice["addressType"] == "IPv4"
            && slice["endpoints"] == addresses
            && slice["ports"] == ports
            && slice["metadata"]["labels"]["kubernetes.io/service-name"] == "kubernetes"
            && slice["metadata"]["ownerReferences"].is_null();
        is_home.then_some(())
    })
    .await;
}

/// The object, once it is another than `uid`.
async fn replaced(cluster: &Cluster, path: &str, uid: &Value) {
    until("the object's successor", async || {
        let (code, object) = cluster.get(path).await;
        (code == 200 && &object["metadata"]["uid"] != uid).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_the_server_survive_whatever_is_done_to_them() {
    let cluster = Cluster::start().await;
    lead_home(&cluster).await;
    let table = cluster
        .request("GET", &format!("{CORE}/endpoints/kubernetes"))
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let (_, table) = super::harness::answer(table).await;
    let expected = cluster.addresses.https.to_string();
    assert_eq!(table["rows"][0]["cells"][1], expected, "{table}");

    let paths = ["services", "endpoints"].map(|plural| format!("{CORE}/{plural}/kubernetes"));
    for path in paths.iter().map(String::as_str).chain([SLICE]) {
        let (_, before) = cluster.get(path).await;
        let (code, answer) = cluster.send("DELETE", path, &json!({})).await;
        assert_eq!(code, 200, "{answer}");
        replaced(&cluster, path, &before["metadata"]["uid"]).await;
        lead_home(&cluster).await;
    }
    let nonsense = [
        json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}]}], "metadata": {"labels": null}}),
        json!({"endpoints": [], "ports": null, "metadata": {"labels": {"kubernetes.io/service-name": "other"}}}),
    ];
    for (path, nonsense) in [paths[1].as_str(), SLICE].into_iter().zip(nonsense) {
        let patch = cluster
            .request("PATCH", path)
            .header("Content-Type", "application/merge-patch+json")
            .body(nonsense.to_string());
        let (code, answer) = super::harness::answer(patch).await;
        assert_eq!(code, 200, "{answer}");
        lead_home(&cluster).await;
    }
    cluster.stop().await;
}
