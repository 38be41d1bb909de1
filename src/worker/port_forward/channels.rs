//! Forwarding over a WebSocket's channels, `v4.channel.k8s.io`: what Python, JavaScript and kube-rs
//! speak.
//!
//! The ports stand in the query. The port at place i has the channels 2i for data and 2i + 1 for
//! errors, each of which begins with the port as two bytes, the lower first. There is one connection
//! for each port, made at once; a channel cannot end, so the socket is closed when every
//! connection has ended.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;

use super::{Inflow, Outflow, Target, forward};

/// Ports of one socket.
pub const MAX_PORTS: usize = 64;

/// Messages that wait for a program, or for the client.
const WAITING: usize = 16;
const PING: Duration = Duration::from_secs(30);
/// A program that reads nothing for so long ends the session.
const PATIENCE: Duration = Duration::from_mins(1);
/// A client that takes nothing for so long is gone.
const SEND: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(2);

/// Where a connection's bytes and errors go.
pub(super) struct Sender {
    data: u8,
    out: mpsc::Sender<Message>,
}

impl Sender {
    pub(super) async fn data(&self, bytes: &[u8]) -> bool {
        self.put(self.data, bytes).await
    }

    pub(super) async fn error(&self, text: &str) -> bool {
        self.put(self.data + 1, text.as_bytes()).await
    }

    async fn put(&self, channel: u8, bytes: &[u8]) -> bool {
        let message = [&[channel], bytes].concat();
        self.out.send(Message::Binary(message.into())).await.is_ok()
    }
}

/// Serves a client's connections until all have ended, or it goes.
pub async fn serve(socket: WebSocket, ports: Vec<u16>, target: Target) {
    let (mut sink, mut stream) = socket.split();
    let (out, mut queue) = mpsc::channel(WAITING);
    let mut inflows = Vec::new();
    let mut connections = FuturesUnordered::new();
    for (at, port) in ports.into_iter().enumerate().take(MAX_PORTS) {
        let (inflow, pieces) = mpsc::channel(WAITING);
        inflows.push(inflow);
        let sender = Sender {
            data: 2 * at as u8,
            out: out.clone(),
        };
        let target = &target;
        connections.push(async move {
            let [low, high] = port.to_le_bytes();
            sender.data(&[low, high]).await;
            sender.put(sender.data + 1, &[low, high]).await;
            let outflow = Outflow::Channel(sender);
            forward(target, port, Inflow::Channel(pieces), outflow).await;
        });
    }
    drop(out);
    let all = async { while connections.next().await.is_some() {} };
    let is_over = tokio::select! {
        ((), is_heard) = async { tokio::join!(all, tell(&mut sink, &mut queue)) } => is_heard,
        () = listen(&mut stream, &inflows) => false,
    };
    if is_over {
        let close = CloseFrame {
            code: close_code::NORMAL,
            reason: "".into(),
        };
        let closing = async {
            let _ = sink.send(Message::Close(Some(close))).await;
            while let Some(Ok(_)) = stream.next().await {}
        };
        let _ = tokio::time::timeout(GOODBYE, closing).await;
    }
}

/// Sends what is queued until all senders are gone; `false` when the client does not hear it.
async fn tell(
    sink: &mut SplitSink<WebSocket, Message>,
    queue: &mut mpsc::Receiver<Message>,
) -> bool {
    loop {
        let message = tokio::select! {
            message = queue.recv() => match message {
                Some(message) => message,
                None => return true,
            },
            () = tokio::time::sleep(PING) => Message::Ping(Bytes::new()),
        };
        let sent = tokio::time::timeout(SEND, sink.send(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return false;
        }
    }
}

/// Passes on what the client sends; ends when it goes, or sends what nobody understands.
async fn listen(stream: &mut SplitStream<WebSocket>, inflows: &[mpsc::Sender<Bytes>]) {
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        // An empty message says nothing; errors have only one direction.
        let Some((channel, rest)) = bytes.split_first() else {
            continue;
        };
        let Some(inflow) = inflows.get(usize::from(*channel / 2)) else {
            return;
        };
        if channel % 2 == 0 {
            let piece = bytes.slice_ref(rest);
            // What comes for a connection that has ended is dropped.
            if tokio::time::timeout(PATIENCE, inflow.send(piece))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}
