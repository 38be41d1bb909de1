//! `pods/log`: from a worker's HTTPS API, through the server, to the client.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::StreamExt as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wasmorch::tasks::TaskGroup;

use super::harness::{Cluster, WAIT, answer};
use super::watches::Socket;

/// A worker that answers one request with what it was asked, then with lines that never end.
async fn worker(tasks: &TaskGroup) -> u16 {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cancelled = tasks.cancelled();
    tasks.spawn("worker", async move {
        loop {
            let Some(accepted) = cancelled.run_until_cancelled(listener.accept()).await else {
                return;
            };
            let mut stream = acceptor.accept(accepted.unwrap().0).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let first = head.lines().next().unwrap();
            let token = head
                .lines()
                .find(|line| line.to_ascii_lowercase().starts_with("authorization:"))
                .unwrap();
            let line = format!("{first} | {token}\n");
            let answer = if first.contains("/missing") {
                "HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno such".to_owned()
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{line}\r\n",
                    line.len()
                )
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if first.contains("follow=true") {
                stream.flush().await.unwrap();
                // Held open until the other side closes.
                let _ = stream.read(&mut [0; 1]).await;
            } else {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
                stream.shutdown().await.unwrap();
            }
        }
    });
    port
}

async fn with_pod(cluster: &Cluster, port: u16) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "dev-1"}});
    assert_eq!(cluster.send("POST", "/api/v1/nodes", &node).await.0, 201);
    let patch = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let request = cluster
        .request("PATCH", "/api/v1/nodes/dev-1/status")
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string());
    let (code, node) = answer(request).await;
    assert_eq!(code, 200, "{node}");
    for (name, containers) in [
        ("one", json!([{"name": "c", "image": "hello"}])),
        ("missing", json!([{"name": "c", "image": "hello"}])),
        (
            "two",
            json!([{"name": "a", "image": "hello"}, {"name": "b", "image": "hello"}]),
        ),
        ("unplaced", json!([{"name": "c", "image": "hello"}])),
    ] {
        let mut spec = json!({"containers": containers, "nodeName": "dev-1"});
        if name == "unplaced" {
            spec = json!({"containers": containers, "nodeSelector": {"no": "where"}});
        }
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        let (code, pod) = cluster
            .send("POST", "/api/v1/namespaces/default/pods", &pod)
            .await;
        assert_eq!(code, 201, "{pod}");
    }
}

#[tokio::test]
async fn logs_come_from_the_worker_and_stream() {
    let cluster = Cluster::start().await;
    let tasks = TaskGroup::new();
    let port = worker(&tasks).await;
    with_pod(&cluster, port).await;
    let log = |pod: &str, query: &str| {
        cluster.request(
            "GET",
            &format!("/api/v1/namespaces/default/pods/{pod}/log?{query}"),
        )
    };
    let (code, text) = answer(log("one", "tailLines=5&stream=All")).await;
    assert_eq!(code, 200, "{text}");
    let text = text.as_str().unwrap();
    assert!(
        text.starts_with("GET /containerLogs/default/one/c?tailLines=5 HTTP/1.1 | ")
            && text.to_lowercase().contains("authorization: bearer "),
        "{text}"
    );
    let refused = [
        ("two", "", 400, "choose one of: [a b]"),
        ("two", "container=x", 400, "container x is not valid"),
        (
            "one",
            "tailLines=-1",
            422,
            "PodLogOptions \"one\" is invalid: tailLines: Invalid value: -1: must be greater",
        ),
        ("none", "", 404, "pods \"none\" not found"),
        ("missing", "", 404, "no such"),
    ];
    for (pod, query, code, message) in refused {
        let (found, status) = answer(log(pod, query)).await;
        assert_eq!(found, code, "{status}");
        let text = status["message"].as_str().unwrap();
        assert!(text.contains(message), "{text}");
    }
    assert_eq!(
        answer(log("unplaced", "")).await,
        (200, Value::String(String::new()))
    );

    let response = log("two", "container=b&follow=true").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain");
    let mut lines = response.bytes_stream();
    let first = tokio::time::timeout(WAIT, lines.next()).await.unwrap();
    assert!(
        first
            .unwrap()
            .unwrap()
            .starts_with(b"GET /containerLogs/default/two/b?follow=true")
    );
    cluster.stop().await;
    let end = async { while let Some(Ok(_)) = lines.next().await {} };
    tokio::time::timeout(WAIT, end).await.unwrap();
    tasks.cancel();
}

#[tokio::test]
async fn browsers_read_logs_over_a_websocket() {
    let cluster = Cluster::start().await;
    let tasks = TaskGroup::new();
    let port = worker(&tasks).await;
    with_pod(&cluster, port).await;
    let path = "/api/v1/namespaces/default/pods/one/log?follow=true";
    let token = URL_SAFE_NO_PAD.encode(&cluster.token);
    let token = format!("base64url.bearer.authorization.k8s.io.{token}");

    let (mut socket, head) =
        Socket::open(&cluster, path, &format!("{token}, base64.binary.k8s.io")).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let head = head.to_lowercase();
    let chosen = "sec-websocket-protocol: base64.binary.k8s.io";
    assert!(head.contains(chosen), "{head}");
    assert_eq!(socket.next().await, (1, Vec::new()));
    let (opcode, text) = socket.next().await;
    assert_eq!(opcode, 1);
    let text = STANDARD.decode(text).unwrap();
    assert!(text.starts_with(b"GET /containerLogs/default/one/c?follow=true"));

    // This worker serves one at a time: who leaves ends the stream from it.
    drop(socket);
    let (mut socket, _) = Socket::open(&cluster, path, &format!("{token}, binary.k8s.io")).await;
    assert_eq!(socket.next().await, (2, Vec::new()));
    let (opcode, text) = socket.next().await;
    assert_eq!(opcode, 2);
    assert!(text.starts_with(b"GET /containerLogs/default/one/c?follow=true"));

    let none = "/api/v1/namespaces/default/pods/none/log";
    let (_, head) = Socket::open(&cluster, none, &format!("{token}, binary.k8s.io")).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    cluster.stop().await;
    assert_eq!(socket.next().await.0, 8, "a shutdown says goodbye");
    tasks.cancel();
}
