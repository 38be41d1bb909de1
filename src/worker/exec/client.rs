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

use super::channels::{self, Said};
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
    Socket(SplitStream<WebSocket>),
    Spdy(Typing),
}

/// What is said to the client.
pub(super) enum Voice {
    Socket(SplitSink<WebSocket, Message>),
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

impl From<WebSocket> for Client {
    fn from(socket: WebSocket) -> Self {
        let (sink, stream) = socket.split();
        Self {
            ear: Ear::Socket(stream),
            voice: Voice::Socket(sink),
        }
    }
}

/// What a message says; `None` if that is nonsense.
fn heard(message: &Bytes) -> Option<Heard> {
    match channels::read(message) {
        Said::Input(input) => Some(Heard::Input(message.slice_ref(input))),
        Said::EndOfInput => Some(Heard::EndOfInput),
        Said::Nothing => Some(Heard::Nothing),
        Said::Nonsense => None,
    }
}

impl Ear {
    /// What comes next; `None` when the client is gone, or talks nonsense.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        match self {
            Self::Socket(stream) => match stream.next().await?.ok()? {
                Message::Binary(bytes) => heard(&bytes),
                // Python's client sends what it is given as text so, channel and all.
                Message::Text(text) => heard(&text.into()),
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
            Self::Socket(stream) => while let Some(Ok(_)) = stream.next().await {},
            Self::Spdy(typing) => typing.gone().await,
        }
    }
}

impl Voice {
    /// Output; `false` when the client does not hear it.
    pub(super) async fn output(&mut self, stream: LogStream, chunk: &[u8]) -> bool {
        match self {
            Self::Socket(sink) => {
                let message = channels::output(stream, chunk);
                send(sink, Message::Binary(message.into())).await
            }
            Self::Spdy(told) => in_time(told.output(stream, chunk)).await,
        }
    }

    /// Asks whether the client is there; `false` when it is known not to be.
    pub(super) async fn ping(&mut self) -> bool {
        match self {
            Self::Socket(sink) => send(sink, Message::Ping(Bytes::new())).await,
            // The session does it for all its streams.
            Self::Spdy(_) => true,
        }
    }

    /// How it ended, as a `Status`, and the end.
    pub(super) async fn finish(&mut self, status: &Value) {
        match self {
            Self::Socket(sink) => {
                let message = channels::status(status);
                if send(sink, Message::Binary(message.into())).await {
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
