//! The two streams of a connection.
//!
//! They read from and write to the connection's rings directly, without a task or a buffer of
//! their own. `ready` resolves exactly when the next read or write does something, because ten
//! idle wake-ups make wasmtime-wasi-io trap the guest. An error is told once; later the stream is
//! closed.
//!
//! What was written has been delivered. A flush that follows must not fail because the peer has read it
//! and left: programs take that for a failure of the write, which a kernel would never tell.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::convert::code;
use crate::runtime::net::{Conn, Error, Shutdown};

/// The most that one read copies out.
const MAX_READ: usize = 64 << 10;

pub(super) struct Input {
    conn: Arc<Conn>,
    ended: bool,
}

impl Input {
    pub(super) fn new(conn: Arc<Conn>) -> Self {
        Self { conn, ended: false }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.conn.shutdown(Shutdown::Receive);
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        if !self.ended {
            poll_fn(|cx| self.conn.poll_readable(cx)).await;
        }
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.conn.try_read_vec(size.min(MAX_READ)) {
            Ok(data) if data.is_empty() => {
                self.ended = true;
                Err(StreamError::Closed)
            }
            Ok(data) => Ok(data.into()),
            Err(Error::WouldBlock) => Ok(Bytes::new()),
            Err(error) => {
                self.ended = true;
                Err(StreamError::LastOperationFailed(code(error).into()))
            }
        }
    }
}

pub(super) struct Output {
    conn: Arc<Conn>,
    ended: bool,
    /// What the last `check_write` allowed.
    permit: usize,
    /// Something was written since the last flush.
    is_delivered: bool,
    /// The next `check_write` asks whether the flush is done.
    is_flushing: bool,
}

impl Output {
    pub(super) fn new(conn: Arc<Conn>) -> Self {
        Self {
            conn,
            ended: false,
            permit: 0,
            is_delivered: false,
            is_flushing: false,
        }
    }

    fn fail(&mut self, error: Error) -> StreamError {
        self.ended = true;
        match error {
            Error::BrokenPipe => StreamError::Closed,
            error => StreamError::LastOperationFailed(code(error).into()),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.conn.shutdown(Shutdown::Send);
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        if !self.ended {
            poll_fn(|cx| self.conn.poll_writable(cx)).await;
        }
    }
}

#[async_trait]
impl OutputStream for Output {
    fn check_write(&mut self) -> StreamResult<usize> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        let is_flushing = std::mem::take(&mut self.is_flushing);
        self.permit = match self.conn.writable_bytes() {
            Ok(permit) => permit,
            // Not zero, which would mean that it is not done yet.
            Err(_) if is_flushing => 1,
            Err(error) => return Err(self.fail(error)),
        };
        Ok(self.permit)
    }

    fn write(&mut self, data: Bytes) -> StreamResult<()> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        if data.len() > self.permit {
            return Err(StreamError::Trap(wasmtime::format_err!(
                "write of {} bytes exceeds the permit of {}",
                data.len(),
                self.permit
            )));
        }
        self.permit -= data.len();
        match self.conn.try_write(&data) {
            Ok(written) if written == data.len() => {
                self.is_delivered = true;
                Ok(())
            }
            // Room there was, so only the memory for it can be missing.
            Ok(_) | Err(Error::WouldBlock) => Err(self.fail(Error::OutOfMemory)),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        self.is_flushing = std::mem::take(&mut self.is_delivered);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::net::connection;

    #[tokio::test]
    async fn who_reads_and_leaves_does_not_fail_the_write() {
        let (here, there) = connection();
        let mut output = Output::new(Arc::new(here));
        let write = output.blocking_write_and_flush(Bytes::from_static(b"ping"));
        write.await.unwrap();
        assert!(output.check_write().unwrap() > 0);
        output.write(Bytes::from_static(b"pong")).unwrap();
        assert_eq!(there.try_read_vec(8).unwrap(), b"pingpong");
        drop(there);
        output.flush().unwrap();
        assert_eq!(output.check_write().unwrap(), 1);
        assert!(matches!(output.check_write(), Err(StreamError::Closed)));
        assert!(matches!(output.flush(), Err(StreamError::Closed)));
    }
}
