//! Forwarding over SPDY: two streams for each connection, `error` and `data`, that name the same
//! request.
//!
//! kubectl speaks it on the upgraded connection itself, and since 1.31 inside the binary messages of
//! a WebSocket, where a message's borders mean nothing.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{SinkExt as _, StreamExt as _, future};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::{Inflow, Outflow, Target, forward};
use crate::errors::chain;
use crate::worker::spdy::{self, MAX_STREAMS, Stream};

/// How long a stream waits for its other half, as in Kubernetes.
const PAIRING: Duration = Duration::from_secs(30);
/// A program that reads nothing for so long loses its connection, so that the others go on.
const PATIENCE: Duration = Duration::from_mins(1);

/// Serves a client's connections until it goes.
pub async fn serve(io: impl AsyncRead + AsyncWrite, target: Target) {
    let (accept, streams) = mpsc::channel(MAX_STREAMS);
    let session = async {
        if let Err(error) = spdy::run(io, accept, Some(PATIENCE)).await {
            tracing::debug!(error = %chain(&error), "a port-forward's session");
        }
    };
    tokio::join!(session, connections(streams, &target));
}

/// The same over the messages of a WebSocket.
pub async fn over_websocket(socket: WebSocket, target: Target) {
    let (sink, stream) = socket.split();
    let bytes = stream
        .take_while(|message| future::ready(!matches!(message, Ok(Message::Close(_)))))
        .filter_map(|message| {
            future::ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                Ok(Message::Text(_)) => Some(Err(io::ErrorKind::InvalidData.into())),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => None,
                Err(error) => Some(Err(io::Error::other(error))),
            })
        });
    let messages = sink
        .with(|bytes: Bytes| future::ready(Ok::<_, axum::Error>(Message::Binary(bytes))))
        .sink_map_err(io::Error::other);
    let writer = SinkWriter::new(CopyToBytes::new(messages));
    serve(tokio::io::join(StreamReader::new(bytes), writer), target).await;
}

async fn connections(mut streams: mpsc::Receiver<Stream>, target: &Target) {
    let mut halves = Halves::default();
    let mut connections = FuturesUnordered::new();
    let mut sweep = tokio::time::interval(PAIRING);
    loop {
        tokio::select! {
            stream = streams.recv() => {
                // With the session end all its connections.
                let Some(stream) = stream else { return };
                match halves.add(stream) {
                    Ok(None) => {}
                    Ok(Some(pair)) => connections.push(pair.serve(target)),
                    Err(stream) => {
                        stream.writer.reset().await;
                    }
                }
            }
            Some(()) = connections.next() => {}
            _ = sweep.tick() => halves.forget_old(),
        }
    }
}

/// Both streams of a connection.
struct Pair {
    port: u16,
    data: Stream,
    error: Stream,
}

impl Pair {
    async fn serve(self, target: &Target) {
        let outflow = Outflow::Spdy {
            data: self.data.writer,
            error: self.error.writer,
        };
        forward(target, self.port, Inflow::Spdy(self.data.reader), outflow).await;
    }
}

/// Streams whose other half has not come yet.
#[derive(Default)]
struct Halves(HashMap<String, (Instant, Stream)>);

impl Halves {
    /// The pair, when this stream completes one; the stream itself when it makes no sense.
    #[expect(
        clippy::result_large_err,
        reason = "the stream is given back to be reset"
    )]
    fn add(&mut self, stream: Stream) -> Result<Option<Pair>, Stream> {
        let header = |stream: &Stream, name| stream.headers.get(name).map(str::to_owned);
        let port = |stream: &Stream| {
            let port = stream.headers.get("port")?.parse::<u16>().ok();
            port.filter(|port| *port != 0)
        };
        let kind = header(&stream, "streamtype");
        let (Some(id), Some(number), Some("data" | "error")) =
            (header(&stream, "requestid"), port(&stream), kind.as_deref())
        else {
            return Err(stream);
        };
        let Some((since, other)) = self.0.remove(&id) else {
            self.0.insert(id, (Instant::now(), stream));
            return Ok(None);
        };
        if header(&other, "streamtype") == kind || port(&other) != Some(number) {
            self.0.insert(id, (since, other));
            return Err(stream);
        }
        let (data, error) = if kind.as_deref() == Some("data") {
            (stream, other)
        } else {
            (other, stream)
        };
        Ok(Some(Pair {
            port: number,
            data,
            error,
        }))
    }

    fn forget_old(&mut self) {
        self.0.retain(|_, (since, _)| since.elapsed() < PAIRING);
    }
}
