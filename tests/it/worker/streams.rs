//! Streams to pods from clients that are not kubectl: forwarded ports over channels, proxies, and
//! clients who do not keep to the protocol.

use futures::{SinkExt as _, StreamExt as _};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::harness::{World, within};
use super::remote::exec;

const PORT_FORWARD: &str = "/api/v1/namespaces/default/pods/p/portforward";

/// Asks for an upgrade; a refusal is its status and text.
async fn upgrade(
    world: &World,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<TokioIo<Upgraded>, (u16, String)> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONNECTION, "Upgrade");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = world.client.send(request.body(Body::empty()).unwrap());
    let response = within(response).await.unwrap();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        return Err((status, String::from_utf8_lossy(&body).into_owned()));
    }
    let upgraded = within(hyper::upgrade::on(response)).await.unwrap();
    Ok(TokioIo::new(upgraded))
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn channels(world: &World, query: &str, protocol: &str) -> Result<Socket, (u16, String)> {
    let path = format!("{PORT_FORWARD}{query}");
    websocket(world, &path, protocol).await
}

async fn websocket(world: &World, path: &str, protocol: &str) -> Result<Socket, (u16, String)> {
    let key = generate_key();
    let headers = [
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", key.as_str()),
        ("sec-websocket-protocol", protocol),
    ];
    let io = upgrade(world, "GET", path, &headers).await?;
    Ok(WebSocketStream::from_raw_socket(io, Role::Client, None).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_carry_ports_and_close_with_their_pods() {
    let (world, worker) = World::with_hello().await;
    let open = channels(&world, "?ports=8080&ports=9", "v4.channel.k8s.io").await;
    let mut socket = open.unwrap();
    let request = b"\x00GET / HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n";
    let request = Message::Binary(request.to_vec().into());
    within(socket.send(request)).await.unwrap();
    let mut said: [Vec<u8>; 4] = Default::default();
    let mut is_closed = false;
    while let Some(Ok(message)) = within(socket.next()).await {
        match message {
            Message::Binary(bytes) => said[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            Message::Close(_) => is_closed = true,
            _ => {}
        }
    }
    assert!(is_closed, "a client reads to the end");
    let [data, error, no_data, refusal] = said;
    assert_eq!(data[..2], 8080_u16.to_le_bytes());
    assert!(data[2..].starts_with(b"HTTP/1.1 200"));
    assert_eq!(error, 8080_u16.to_le_bytes());
    assert_eq!(no_data, 9_u16.to_le_bytes());
    let refusal = String::from_utf8_lossy(&refusal[2..]).into_owned();
    assert!(
        refusal.starts_with("error forwarding port 9 to pod p_default, uid "),
        "{refusal}"
    );

    for (query, protocol, word) in [
        ("", "v4.channel.k8s.io", "ports"),
        ("?ports=0", "v4.channel.k8s.io", "port"),
        (
            "?ports=80",
            "v5.channel.k8s.io",
            "SPDY/3.1+portforward.k8s.io",
        ),
    ] {
        let refused = channels(&world, query, protocol).await;
        let (status, text) = refused.err().unwrap();
        assert!(status == 400 && text.contains(word), "{query}: {text}");
    }
    // A channel that nobody has ends the session, and nothing else.
    let mut socket = channels(&world, "?ports=8080", "v4.channel.k8s.io")
        .await
        .unwrap();
    let wrong = Message::Binary(vec![7, 1].into());
    within(socket.send(wrong)).await.unwrap();
    while let Some(Ok(_)) = within(socket.next()).await {}
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_spdy_is_cut_off_and_harms_nobody() {
    let (world, worker) = World::with_hello().await;
    let commands = "/api/v1/namespaces/default/pods/p/exec?command=true&stdout=true";
    let garbage = [0x80, 2, 0, 1, 0, 0, 0, 0].repeat(1000);
    for (path, version) in [
        (commands, "v4.channel.k8s.io"),
        (PORT_FORWARD, "portforward.k8s.io"),
    ] {
        let headers = [
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", version),
        ];
        let mut half_open = Vec::new();
        for _ in 0..8 {
            half_open.push(upgrade(&world, "POST", path, &headers).await.unwrap());
        }
        let mut io = upgrade(&world, "POST", path, &headers).await.unwrap();
        // The other end may hang up before it has all.
        let _ = within(io.write_all(&garbage)).await;
        let mut last = Vec::new();
        let _ = within(io.read_to_end(&mut last)).await;
        assert_eq!(last[..4], [0x80, 3, 0, 7], "GOAWAY");
        let wrong = [("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v1")];
        let (status, text) = upgrade(&world, "POST", path, &wrong).await.err().unwrap();
        assert!(status == 403 && text.contains(version), "{text}");
        assert_eq!(exec(&world, "p", &["true"]).await.code(), 0);
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_passes_requests_on() {
    let (world, worker) = World::with_hello().await;
    let base = "/api/v1/namespaces/default/pods/p:8080/proxy";
    let send = async |method: &str, path: &str, body: Vec<u8>| {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body)).unwrap();
        let response = within(world.client.send(request)).await.unwrap();
        let status = response.status().as_u16();
        let location = response.headers().get(header::LOCATION).cloned();
        let body = within(response.into_body().collect()).await.unwrap();
        (status, location, body.to_bytes())
    };
    let large = vec![b'x'; 5 << 20];
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let (status, _, body) = send(method, &format!("{base}/echo"), large.clone()).await;
        assert!(
            status == 200 && body == large,
            "{method}: more than an object may have"
        );
    }
    let (status, location, _) = send("GET", base, Vec::new()).await;
    assert_eq!(status, 301);
    assert_eq!(location.unwrap(), format!("{base}/"));
    let (status, _, body) = send("GET", &format!("{base}/trap"), Vec::new()).await;
    assert_eq!(status, 502, "{body:?}");
    for (path, expected) in [
        ("/api/v1/namespaces/default/pods/none/proxy/", 404),
        ("/api/v1/namespaces/default/pods/https:p:8080/proxy/", 400),
        ("/api/v1/namespaces/default/pods/a:b:c:d/proxy/", 400),
        ("/api/v1/namespaces/default/pods/p:9/proxy/", 503),
        ("/api/v1/namespaces/default/services/none/proxy/", 404),
        ("/api/v1/namespaces/default/configmaps/p/proxy/", 404),
        ("/api/v1/nodes/none/proxy/", 404),
        ("/api/v1/nodes/w:1/proxy/", 400),
        ("/api/v1/nodes/w/proxy/pods", 200),
        ("/api/v1/nodes/w/proxy/nothing", 404),
    ] {
        let (status, _, body) = send("GET", path, Vec::new()).await;
        assert_eq!(status, expected, "{path}: {body:?}");
    }
    // An upgrade goes on, too: a worker's own stream through the node's proxy.
    let path = "/api/v1/nodes/w/proxy/exec/default/p/main?command=echo&command=hi&stdout=true";
    let mut socket = websocket(&world, path, "v4.channel.k8s.io").await.unwrap();
    let first = within(socket.next()).await.unwrap().unwrap();
    assert_eq!(first, Message::Binary(b"\x01hi\n".to_vec().into()));
    let (status, _) = upgrade(&world, "GET", &format!("{base}/"), &[("upgrade", "chat")])
        .await
        .err()
        .unwrap();
    assert_eq!(status, 200, "who does not switch answers");
    worker.stop().await;
}
