//! One stream of a session, as its two halves.
//!
//! What a client sends waits in a short queue; whoever does not read stops the session until
//! its patience ends (`session`). What is sent waits for room in the session's queue. A stream
//! counts as open until both halves are dropped.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::frame::{self, Reason};
use super::headers::Headers;

/// Bytes of one frame; larger ones of a client are handed on in pieces.
pub(super) const PIECE: usize = 16 << 10;

/// Bytes of a client, paid for until they are taken.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) _paid: OwnedSemaphorePermit,
}

/// What a client opened.
pub struct Stream {
    pub headers: Headers,
    pub reader: Reader,
    pub writer: Writer,
}

/// What the client sends.
pub struct Reader {
    pub(super) pieces: mpsc::Receiver<Piece>,
    pub(super) gone: CancellationToken,
    pub(super) _open: Arc<()>,
}

impl Reader {
    /// The next bytes; `None` when the client has ended its half, or all.
    pub async fn next(&mut self) -> Option<Bytes> {
        Some(self.pieces.recv().await?.bytes)
    }

    /// Resolves when the stream was reset or its session has ended.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

/// What is sent to the client.
pub struct Writer {
    pub(super) stream: u32,
    pub(super) out: mpsc::Sender<Bytes>,
    pub(super) gone: CancellationToken,
    pub(super) _open: Arc<()>,
}

impl Writer {
    /// Sends; `false` when nobody receives any more.
    pub async fn send(&self, bytes: &[u8]) -> bool {
        for piece in bytes.chunks(PIECE) {
            if !self.put(frame::data(self.stream, piece, false)).await {
                return false;
            }
        }
        true
    }

    /// Nothing follows.
    pub async fn finish(&self) -> bool {
        self.put(frame::data(self.stream, &[], true)).await
    }

    /// Ends both halves at once.
    pub async fn reset(&self) -> bool {
        self.put(frame::reset(self.stream, Reason::Cancel)).await
    }

    async fn put(&self, frame: Bytes) -> bool {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => false,
            sent = self.out.send(frame) => sent.is_ok(),
        }
    }

    /// Resolves when the stream was reset or its session has ended.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }
}
