//! A watch over a WebSocket: one message for each event. Browsers have no other way to stream with
//! a token, which travels as a subprotocol.
//!
//! A browser gives up a connection whose answer selects none of the protocols it offered, so a
//! client offers one beside its token: `base64.binary.k8s.io` (text messages in base64) or
//! `binary.k8s.io` (binary messages) as Kubernetes has them, or `text.wasmorch.dev` (plain text,
//! which is also what a client without protocols gets).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::oneshot;

use crate::apiserver::Server;

use super::Feed;

/// A client that takes no message for so long is cut.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
enum Protocol {
    Text,
    Binary,
    Base64,
}

const PROTOCOLS: [(&str, Protocol); 3] = [
    ("text.wasmorch.dev", Protocol::Text),
    ("base64.binary.k8s.io", Protocol::Base64),
    ("binary.k8s.io", Protocol::Binary),
];

/// Answers the upgrade and streams in a task of the server.
pub(crate) fn serve(
    server: &Arc<Server>,
    upgrade: WebSocketUpgrade,
    offered: &str,
    feed: Feed,
) -> Response {
    let chosen = PROTOCOLS
        .into_iter()
        .find(|(name, _)| offered.split(',').any(|offer| offer.trim() == *name));
    let protocol = chosen.map_or(Protocol::Text, |(_, protocol)| protocol);
    let upgrade = match chosen {
        Some((name, _)) => upgrade.protocols([name]),
        None => upgrade,
    };
    // The upgrade completes after this response is sent; the socket is passed to a task that the
    // server owns and drains.
    let (sender, receiver) = oneshot::channel();
    server
        .tasks
        .spawn_contained("watch over websocket", async move {
            if let Ok(socket) = receiver.await {
                run(socket, protocol, feed).await;
            }
        });
    upgrade
        .max_message_size(64 << 10)
        .on_upgrade(|socket| async {
            // A receiver that is gone means the server stops; the socket closes with it.
            let _ = sender.send(socket);
        })
}

async fn run(mut socket: WebSocket, protocol: Protocol, mut feed: Feed) {
    loop {
        tokio::select! {
            frame = feed.next() => {
                let Some(frame) = frame else { break };
                for event in frame.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let sent = tokio::time::timeout(SEND_TIMEOUT, socket.send(message(protocol, event)));
                    if !matches!(sent.await, Ok(Ok(()))) {
                        return;
                    }
                }
            }
            received = socket.recv() => match received {
                // Pings are answered by the library; a client has nothing else to say.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
    // The peer may be gone already; then there is nobody to say goodbye to.
    let _ = socket.send(Message::Close(None)).await;
}

fn message(protocol: Protocol, event: &[u8]) -> Message {
    match protocol {
        Protocol::Text => {
            Message::Text(Utf8Bytes::from(String::from_utf8_lossy(event).into_owned()))
        }
        Protocol::Binary => Message::Binary(event.to_vec().into()),
        Protocol::Base64 => Message::Text(Utf8Bytes::from(STANDARD.encode(event))),
    }
}
