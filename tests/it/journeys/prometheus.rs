//! Prometheus finds what runs: every role of its discovery, and guests scraped through the server.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::clients::{clients, script};
use crate::cluster::{Cluster, until};

/// Two pods whose answer, to any path, is a page of figures.
const COUNTERS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: hello }
spec:
  replicas: 2
  selector: { matchLabels: { app: hello } }
  template:
    metadata: { labels: { app: hello }, annotations: { prometheus.io/scrape: "true" } }
    spec:
      containers:
        - name: hello
          image: hello
          ports: [{ name: web, containerPort: 8080 }]
          env: [{ name: MESSAGE, value: "greetings_total 7\n#" }]
---
apiVersion: v1
kind: Service
metadata: { name: hello, labels: { app: hello } }
spec:
  selector: { app: hello }
  ports: [{ name: http, port: 80, targetPort: 8080 }]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: hello }
spec:
  ingressClassName: wasmorch
  rules: [{ http: { paths: [{ path: /metrics, pathType: Prefix, backend: { service: { name: hello, port: { name: http } } } }] } }]
"#;

/// Names without their prefix, and values.
type Labels = &'static [(&'static str, &'static str)];

/// Of each role how many targets there are, and some of what is known of each.
const EXPECTED: &[(&str, usize, Labels)] = &[
    (
        "node",
        2,
        &[
            ("node_address_InternalIP", "127.0.0.1"),
            ("node_label_kubernetes_io_os", "wasi"),
        ],
    ),
    (
        "pod",
        2,
        &[
            ("namespace", "default"),
            ("pod_annotation_prometheus_io_scrape", "true"),
            ("pod_container_name", "hello"),
            ("pod_container_port_name", "web"),
            ("pod_container_port_number", "8080"),
            ("pod_controller_kind", "ReplicaSet"),
            ("pod_host_ip", "127.0.0.1"),
            ("pod_label_app", "hello"),
            ("pod_phase", "Running"),
            ("pod_ready", "true"),
            ("node_label_kubernetes_io_arch", "wasm32"),
        ],
    ),
    (
        "service",
        1,
        &[
            ("service_name", "hello"),
            ("service_port_name", "http"),
            ("service_port_number", "80"),
            ("service_type", "ClusterIP"),
        ],
    ),
    (
        "endpoints",
        2,
        &[
            ("endpoint_address_target_kind", "Pod"),
            ("endpoint_port_name", "http"),
            ("endpoint_ready", "true"),
            ("endpoints_name", "hello"),
            ("pod_phase", "Running"),
        ],
    ),
    (
        "endpointslice",
        2,
        &[
            ("endpointslice_address_target_kind", "Pod"),
            ("endpointslice_address_type", "IPv4"),
            ("endpointslice_endpoint_conditions_ready", "true"),
            ("endpointslice_port", "8080"),
            ("service_label_app", "hello"),
        ],
    ),
    (
        "apiservers",
        1,
        &[
            ("endpoints_name", "kubernetes"),
            ("endpoint_port_name", "https"),
            ("service_label_component", "apiserver"),
        ],
    ),
    (
        "ingress",
        1,
        &[
            ("ingress_class_name", "wasmorch"),
            ("ingress_name", "hello"),
            ("ingress_path", "/metrics"),
            ("ingress_scheme", "http"),
        ],
    ),
];

/// A Prometheus that runs.
struct Prometheus {
    child: Child,
    url: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    async fn start(program: &std::path::Path, cluster: &Cluster) -> Self {
        let root = cluster.root();
        let kubeconfig = std::fs::read_to_string(root.join("kubeconfig")).unwrap();
        let kubeconfig: Value = serde_json::from_str(&kubeconfig).unwrap();
        let server = &kubeconfig["clusters"][0]["cluster"];
        let authority = server["certificate-authority-data"].as_str().unwrap();
        let authority = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, authority);
        std::fs::write(root.join("ca.crt"), authority.unwrap()).unwrap();
        let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
        std::fs::write(root.join("token"), token).unwrap();
        let address = server["server"].as_str().unwrap().replace("https://", "");
        let text = std::fs::read_to_string(script("prometheus.yaml")).unwrap();
        let text = text.replace("API", &address);
        let text = text.replace("INGRESS", &cluster.ingress().to_string());
        std::fs::write(root.join("prometheus.yaml"), text).unwrap();
        let said = root.join("logs/prometheus.log");
        let log = std::fs::File::create(&said).unwrap();
        let mut child = Command::new(program)
            .args([
                "--config.file=prometheus.yaml",
                "--storage.tsdb.path=figures",
            ])
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(&root)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let url = until("Prometheus to listen", async || {
            let text = std::fs::read_to_string(&said).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it ended:\n{text}");
            let (_, rest) = text.split_once("msg=\"Listening on\" address=")?;
            Some(format!("http://{}", rest.split_whitespace().next()?))
        })
        .await;
        Self { child, url }
    }

    /// Null while it is not ready to answer.
    async fn get(&self, path: &str) -> Value {
        let response = reqwest::get(format!("{}/api/v1/{path}", self.url)).await;
        response.unwrap().json().await.unwrap_or_default()
    }

    /// The targets of a job, once so many of them were scraped well.
    async fn targets(&self, job: &str, count: usize) -> Vec<Value> {
        let mut last = Value::Null;
        let what = format!("{count} targets of {job}");
        let found = until(&what, async || {
            last = self.get(&format!("targets?scrapePool={job}")).await;
            let all = last["data"]["activeTargets"].as_array()?;
            let is_well = |target: &Value| target["scrapePool"] == job && target["health"] == "up";
            let well: Vec<_> = all.iter().filter(|it| is_well(it)).cloned().collect();
            (well.len() == count).then_some(well)
        });
        found.await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_and_scrapes_what_runs() {
    let Some(clients) = clients() else { return };
    let cluster = Cluster::start(&["--nodes", "2"]).await;
    cluster.push("hello-http", "hello");
    cluster.apply(COUNTERS);
    cluster.wait_for_rollout("hello").await;
    let prometheus = Prometheus::start(&clients.join("prometheus"), &cluster).await;
    for (role, count, labels) in EXPECTED {
        for target in prometheus.targets(role, *count).await {
            let found = &target["discoveredLabels"];
            for (label, value) in *labels {
                assert_eq!(
                    found[format!("__meta_kubernetes_{label}")],
                    *value,
                    "{role}: {label} of {found}"
                );
            }
        }
    }
    // Two pods, the service and the ingress told their figure; the server tells its own.
    let counted = prometheus
        .get("query?query=count(greetings_total==7)")
        .await;
    assert_eq!(counted["data"]["result"][0]["value"][1], "4", "{counted}");
    let own = "query?query=count(apiserver_request_total{job=\"node\"})>0";
    let own = prometheus.get(own).await;
    assert!(!own["data"]["result"][0].is_null(), "{own}");
    // It follows: a pod less is a target less.
    cluster.wasmorch(&["scale", "deployment/hello", "--replicas", "1"]);
    prometheus.targets("pod", 1).await;
    prometheus.targets("endpointslice", 1).await;
    drop(prometheus);
    let _ = cluster.stop();
}
