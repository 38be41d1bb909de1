//! Standard input: what somebody who attached sends, and its end.
//!
//! A container without `stdin: true` has nobody who could send: its input has ended before it
//! begins, as `/dev/null` has in a container of Kubernetes. One with it ends when the sender closes
//! it or the container is asked to stop, which is the stop signal that every language understands
//! (`container`). Bytes wait in one bounded buffer; whoever sends waits for room.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{DynInputStream, InputStream, Pollable, StreamError, StreamResult};

/// Bytes that may wait for the program.
const BUFFER: usize = 64 << 10;

/// The sending end of a program's standard input; clones are the same.
#[derive(Clone, Default)]
pub struct Stdin(Arc<Pipe>);

#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    is_closed: bool,
}

impl Stdin {
    /// Sends all of it, waiting for room; `false` when nobody will read it.
    pub async fn send(&self, mut bytes: &[u8]) -> bool {
        loop {
            let room = self.0.writable.notified();
            {
                let mut state = self.0.lock();
                if state.is_closed {
                    return false;
                }
                let (now, later) = bytes.split_at(bytes.len().min(BUFFER - state.bytes.len()));
                state.bytes.extend(now);
                bytes = later;
            }
            self.0.readable.notify_waiters();
            if bytes.is_empty() {
                return true;
            }
            room.await;
        }
    }

    /// Nothing follows.
    pub fn close(&self) {
        self.0.lock().is_closed = true;
        self.0.readable.notify_waiters();
        self.0.writable.notify_waiters();
    }
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The program's end of its standard input.
#[derive(Clone)]
pub(in crate::runtime) struct Input {
    stopped: CancellationToken,
    pipe: Option<Arc<Pipe>>,
    is_terminal: bool,
}

impl Input {
    /// Without a sender it has ended.
    pub(in crate::runtime) fn new(
        stopped: CancellationToken,
        stdin: Option<&Stdin>,
        is_terminal: bool,
    ) -> Self {
        Self {
            stopped,
            pipe: stdin.map(|stdin| Arc::clone(&stdin.0)),
            is_terminal,
        }
    }

    pub(in crate::runtime) fn stream(&self) -> DynInputStream {
        Box::new(self.clone())
    }

    /// Bytes, nothing yet (empty), or the end (`None`).
    fn take(&self, size: usize) -> Option<Vec<u8>> {
        let pipe = self.pipe.as_ref()?;
        let is_stopped = self.stopped.is_cancelled();
        let mut state = pipe.lock();
        let count = size.min(state.bytes.len());
        let bytes: Vec<u8> = state.bytes.drain(..count).collect();
        let is_over = (state.is_closed || is_stopped) && state.bytes.is_empty();
        drop(state);
        if !bytes.is_empty() {
            pipe.writable.notify_waiters();
        }
        (!bytes.is_empty() || !is_over).then_some(bytes)
    }

    fn is_readable(&self) -> bool {
        let has_news = |pipe: &Arc<Pipe>| {
            let state = pipe.lock();
            state.is_closed || !state.bytes.is_empty()
        };
        self.stopped.is_cancelled() || self.pipe.as_ref().is_none_or(has_news)
    }

    async fn readable(&self) {
        let Some(pipe) = &self.pipe else {
            return;
        };
        loop {
            let news = pipe.readable.notified();
            let mut news = std::pin::pin!(news);
            // Counted as waiting from here on, so that nothing is missed between look and wait.
            news.as_mut().enable();
            if self.is_readable() {
                return;
            }
            tokio::select! {
                () = news => {}
                () = self.stopped.cancelled() => {}
            }
        }
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(AsyncInput {
            input: self.clone(),
            waiting: Mutex::new(None),
        })
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.stream()
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.readable().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.take(size) {
            Some(bytes) => Ok(bytes.into()),
            None => Err(StreamError::Closed),
        }
    }
}

/// The same for WASI 0.3.
struct AsyncInput {
    input: Input,
    /// In a mutex only to be `Sync`; nobody else locks it.
    waiting: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl AsyncRead for AsyncInput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.input.take(buffer.remaining()) {
                Some(bytes) if bytes.is_empty() && buffer.remaining() > 0 => {}
                Some(bytes) => {
                    buffer.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                None => return Poll::Ready(Ok(())),
            }
            let input = self.input.clone();
            let waiting = self
                .waiting
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            let future =
                waiting.get_or_insert_with(|| async move { input.readable().await }.boxed());
            std::task::ready!(future.as_mut().poll(cx));
            *waiting = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn input_that_nobody_can_send_has_ended_from_the_start() {
        let mut input = Input::new(CancellationToken::new(), None, false);
        input.ready().await;
        assert!(matches!(input.read(10), Err(StreamError::Closed)));
        let mut stream = Box::into_pin(input.async_stream());
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_sent_arrives_whole_and_then_the_end() {
        let stdin = Stdin::default();
        let input = Input::new(CancellationToken::new(), Some(&stdin), false);
        let mut stream = Box::into_pin(input.async_stream());
        let sent = vec![b'x'; 3 * BUFFER + 1];
        let sending = async {
            assert!(stdin.send(&sent).await);
            stdin.close();
            assert!(!stdin.send(b"late").await);
        };
        let mut received = Vec::new();
        let ((), result) = tokio::join!(sending, stream.read_to_end(&mut received));
        assert_eq!((result.unwrap(), received.len()), (sent.len(), sent.len()));
    }

    #[tokio::test]
    async fn a_stop_ends_the_input_after_what_was_sent() {
        let (stdin, stopped) = (Stdin::default(), CancellationToken::new());
        let mut input = Input::new(stopped.clone(), Some(&stdin), false);
        assert!(stdin.send(b"last").await);
        stopped.cancel();
        input.ready().await;
        assert_eq!(input.read(10).unwrap(), "last");
        assert!(matches!(input.read(10), Err(StreamError::Closed)));
    }
}
