//! Programs of every WASI version, served by one cluster: 0.1 over TCP on a node port, 0.2 and 0.3
//! over HTTP at the front door; with configuration from ConfigMap, Secret and downward API.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use k8s_openapi::api::core::v1::Service;
use kube::api::Api;

use crate::cluster::{Cluster, PATIENCE, until};

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { greeting: "Good day" }
---
apiVersion: v1
kind: Secret
metadata: { name: keys }
stringData: { token: s3cret }
---
apiVersion: v1
kind: Pod
metadata: { name: two, labels: { app: two } }
spec:
  containers:
    - name: hello
      image: hello
      env:
        - { name: MESSAGE, valueFrom: { configMapKeyRef: { name: settings, key: greeting } } }
        - { name: TOKEN, valueFrom: { secretKeyRef: { name: keys, key: token } } }
        - { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
---
apiVersion: v1
kind: Service
metadata: { name: two }
spec: { selector: { app: two }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: three, labels: { app: three } }
spec: { containers: [{ name: hello, image: hello3 }] }
---
apiVersion: v1
kind: Service
metadata: { name: three }
spec: { selector: { app: three }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: one, labels: { app: one } }
spec:
  containers:
    - name: echo
      image: echo
      ports: [{ containerPort: 7007 }]
      readinessProbe: { tcpSocket: { port: 7007 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: one }
spec: { type: NodePort, selector: { app: one }, ports: [{ port: 7007 }] }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_every_wasi_version_serve() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    for (guest, image) in [
        ("hello-http", "hello"),
        ("hello-wasip3", "hello3"),
        ("echo-wasip1", "echo"),
    ] {
        cluster.push(guest, image);
    }
    cluster.apply(MANIFEST);
    for (host, start) in [("two", "Good day from two"), ("three", "Hello from")] {
        let host = format!("{host}.default.localhost");
        until("an answer at the front door", async || {
            cluster
                .get(&host, "/")
                .await
                .1
                .starts_with(start)
                .then_some(())
        })
        .await;
    }
    let environment = cluster.get("two.default.localhost", "/env").await.1;
    assert!(environment.contains("TOKEN=s3cret"), "{environment}");
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    let service = services.get("one").await.unwrap();
    let port = service.spec.unwrap().ports.unwrap()[0].node_port.unwrap();
    let echoed = until("an echo on the node port", async || {
        echo(u16::try_from(port).unwrap()).ok()
    })
    .await;
    assert_eq!(echoed, "over the wire");
}

/// Sends a line to a port of this machine and reads what comes back until the end.
fn echo(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"over the wire")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(answer)
    }
}
