//! What goes out over a WebSocket and is not answered: watches and logs, a message for each piece.
//!
//! Browsers have no other way to stream with a token, which travels as a subprotocol. A browser gives
//! up a connection whose answer selects none of the protocols it offered, so a client offers one
//! beside its token: Kubernetes' `base64.binary.k8s.io` (text messages in base64) or `binary.k8s.io`
//! (binary messages), or what else the stream has.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use tokio::sync::oneshot;

use super::Server;
use super::error::Error;

/// A client that takes no message for so long is cut.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// How a piece is written in a message.
#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    Text,
    Binary,
    Base64,
}

/// A subprotocol, and what its messages are.
pub(crate) type Protocol = (&'static str, Encoding);

/// Kubernetes' protocols of one stream, best first.
pub(crate) const BINARY: [Protocol; 2] = [
    ("base64.binary.k8s.io", Encoding::Base64),
    ("binary.k8s.io", Encoding::Binary),
];

/// An upgrade that a client asks for.
pub(crate) struct Socket {
    upgrade: WebSocketUpgrade,
    encoding: Encoding,
}

impl Socket {
    /// What is asked for, if it is: the first of `spoken` that is offered, else `otherwise`.
    pub(crate) async fn asked(
        parts: &mut Parts,
        spoken: impl IntoIterator<Item = Protocol>,
        otherwise: Encoding,
    ) -> Result<Option<Self>, Error> {
        let wanted = parts.headers.get(UPGRADE);
        if !wanted.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Ok(None);
        }
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
            .await
            .map_err(|error| Error::BadRequest(error.to_string()))?;
        let values = parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        let offers: Vec<&str> = values
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let mut spoken = spoken.into_iter();
        Ok(Some(match spoken.find(|(name, _)| offers.contains(name)) {
            Some((name, encoding)) => Self {
                upgrade: upgrade.protocols([name]),
                encoding,
            },
            None => Self {
                upgrade,
                encoding: otherwise,
            },
        }))
    }

    /// Answers the upgrade and streams in a task of the server.
    pub(crate) fn serve(
        self,
        server: &Arc<Server>,
        what: &'static str,
        pieces: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Response {
        let encoding = self.encoding;
        // The upgrade completes after this response is sent; the socket is passed to a task that
        // the server owns and drains.
        let (sender, receiver) = oneshot::channel();
        server.tasks.spawn_contained(what, async move {
            if let Ok(socket) = receiver.await {
                run(socket, encoding, pieces).await;
            }
        });
        self.upgrade
            .max_message_size(64 << 10)
            .on_upgrade(|socket| async {
                // A receiver that is gone means the server stops; the socket closes with it.
                let _ = sender.send(socket);
            })
    }
}

async fn run(mut socket: WebSocket, encoding: Encoding, pieces: impl Stream<Item = Bytes>) {
    let mut pieces = pin!(pieces);
    loop {
        tokio::select! {
            piece = pieces.next() => {
                let Some(piece) = piece else { break };
                let sent = socket.send(message(encoding, piece));
                if !matches!(tokio::time::timeout(SEND_TIMEOUT, sent).await, Ok(Ok(()))) {
                    return;
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

fn message(encoding: Encoding, piece: Bytes) -> Message {
    match encoding {
        Encoding::Text => Message::Text(Utf8Bytes::from(
            String::from_utf8_lossy(&piece).into_owned(),
        )),
        Encoding::Binary => Message::Binary(piece),
        Encoding::Base64 => Message::Text(Utf8Bytes::from(STANDARD.encode(&piece))),
    }
}
