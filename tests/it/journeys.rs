//! Whole journeys on the built binary: what a user does, and what a machine does to a cluster.

mod access;
mod apply;
mod bodies;
mod clients;
mod commands;
mod custom_resources;
mod deaths;
mod dev;
mod guests;
mod helm;
mod hostile;
mod kubectl;
mod network_policies;
mod programs;
mod prometheus;
mod streams;
mod workloads;

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::wait::{await_condition, conditions};
use reqwest::Method;
use serde_json::json;

use crate::cluster::{Cluster, Load, PATIENCE, until};

/// A Deployment of `hello-http` and its Service.
fn hello(name: &str, replicas: u32, message: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      containers:
        - name: hello
          image: hello
          ports: [{{ containerPort: 8080 }}]
          readinessProbe: {{ httpGet: {{ path: /healthz, port: 8080 }}, periodSeconds: 1 }}
          env:
            - {{ name: MESSAGE, value: "{message}" }}
            - {{ name: POD_NAME, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
            - {{ name: NODE_NAME, valueFrom: {{ fieldRef: {{ fieldPath: spec.nodeName }} }} }}
---
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec:
  selector: {{ app: {name} }}
  ports: [{{ name: http, port: 80, targetPort: 8080 }}]
"#
    )
}

async fn with_hello(replicas: u32) -> Cluster {
    let cluster = Cluster::start(&[]).await;
    run_hello(&cluster, replicas).await;
    cluster
}

async fn run_hello(cluster: &Cluster, replicas: u32) {
    cluster.push("hello-http", "hello");
    cluster.apply(&hello("hello", replicas, "one"));
    cluster.wait_for_rollout("hello").await;
    until("the router to know the service", async || {
        (cluster.get("hello.default.localhost", "/").await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shop_sells() {
    let cluster = Cluster::start(&["--demo"]).await;
    let (status, catalog) = cluster.get("127.0.0.1", "/catalog").await;
    assert_eq!(status, 200, "{catalog}");
    assert!(catalog.contains("Walnut"), "{catalog}");
    let order = reqwest::Client::new()
        .post(format!("http://{}/orders/w-1", cluster.ingress()))
        .send()
        .await
        .unwrap();
    assert_eq!(order.status(), 201);
    let order = order.text().await.unwrap();
    assert!(
        order.contains("\"stock\"") && order.contains("\"paid\":true"),
        "{order}"
    );
    // Two containers of one pod share a file and a loopback connection.
    until("the ledger's client to find its entry", async || {
        cluster
            .logs(&["ledger", "-c", "client"])
            .contains("is in the shared file")
            .then_some(())
    })
    .await;
    assert!(cluster.said().contains("pods ready"), "{}", cluster.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_and_its_undo_fail_no_request() {
    let cluster = with_hello(4).await;
    let host = "hello.default.localhost";
    let reads = Load::start(cluster.ingress(), host, 6);
    let writes = Load::of(Method::POST, cluster.ingress(), (host, "/echo"), 3);
    let serve = async || {
        reads.serve(200).await;
        writes.serve(100).await;
    };
    serve().await;
    cluster.apply(&hello("hello", 4, "two"));
    cluster.wait_for_rollout("hello").await;
    serve().await;
    assert!(
        cluster
            .get("hello.default.localhost", "/")
            .await
            .1
            .starts_with("two from")
    );
    cluster.wasmorch(&["rollout", "undo", "deployment/hello", "--yes"]);
    until("the undo to show", async || {
        cluster
            .get("hello.default.localhost", "/")
            .await
            .1
            .starts_with("one from")
            .then_some(())
    })
    .await;
    cluster.wait_for_rollout("hello").await;
    serve().await;
    reads.stop_without_failures().await;
    writes.stop_without_failures().await;
}

/// Services that call each other are rolled out under those who call them.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_not_seen_by_other_services() {
    let cluster = Cluster::start(&["--demo"]).await;
    let load = Load::of(Method::GET, cluster.ingress(), ("127.0.0.1", "/catalog"), 6);
    let orders = Load::of(
        Method::POST,
        cluster.ingress(),
        ("127.0.0.1", "/orders/w-1"),
        3,
    );
    load.serve(100).await;
    for name in ["catalog", "inventory", "orders", "gateway"] {
        cluster.wasmorch(&["rollout", "restart", &format!("deployment/{name}")]);
        cluster.wait_for_rollout(name).await;
        load.serve(50).await;
        orders.serve(30).await;
    }
    load.stop_without_failures().await;
    orders.stop_without_failures().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_machines_of_their_own() {
    let cluster = Cluster::start(&[]).await;
    cluster.push("ledger-server", "ledger-server");
    cluster.push("ledger-client", "ledger-client");
    let pod = |name: &str, containers: serde_json::Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "restartPolicy": "Never", "containers": containers, "volumes": [{"name": "data", "emptyDir": {}}],
        }})
        .to_string()
    };
    let mount = json!([{"name": "data", "mountPath": "/data"}]);
    let server = json!({"name": "server", "image": "ledger-server", "volumeMounts": mount});
    let client = json!({"name": "client", "image": "ledger-client", "volumeMounts": mount});
    // Two pods bind the same loopback port; each client reaches its own server and its own file.
    cluster.apply(&pod("first", json!([server, client])));
    cluster.apply(&pod("second", json!([server, client])));
    // A third pod has neither.
    cluster.apply(&pod("third", json!([client])));
    let api: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    for name in ["first", "second"] {
        cluster
            .wait_within(
                PATIENCE,
                "running pod",
                Box::pin(await_condition(
                    api.clone(),
                    name,
                    conditions::is_pod_running(),
                )),
            )
            .await
            .unwrap();
        until("an entry in the shared file", async || {
            cluster
                .logs(&[name, "-c", "client"])
                .contains("is in the shared file")
                .then_some(())
        })
        .await;
    }
    until("the third pod's refusal", async || {
        cluster
            .logs(&["third"])
            .to_lowercase()
            .contains("refused")
            .then_some(())
    })
    .await;
    assert!(!cluster.logs(&["third"]).contains("is in the shared file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_feels_at_home() {
    let cluster = with_hello(2).await;
    let Some(version) = cluster.kubectl(&["version"]) else {
        return;
    };
    assert!(version.contains("wasmorch"), "{version}");
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    let pods = kubectl(&["get", "pods", "-o", "wide"]);
    assert!(
        pods.contains("NOMINATED NODE") && pods.contains("Running"),
        "{pods}"
    );
    assert_eq!(
        kubectl(&["create", "namespace", "team"]),
        "namespace/team created\n"
    );
    kubectl(&[
        "create",
        "deployment",
        "web",
        "--image=hello",
        "--replicas=2",
        "--port=8080",
    ]);
    kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(
        kubectl(&["scale", "deployment/web", "--replicas=3"]),
        "deployment.apps/web scaled\n"
    );
    kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    kubectl(&[
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=60s",
    ]);
    let described = kubectl(&["describe", "deployment", "web"]);
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    let pod = kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let described = kubectl(&["describe", &pod]);
    assert!(described.contains("Successfully assigned"), "{described}");
    kubectl(&["logs", &pod]);
    let manifest = cluster.root().join("map.yaml");
    std::fs::write(
        &manifest,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: b}\n",
    )
    .unwrap();
    assert_eq!(
        kubectl(&["create", "-f", manifest.to_str().unwrap()]),
        "configmap/settings created\n"
    );
    assert!(kubectl(&["get", "configmap", "settings", "-o", "jsonpath={.data.a}"]).ends_with('b'));
    kubectl(&["delete", "deployment", "web"]);
    kubectl(&["delete", "namespace", "team"]);
    assert!(kubectl(&["get", "nodes"]).contains("dev-1"));
}
