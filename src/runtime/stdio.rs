//! A guest's standard streams: output into the container's log, input that ends when it should stop.
//!
//! Output goes to the [`LogSink`] in the same call, without a task or a queue, and as much as the
//! sink takes: `check_write` tells the guest the sink's capacity, and a guest that floods waits. A
//! handler has many instances at once, so their output is passed on by whole lines, lest two
//! requests share one; what is left unterminated when an instance ends gets its newline.
//!
//! Input never has bytes. It stays open until the container is asked to stop and then ends: the
//! one stop signal that every language understands (`container`).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::spec::{LogSink, LogStream};

/// How often a full sink is asked again: it has no way to wake a waiting guest.
const SINK_RETRY: Duration = Duration::from_millis(5);
/// An unterminated line is passed on when it has grown to this.
const MAX_LINE: usize = 16 << 10;

/// Standard output or error.
#[derive(Clone)]
pub(super) struct Output {
    sink: Arc<dyn LogSink>,
    stream: LogStream,
    /// The unterminated line, where lines are kept whole.
    line: Option<Arc<Line>>,
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

    fn push(&self, chunk: &[u8]) {
        match &self.line {
            None => self.sink.write(self.stream, chunk),
            Some(line) => line.push(chunk),
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
        false
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

/// Standard input: silent until the container is asked to stop, then at its end.
#[derive(Clone)]
pub(super) struct Input {
    stopped: CancellationToken,
}

impl Input {
    pub(super) fn new(stopped: CancellationToken) -> Self {
        Self { stopped }
    }

    pub(super) fn stream(&self) -> DynInputStream {
        Box::new(self.clone())
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(AsyncInput(Box::pin(self.stopped.clone().cancelled_owned())))
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.stream()
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.stopped.cancelled().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Input {
    fn read(&mut self, _size: usize) -> StreamResult<Bytes> {
        if self.stopped.is_cancelled() {
            Err(StreamError::Closed)
        } else {
            Ok(Bytes::new())
        }
    }
}

/// The same for WASI 0.3.
struct AsyncInput(Pin<Box<WaitForCancellationFutureOwned>>);

impl AsyncRead for AsyncInput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

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

    #[tokio::test]
    async fn input_ends_when_the_container_is_asked_to_stop() {
        let stopped = CancellationToken::new();
        let mut input = Input::new(stopped.clone());
        assert_eq!(input.read(10).unwrap(), "");
        let mut stream = Box::into_pin(input.async_stream());
        stopped.cancel();
        assert!(matches!(input.read(10), Err(StreamError::Closed)));
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    }
}
