//! Where a command's output goes: to whoever is connected, or into a small buffer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::runtime::spec::{LogSink, LogStream};

/// What may wait for a client, in bytes of memory.
pub(super) const QUEUE: usize = 256 << 10;
/// What a chunk costs besides its bytes: a program may write one at a time.
const CHUNK: usize = 128;
/// What is kept of a probe's output, for an event.
const KEPT: usize = 1 << 10;

/// The writing end; the queue is bounded by [`Queue::room`], which guests obey.
pub(super) struct Queue {
    sender: Mutex<Option<mpsc::UnboundedSender<(LogStream, Bytes)>>>,
    queued: Arc<AtomicUsize>,
}

/// The reading end.
pub(super) struct Chunks {
    receiver: mpsc::UnboundedReceiver<(LogStream, Bytes)>,
    queued: Arc<AtomicUsize>,
}

impl Queue {
    pub(super) fn new() -> (Arc<Self>, Chunks) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let queued = Arc::<AtomicUsize>::default();
        let queue = Self {
            sender: Mutex::new(Some(sender)),
            queued: Arc::clone(&queued),
        };
        (Arc::new(queue), Chunks { receiver, queued })
    }

    pub(super) fn room(&self) -> usize {
        QUEUE.saturating_sub(self.queued.load(Ordering::Relaxed))
    }

    /// `false` when nobody reads any more.
    pub(super) fn push(&self, stream: LogStream, chunk: &[u8]) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = sender.as_ref() else {
            return false;
        };
        self.queued
            .fetch_add(CHUNK + chunk.len(), Ordering::Relaxed);
        sender.send((stream, Bytes::copy_from_slice(chunk))).is_ok()
    }

    /// Whether nobody reads any more.
    pub(super) fn is_abandoned(&self) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_none_or(mpsc::UnboundedSender::is_closed)
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl LogSink for Queue {
    fn write(&self, stream: LogStream, chunk: &[u8]) {
        // The command is killed when nobody reads.
        let _ = self.push(stream, chunk);
    }

    fn capacity(&self) -> usize {
        self.room()
    }

    fn close(&self) {
        self.end();
    }
}

impl Chunks {
    /// The next output, or `None` after the last.
    pub(super) async fn next(&mut self) -> Option<(LogStream, Bytes)> {
        let (stream, chunk) = self.receiver.recv().await?;
        self.queued
            .fetch_sub(CHUNK + chunk.len(), Ordering::Relaxed);
        Some((stream, chunk))
    }
}

/// The beginning of what was written.
#[derive(Default)]
pub struct Collected(Mutex<Vec<u8>>);

impl Collected {
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl LogSink for Collected {
    fn write(&self, _stream: LogStream, chunk: &[u8]) {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(bytes.len());
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_chunks_fill_a_queue_too() {
        let (queue, mut chunks) = Queue::new();
        let mut count = 0;
        while queue.room() > 0 {
            assert!(queue.push(LogStream::Stdout, b"x"));
            count += 1;
        }
        assert!(count <= QUEUE / CHUNK);
        for _ in 0..count {
            chunks.next().await.unwrap();
        }
        assert_eq!(queue.room(), QUEUE);
        assert!(!queue.is_abandoned());
        drop(chunks);
        assert!(queue.is_abandoned());
    }
}
