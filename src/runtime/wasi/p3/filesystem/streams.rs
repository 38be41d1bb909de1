//! Streams of bytes and of directory entries. Always ready: memory does not wait.
//!
//! How a stream ended is told once, on a future; whoever drops the stream early hears `ok`. One
//! step copies at most [`MAX_STEP`] bytes, so that others get their turn.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, Source, StreamConsumer, StreamProducer, StreamResult, VecBuffer,
};
use wasmtime_wasi::p3::bindings::filesystem::types::{DirectoryEntry, ErrorCode};

use super::Ended;
use super::convert::type_of;
use crate::runtime::fs::Descriptor;
use crate::runtime::fs::errno::Errno;
use crate::runtime::wasi::p2::filesystem::LIST_BATCH;

const MAX_STEP: usize = 1 << 20;
/// The buffer of a reader on the host's side.
const HOST_BUFFER: usize = 64 << 10;

/// Tells how a stream ended, at the latest when it is dropped.
struct End(Option<oneshot::Sender<Ended>>);

impl End {
    /// The other side may have stopped listening.
    fn tell(&mut self, ended: Ended) {
        if let Some(end) = self.0.take() {
            drop(end.send(ended));
        }
    }

    fn fail(&mut self, errno: Errno) -> StreamResult {
        self.tell(Err(ErrorCode::from(errno)));
        StreamResult::Dropped
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}

pub(super) struct Reader {
    file: Descriptor,
    offset: u64,
    end: End,
}

impl Reader {
    pub(super) fn new(file: Descriptor, offset: u64, end: oneshot::Sender<Ended>) -> Self {
        Self {
            file,
            offset,
            end: End(Some(end)),
        }
    }
}

impl<D> StreamProducer<D> for Reader {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        destination: Destination<'a, Self::Item, Self::Buffer>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut destination = destination.as_direct(store, HOST_BUFFER);
        let buffer = destination.remaining();
        // Whoever asks for nothing asks whether there is something.
        if buffer.is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let size = buffer.len().min(MAX_STEP);
        let result = match self.file.read_at(self.offset, &mut buffer[..size]) {
            Ok(0) => {
                self.end.tell(Ok(()));
                StreamResult::Dropped
            }
            Ok(count) => {
                destination.mark_written(count);
                self.offset += count as u64;
                StreamResult::Completed
            }
            Err(errno) => self.end.fail(errno),
        };
        Poll::Ready(Ok(result))
    }
}

/// Where a stream is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    At(u64),
    End,
}

pub(super) struct Writer {
    file: Descriptor,
    target: Target,
    end: End,
}

impl Writer {
    pub(super) fn new(file: Descriptor, target: Target, end: oneshot::Sender<Ended>) -> Self {
        Self {
            file,
            target,
            end: End(Some(end)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match &mut self.target {
            Target::At(offset) => {
                let count = self.file.write_at(*offset, &[bytes])?;
                *offset += count as u64;
                Ok(count)
            }
            Target::End => Ok(self.file.append(&[bytes])?.0),
        }
    }
}

impl<D> StreamConsumer<D> for Writer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, Self::Item>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let bytes = source.remaining();
        let size = bytes.len().min(MAX_STEP);
        let result = match self.write(&bytes[..size]) {
            Ok(count) => {
                source.mark_read(count);
                StreamResult::Completed
            }
            Err(errno) => self.end.fail(errno),
        };
        Poll::Ready(Ok(result))
    }
}

pub(super) struct Listing {
    directory: Descriptor,
    next: u64,
    end: End,
}

impl Listing {
    pub(super) fn new(directory: Descriptor, end: oneshot::Sender<Ended>) -> Self {
        Self {
            directory,
            next: 0,
            end: End(Some(end)),
        }
    }
}

impl<D> StreamProducer<D> for Listing {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let room = destination.remaining(&mut store).unwrap_or(LIST_BATCH);
        if room == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let listed = self.directory.list(self.next, room.min(LIST_BATCH));
        let entries = match listed {
            Ok(entries) => entries,
            Err(errno) => return Poll::Ready(Ok(self.end.fail(errno))),
        };
        let Some(last) = entries.last() else {
            self.end.tell(Ok(()));
            return Poll::Ready(Ok(StreamResult::Dropped));
        };
        self.next = last.next;
        let entries: Vec<DirectoryEntry> = entries
            .into_iter()
            .map(|entry| DirectoryEntry {
                type_: type_of(entry.kind),
                name: entry.name.to_string(),
            })
            .collect();
        destination.set_buffer(entries.into());
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
