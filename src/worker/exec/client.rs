//! The client of a remote command, whichever way it came: one half that is heard, one that is told.
//!
//! A WebSocket carries all streams in numbered messages (`channels`); SPDY has a stream for each
//! (`over_spdy`). What differs ends here.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;

use super::channels::{Protocol, Said};
use super::over_spdy::{Told, Typing};
use crate::runtime::spec::LogStream;

/// A client that takes nothing for so long is gone.
const SEND: Duration = Duration::from_secs(30);

/// Who asked for a command.
pub struct Client {
    pub(super) ear: Ear,
    pub(super) voice: Voice,
}

/// What the client says.
pub(super) enum Ear {
    Socket(SplitStream<WebSocket>, Protocol),
    Spdy(Typing),
}

/// What is said to the client.
pub(super) enum Voice {
    Socket(SplitSink<WebSocket, Message>, Protocol),
    Spdy(Told),
}

/// Something that a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Input(Bytes),
    EndOfInput,
    /// Like the size of its window, which no guest can ask for.
    Nothing,
}

impl Client {
    /// One that speaks a protocol of that name.
    pub fn over_websocket(socket: WebSocket, protocol: &str) -> Self {
        let protocol = Protocol::named(protocol);
        let (sink, stream) = socket.split();
        Self {
            ear: Ear::Socket(stream, protocol),
            voice: Voice::Socket(sink, protocol),
        }
    }
}

/// What a message says; `None` if that is nonsense.
fn heard(protocol: Protocol, message: Bytes) -> Option<Heard> {
    match protocol.read(message) {
        Said::Input(input) => Some(Heard::Input(input)),
        Said::EndOfInput => Some(Heard::EndOfInput),
        Said::Nothing => Some(Heard::Nothing),
        Said::Nonsense => None,
    }
}

impl Ear {
    /// What comes next; `None` when the client is gone, or talks nonsense.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        match self {
            Self::Socket(stream, protocol) => match stream.next().await?.ok()? {
                Message::Binary(bytes) => heard(*protocol, bytes),
                // Python's client sends what it is given as text so, channel and all.
                Message::Text(text) => heard(*protocol, text.into()),
                Message::Close(_) => None,
                Message::Ping(_) | Message::Pong(_) => Some(Heard::Nothing),
            },
            Self::Spdy(typing) => typing.next().await,
        }
    }

    /// Waits until the client has closed; a connection that is cut before would lose what it has
    /// not read.
    pub(super) async fn drain(&mut self) {
        match self {
            Self::Socket(stream, _) => while let Some(Ok(_)) = stream.next().await {},
            Self::Spdy(typing) => typing.gone().await,
        }
    }
}

impl Voice {
    /// Output; `false` when the client does not hear it.
    pub(super) async fn output(&mut self, stream: LogStream, chunk: &[u8]) -> bool {
        match self {
            Self::Socket(sink, protocol) => send(sink, protocol.output(stream, chunk)).await,
            Self::Spdy(told) => in_time(told.output(stream, chunk)).await,
        }
    }

    /// Asks whether the client is there; `false` when it is known not to be.
    pub(super) async fn ping(&mut self) -> bool {
        match self {
            Self::Socket(sink, _) => send(sink, Message::Ping(Bytes::new())).await,
            // The session does it for all its streams.
            Self::Spdy(_) => true,
        }
    }

    /// How it ended, as a `Status`, and the end.
    pub(super) async fn finish(&mut self, status: &Value) {
        match self {
            Self::Socket(sink, protocol) => {
                let is_told = match protocol.status(status) {
                    Some(message) => send(sink, message).await,
                    None => true,
                };
                if is_told {
                    let close = CloseFrame {
                        code: close_code::NORMAL,
                        reason: "".into(),
                    };
                    send(sink, Message::Close(Some(close))).await;
                }
            }
            Self::Spdy(told) => {
                in_time(told.finish(status)).await;
            }
        }
    }
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> bool {
    in_time(async { sink.send(message).await.is_ok() }).await
}

async fn in_time(work: impl Future<Output = bool>) -> bool {
    tokio::time::timeout(SEND, work).await.unwrap_or(false)
}
