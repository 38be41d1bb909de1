//! Network policies with the real kubectl: two workers, a server on one, clients on both, by socket
//! and by `wasi:http`, and the front door.

use crate::cluster::{Cluster, until};

/// A pod pinned to a node.
fn pod(name: &str, node: &str, role: &str, containers: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name}, role: {role} }} }}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  volumes: [{{ name: data, emptyDir: {{}} }}]
  containers: {containers}
---"
    )
}

fn service(name: &str, ports: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ selector: {{ app: {name} }}, ports: {ports} }}
---"
    )
}

fn world() -> String {
    let tools = "[{ name: main, image: toolbox, command: [sleep, infinity] }]";
    let gateway = "[{ name: main, image: gateway, ports: [{ containerPort: 8080 }] }]";
    // Probes come from the node and are always let in.
    let server = "
    - { name: http, image: catalog, ports: [{ name: web, containerPort: 8080 }],
        readinessProbe: { httpGet: { path: /healthz, port: 8080 }, periodSeconds: 1, failureThreshold: 1 } }
    - { name: tcp, image: ledger, env: [{ name: LISTEN, value: '0.0.0.0:7001' }],
        volumeMounts: [{ name: data, mountPath: /data }],
        readinessProbe: { tcpSocket: { port: 7001 }, periodSeconds: 1, failureThreshold: 1 } }";
    [
        pod("catalog", "dev-1", "server", server),
        pod("near", "dev-1", "client", tools),
        pod("far", "dev-2", "client", tools),
        pod("stranger", "dev-2", "stranger", tools),
        pod("near-gateway", "dev-1", "client", gateway),
        pod("far-gateway", "dev-2", "client", gateway),
        service(
            "catalog",
            "[{ name: http, port: 80, targetPort: web }, { name: tcp, port: 7001 }]",
        ),
        service("near-gateway", "[{ port: 80, targetPort: 8080 }]"),
        service("far-gateway", "[{ port: 80, targetPort: 8080 }]"),
    ]
    .concat()
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "{{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{ name: {name} }}, spec: {spec} }}"
    )
}

struct Journey(Cluster);

impl Journey {
    fn told(&self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        self.0.kubectl(&words).unwrap()
    }

    /// Whether a command in a pod succeeds, and what it says.
    fn runs(&self, pod: &str, command: &str) -> (bool, String) {
        let mut words = vec!["exec", pod, "--"];
        words.extend(command.split_whitespace());
        let output = self.0.try_kubectl(&words).unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    /// Who reaches the server how: `near http`, `far tcp`, `far wasi`, `door` …
    async fn reached(&self) -> Vec<&'static str> {
        const HTTP: &str = "curl -sf http://catalog/catalog";
        const TCP: &str = "nc -z catalog 7001";
        let mut reached = Vec::new();
        for (name, pod, command) in [
            ("near http", "near", HTTP),
            ("near tcp", "near", TCP),
            ("far http", "far", HTTP),
            ("far tcp", "far", TCP),
            ("stranger http", "stranger", HTTP),
            ("stranger tcp", "stranger", TCP),
        ] {
            reached.extend(self.runs(pod, command).0.then_some(name));
        }
        for (name, host) in [
            ("near wasi", "near-gateway.default.localhost"),
            ("far wasi", "far-gateway.default.localhost"),
            ("door", "catalog.default.localhost"),
        ] {
            let (status, _) = self.0.get(host, "/catalog").await;
            reached.extend((status == 200).then_some(name));
        }
        reached
    }

    async fn wait_for(&self, expected: &[&str]) {
        let mut last = Vec::new();
        let what = format!("only {expected:?} to reach the server");
        let waiting = until(&what, async || {
            last = self.reached().await;
            (last == expected).then_some(())
        });
        self.0
            .wait_within(crate::cluster::PATIENCE * 2, &what, waiting)
            .await;
    }
}

/// With the stranger among them.
const CLIENTS: [&str; 5] = [
    "near http",
    "far http",
    "stranger http",
    "near wasi",
    "far wasi",
];

const EVERYBODY: [&str; 9] = [
    "near http",
    "near tcp",
    "far http",
    "far tcp",
    "stranger http",
    "stranger tcp",
    "near wasi",
    "far wasi",
    "door",
];

