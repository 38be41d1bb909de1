//! Programs of every WASI version, served by one cluster: 0.1 over TCP on a node port, 0.2 and 0.3
//! over HTTP at the front door; with configuration from ConfigMap, Secret and downward API.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use k8s_openapi::api::core::v1::Service;
use kube::api::Api;

use crate::cluster::{Cluster, PATIENCE, example, until};

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_every_wasi_version_serve() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    for (guest, manifest) in [
        ("hello-http", "hello-http/hello.yaml"),
        ("hello-wasip3", "hello-wasip3/hello.yaml"),
        ("echo-wasip1", "echo-wasip1/echo.yaml"),
    ] {
        cluster.push(guest, guest);
        cluster.apply(&example(manifest));
    }
    for (host, start) in [
        ("hello-http", "Good day from hello-http"),
        ("hello-wasip3", "Hello from hello-wasip3"),
    ] {
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
    let environment = cluster.get("hello-http.default.localhost", "/env").await.1;
    assert!(environment.contains("TOKEN=s3cret"), "{environment}");
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    let service = services.get("echo").await.unwrap();
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
