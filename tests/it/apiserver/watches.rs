//! Watches over chunked HTTP and over a WebSocket.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::{Cluster, WAIT};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Reads lines of JSON off a response.
struct Lines {
    stream: futures::stream::BoxStream<'static, Vec<u8>>,
    buffer: Vec<u8>,
}

impl Lines {
    async fn open(cluster: &Cluster, path: &str, accept: &str) -> Self {
        let request = cluster.request("GET", path).header("accept", accept);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self {
            stream: response
                .bytes_stream()
                .map(|chunk| chunk.unwrap().to_vec())
                .boxed(),
            buffer: Vec::new(),
        }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(WAIT, async {
            loop {
                if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.buffer.drain(..=end).collect();
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                self.buffer.extend(self.stream.next().await?);
            }
        })
        .await
        .expect("an event in time")
    }

    /// The next event about an object that a test made.
    async fn next_of(&mut self, name: &str) -> Value {
        loop {
            let event = self.next().await.expect("the watch goes on");
            if event["object"]["metadata"]["name"] == name {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn a_watch_tells_what_was_what_changes_and_what_goes() {
    let cluster = Cluster::start().await;
    cluster.create_config_map("a", &json!({"k": "1"})).await;
    let mut lines = Lines::open(&cluster, &format!("{MAPS}?watch=1"), "application/json").await;
    let event = lines.next_of("a").await;
    assert_eq!(event["type"], "ADDED");
    assert_eq!(
        (
            event["object"]["kind"].as_str(),
            event["object"]["apiVersion"].as_str()
        ),
        (Some("ConfigMap"), Some("v1"))
    );
    cluster
        .request("PATCH", &format!("{MAPS}/a"))
        .header("content-type", "application/merge-patch+json")
        .body(r#"{"data":{"k":"2"}}"#)
        .send()
        .await
        .unwrap();
    let event = lines.next_of("a").await;
    assert_eq!(
        (
            event["type"].as_str(),
            event["object"]["data"]["k"].as_str()
        ),
        (Some("MODIFIED"), Some("2"))
    );
    let changed = event["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    cluster
        .request("DELETE", &format!("{MAPS}/a"))
        .send()
        .await
        .unwrap();
    let event = lines.next_of("a").await;
    assert_eq!(event["type"], "DELETED");

    // From a revision on, only what came after it.
    let path = format!("{MAPS}?watch=1&resourceVersion={changed}");
    let mut later = Lines::open(&cluster, &path, "application/json").await;
    assert_eq!(later.next_of("a").await["type"], "DELETED");
}

#[tokio::test]
async fn initial_events_end_in_a_bookmark_and_time_ends_the_stream() {
    let cluster = Cluster::start().await;
    cluster.create_config_map("a", &json!({})).await;
    let path = format!(
        "{MAPS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    );
    let mut lines = Lines::open(&cluster, &path, "application/json").await;
    assert_eq!(lines.next_of("a").await["type"], "ADDED");
    let bookmark = loop {
        let event = lines.next().await.unwrap();
        if event["type"] == "BOOKMARK" {
            break event;
        }
    };
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    while lines.next().await.is_some() {}
}

#[tokio::test]
async fn a_table_watch_sends_its_columns_once() {
    let cluster = Cluster::start().await;
    cluster.create_config_map("a", &json!({})).await;
    cluster.create_config_map("b", &json!({})).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut lines = Lines::open(&cluster, &format!("{MAPS}?watch=1"), table).await;
    let first = lines.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert!(
        !first["object"]["columnDefinitions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let second = lines.next().await.unwrap();
    assert!(
        second["object"]["columnDefinitions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(second["object"]["rows"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_expired_revision_is_told_inside_the_stream() {
    let cluster = Cluster::start_with(|args| args.history = 4).await;
    let made = cluster.create_config_map("first", &json!({})).await;
    let old = made["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    // The store forgets in chunks, so it takes a few of them.
    for index in 0..450 {
        cluster
            .create_config_map(&format!("n{index}"), &json!({}))
            .await;
    }
    let path = format!("{MAPS}?watch=1&resourceVersion={old}");
    let mut lines = Lines::open(&cluster, &path, "application/json").await;
    let event = lines.next().await.unwrap();
    assert_eq!(
        (event["type"].as_str(), &event["object"]["code"]),
        (Some("ERROR"), &json!(410))
    );
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn a_shutdown_ends_watches_in_good_order() {
    let cluster = Cluster::start().await;
    let mut lines = Lines::open(&cluster, &format!("{MAPS}?watch=1"), "application/json").await;
    cluster.stop().await;
    while lines.next().await.is_some() {}
}

/// A WebSocket's client side, as far as what only listens needs it.
pub(super) struct Socket(TcpStream);

impl Socket {
    pub(super) async fn open(cluster: &Cluster, path: &str, protocols: &str) -> (Self, String) {
        let address = cluster.addresses.http.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocols}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        (Self(stream), String::from_utf8(answer).unwrap())
    }

    /// The next frame: its opcode and payload.
    pub(super) async fn next(&mut self) -> (u8, Vec<u8>) {
        tokio::time::timeout(WAIT, async {
            let opcode = self.0.read_u8().await.unwrap() & 0x0f;
            let length = match self.0.read_u8().await.unwrap() {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                length => u64::from(length),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            (opcode, payload)
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn browsers_watch_over_a_websocket() {
    let cluster = Cluster::start().await;
    cluster.create_config_map("a", &json!({"k": "v"})).await;
    let path = format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da");
    let token = URL_SAFE_NO_PAD.encode(&cluster.token);
    let offer =
        |protocol: &str| format!("base64url.bearer.authorization.k8s.io.{token}, {protocol}");

    let (mut socket, head) = Socket::open(&cluster, &path, &offer("text.wasmorch.dev")).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("sec-websocket-protocol: text.wasmorch.dev"),
        "{head}"
    );
    let (opcode, payload) = socket.next().await;
    assert_eq!(opcode, 1);
    let event: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (
            event["type"].as_str(),
            event["object"]["data"]["k"].as_str()
        ),
        (Some("ADDED"), Some("v"))
    );
    cluster
        .request("DELETE", &format!("{MAPS}/a"))
        .send()
        .await
        .unwrap();
    let event: Value = serde_json::from_slice(&socket.next().await.1).unwrap();
    assert_eq!(event["type"], "DELETED");

    cluster.create_config_map("a", &json!({})).await;
    let (mut socket, _) = Socket::open(&cluster, &path, &offer("base64.binary.k8s.io")).await;
    let (opcode, payload) = socket.next().await;
    assert_eq!(opcode, 1);
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(payload)
        .unwrap();
    let event: Value = serde_json::from_slice(&decoded).unwrap();
    assert_eq!(event["type"], "ADDED");

    let (_, head) = Socket::open(&cluster, &path, "base64.binary.k8s.io").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    cluster.stop().await;
    assert_eq!(socket.next().await.0, 8, "a shutdown says goodbye");
}
