//! A guest's standard streams: output into the container's log, input that ends when it should stop.
//!
//! Output goes to the [`LogSink`] in the same call, without a task or a queue, and as much as the
//! sink takes: `check_write` tells the guest the sink's capacity, and a guest that floods waits. A
//! handler has many instances at once, so their output is passed on by whole lines, lest two
//! requests share one; what is left unterminated when an instance ends gets its newline.
//!
//! Input is in `input`.

mod input;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamResult};

pub(super) use self::input::Input;
pub use self::input::Stdin;

use super::spec::{LogSink, LogStream};

/// How often a full sink is asked again: it has no way to wake a waiting guest.
const SINK_RETRY: Duration = Duration::from_millis(5);
/// An unterminated line is passed on when it has grown to this.
const MAX_LINE: usize = 16 << 10;

/// A sink is given at most so much at once.
const MAX_PIECE: usize = 64 << 10;

/// Standard output or error.
#[derive(Clone)]
pub(super) struct Output {
    sink: Arc<dyn LogSink>,
    stream: LogStream,
    /// The unterminated line, where lines are kept whole.
    line: Option<Arc<Line>>,
    is_terminal: bool,
}

struct Line {
    sink: Arc<dyn LogSink>,
    stream: LogStream,
    partial: Mutex<Vec<u8>>,
}

impl Output {
    /// Passes chunks on as they come.
    pub(super) fn direct(sink: Arc<dyn LogSink>, stream: LogStream) -> Self {
        Self {
            sink,
            stream,
            line: None,
            is_terminal: false,
        }
    }

    /// The same, said to be a terminal or not.
    pub(super) fn terminal(self, is_terminal: bool) -> Self {
        Self {
            is_terminal,
            ..self
        }
    }

    /// Passes whole lines on; the last one when all clones are dropped.
    pub(super) fn by_line(sink: Arc<dyn LogSink>, stream: LogStream) -> Self {
        let line = Line {
            sink: Arc::clone(&sink),
            stream,
            partial: Mutex::default(),
        };
        Self {
            sink,
            stream,
            line: Some(Arc::new(line)),
            is_terminal: false,
        }
    }

    pub(super) fn stream(&self) -> DynOutputStream {
        Box::new(self.clone())
    }

    /// A whole line of the host's making, when there is room for it.
    pub(super) async fn line(&self, line: &str) {
        self.room().await;
        self.push(line.as_bytes());
    }

    /// Piece by piece: a guest need not heed `check_write`, and sinks cut lines.
    fn push(&self, chunk: &[u8]) {
        for piece in chunk.chunks(MAX_PIECE) {
            match &self.line {
                None => self.sink.write(self.stream, piece),
                Some(line) => line.push(piece),
            }
        }
    }

    async fn room(&self) {
        while self.sink.capacity() == 0 {
            tokio::time::sleep(SINK_RETRY).await;
        }
    }
}

impl Line {
    fn push(&self, chunk: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        partial.extend_from_slice(chunk);
        let whole = match partial.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => newline + 1,
            None if partial.len() >= MAX_LINE => partial.len(),
            None => return,
        };
        self.sink.write(self.stream, &partial[..whole]);
        partial.drain(..whole);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let partial = self
            .partial
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if !partial.is_empty() {
            partial.push(b'\n');
            self.sink.write(self.stream, partial);
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(AsyncOutput {
            output: self.clone(),
            retry: None,
        })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        self.stream()
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.room().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.sink.capacity())
    }
}

/// The same for WASI 0.3.
struct AsyncOutput {
    output: Output,
    retry: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl AsyncWrite for AsyncOutput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let room = self.output.sink.capacity().min(bytes.len());
            if room > 0 || bytes.is_empty() {
                self.retry = None;
                self.output.push(&bytes[..room]);
                return Poll::Ready(Ok(room));
            }
            let retry = self
                .retry
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(SINK_RETRY)));
            std::task::ready!(retry.as_mut().poll(cx));
            self.retry = None;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Sink(Mutex<Vec<String>>);

    impl LogSink for Sink {
        fn write(&self, _stream: LogStream, chunk: &[u8]) {
            let text = String::from_utf8_lossy(chunk).into_owned();
            self.0.lock().unwrap().push(text);
        }
    }

    #[test]
    fn a_handlers_output_comes_in_whole_lines_and_nothing_is_lost() {
        let sink = Arc::new(Sink::default());
        let mut output = Output::by_line(Arc::clone(&sink) as _, LogStream::Stdout);
        for chunk in ["one ", "line\ntwo", "\nthr", "ee"] {
            output.write(Bytes::from(chunk)).unwrap();
        }
        assert_eq!(*sink.0.lock().unwrap(), ["one line\n", "two\n"]);
        output.write(Bytes::from(vec![b'x'; MAX_LINE])).unwrap();
        assert_eq!(sink.0.lock().unwrap()[2].len(), MAX_LINE + 5);
        output.write(Bytes::from("rest")).unwrap();
        drop(output);
        assert_eq!(sink.0.lock().unwrap()[3], "rest\n");
    }
}
