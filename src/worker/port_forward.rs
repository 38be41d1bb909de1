//! `port-forward`: connections of a client to what listens in a pod, on its loopback or its address.
//!
//! Three ways in, one way on: SPDY streams, the same inside WebSocket messages, and numbered
//! WebSocket channels. A connection that fails says why on its error stream, in Kubernetes' words;
//! the others live on.

mod channels;
mod spdy;

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::spdy::{Reader, Writer};
use crate::runtime::PodSandbox;
use crate::runtime::net::Conn;

pub use channels::{MAX_PORTS, serve as over_channels};
pub use spdy::{over_websocket as spdy_over_websocket, serve as over_spdy};

/// SPDY, also inside a WebSocket.
pub const SPDY_PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];
/// SPDY inside binary messages.
pub const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// What is spoken over a WebSocket, best first.
pub const WEBSOCKET_PROTOCOLS: [&str; 2] = [TUNNELLED, "v4.channel.k8s.io"];

const BUFFER: usize = 16 << 10;

/// The pod that a client forwards to.
#[derive(Clone)]
pub struct Target {
    /// `name_namespace`, as the kubelet names pods.
    pub pod: String,
    pub uid: String,
    pub sandbox: Arc<PodSandbox>,
}

impl Target {
    fn dial(&self, port: u16) -> Result<Conn, String> {
        self.sandbox.dial_local(port).map_err(|error| {
            let (pod, uid) = (&self.pod, &self.uid);
            format!(
                "error forwarding port {port} to pod {pod}, uid {uid}: failed to connect to localhost:{port} inside the pod: {error}"
            )
        })
    }
}

/// What comes from the client for one connection.
enum Inflow {
    Spdy(Reader),
    Channel(mpsc::Receiver<Bytes>),
}

impl Inflow {
    async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Spdy(reader) => reader.next().await,
            Self::Channel(pieces) => pieces.recv().await,
        }
    }
}

/// What goes to the client of one connection.
enum Outflow {
    Spdy { data: Writer, error: Writer },
    Channel(channels::Sender),
}

impl Outflow {
    async fn data(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Spdy { data, .. } => data.send(bytes).await,
            Self::Channel(sender) => sender.data(bytes).await,
        }
    }

    async fn error(&self, text: &str) {
        match self {
            Self::Spdy { error, .. } => error.send(text.as_bytes()).await,
            Self::Channel(sender) => sender.error(text).await,
        };
    }

    /// Nothing follows. The error stream ends with the data, for kubectl waits for both before it
    /// closes.
    async fn finish(&self) {
        if let Self::Spdy { data, error } = self {
            data.finish().await;
            error.finish().await;
        }
    }

    /// Resolves when the client has dropped this connection; a channel lasts as long as its socket.
    async fn gone(&self) {
        match self {
            Self::Spdy { data, .. } => data.gone().await,
            Self::Channel(_) => std::future::pending().await,
        }
    }
}

/// Serves one connection until both sides have ended it.
async fn forward(target: &Target, port: u16, inflow: Inflow, outflow: Outflow) {
    let conn = match target.dial(port) {
        Ok(conn) => conn,
        Err(text) => {
            tracing::debug!(error = %text, "port-forward");
            outflow.error(&text).await;
            return outflow.finish().await;
        }
    };
    let (mut from_pod, mut to_pod) = tokio::io::split(conn);
    let there = async move {
        let mut inflow = inflow;
        while let Some(bytes) = inflow.next().await {
            if to_pod.write_all(&bytes).await.is_err() {
                // Nobody reads it; what follows is dropped with the stream's reader.
                return;
            }
        }
        // A pod that has closed already needs no end.
        let _ = to_pod.shutdown().await;
    };
    let back = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(read @ 1..) = from_pod.read(&mut buffer).await {
            if !outflow.data(&buffer[..read]).await {
                return;
            }
        }
        outflow.finish().await;
    };
    // A channel cannot tell its end, so the pod's end is the connection's.
    let can_half_close = matches!(outflow, Outflow::Spdy { .. });
    let both = async {
        let mut there = std::pin::pin!(there);
        let mut back = std::pin::pin!(back);
        tokio::select! {
            () = &mut there => back.await,
            () = &mut back => if can_half_close { there.await },
        }
    };
    tokio::select! {
        () = both => {}
        () = outflow.gone() => {}
    }
}