#[tokio::test(flavor = "multi_thread")]
async fn policies_hold_on_every_way_to_a_pod() {
    let journey = Journey(Cluster::start(&["--nodes", "2"]).await);
    let cluster = &journey.0;
    if cluster.try_kubectl(&["version"]).is_none() {
        eprintln!("no kubectl here; its journey is not made");
        return;
    }
    for (guest, image) in [
        ("shop-catalog", "catalog"),
        ("shop-gateway", "gateway"),
        ("ledger-server", "ledger"),
    ] {
        cluster.push(guest, image);
    }
    cluster.apply(&world());
    journey.told("wait --for=condition=Ready pod --all --timeout=60s");
    journey.wait_for(&EVERYBODY).await;

    ways_in(&journey).await;
    journey.told("delete netpol --all");
    journey.wait_for(&EVERYBODY).await;
    ways_out(&journey).await;

    // A worker that starts again closes before it opens.
    cluster.apply(&policy(
        "deny",
        "{ podSelector: { matchLabels: { app: catalog } } }",
    ));
    journey.wait_for(&[]).await;
    let killed = cluster.pid("dev-1");
    cluster.kill("dev-1");
    cluster.wait_for_restart("dev-1", killed).await;
    for _ in 0..5 {
        assert_eq!(journey.reached().await, [""; 0]);
    }
    let _ = journey.0.stop();
}

/// Who reaches the catalog.
async fn ways_in(journey: &Journey) {
    let cluster = &journey.0;
    // Nobody, whatever the way; the node's own probes, and exec, go on.
    cluster.apply(&policy(
        "deny",
        "{ podSelector: { matchLabels: { app: catalog } } }",
    ));
    journey.wait_for(&[]).await;
    let (_, said) = journey.runs("near", "nc -z catalog 7001");
    assert!(said.contains("refused"), "{said}");
    let (status, said) = cluster.get("catalog.default.localhost", "/catalog").await;
    assert_eq!(status, 403, "{said}");
    let is_ready = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    let ready = journey.told(&format!("get pod catalog {is_ready}"));
    assert_eq!(ready, "True");
    assert!(journey.told("get netpol").contains("app=catalog"));
    let described = journey.told("describe netpol deny");
    assert!(described.contains("Policy Types: Ingress"), "{described}");

    // By label and by the port's name: from both workers, to one of the two ports.
    cluster.apply(&policy(
        "clients",
        "{ podSelector: { matchLabels: { app: catalog } }, ingress: [{ ports: [{ port: web }],
            from: [{ podSelector: { matchLabels: { role: client } } }] }] }",
    ));
    journey
        .wait_for(&["near http", "far http", "near wasi", "far wasi"])
        .await;
    // A label makes a client.
    journey.told("label pod stranger role=client --overwrite");
    journey.wait_for(&CLIENTS).await;

    // The front door's clients have addresses.
    cluster.apply(&policy(
        "door",
        "{ podSelector: { matchLabels: { app: catalog } }, ingress: [{ from: [{ ipBlock: { cidr: 127.0.0.0/8 } }] }] }",
    ));
    journey.wait_for(&[&CLIENTS[..], &["door"]].concat()).await;
}

/// One that may go nowhere, one that may go to the port of another protocol only.
async fn ways_out(journey: &Journey) {
    let cluster = &journey.0;
    cluster.apply(&policy(
        "stay",
        "{ podSelector: { matchLabels: { app: near } }, policyTypes: [Egress] }",
    ));
    cluster.apply(&policy(
        "gateways",
        "{ podSelector: { matchExpressions: [{ key: app, operator: In, values: [near-gateway, far-gateway, far] }] },
            policyTypes: [Egress], egress: [{ ports: [{ port: 7001 }], to: [{ namespaceSelector: {} }] }] }",
    ));
    journey
        .wait_for(&["far tcp", "stranger http", "stranger tcp", "door"])
        .await;
    let (_, said) = journey.runs("near", "nc -z catalog 7001");
    assert!(said.to_lowercase().contains("denied"), "{said}");
}
