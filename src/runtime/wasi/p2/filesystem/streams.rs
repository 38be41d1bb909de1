//! Byte streams over a file. Always ready: memory does not wait.
//!
//! After an error the stream is closed, as `wasi:io` asks. Writers take at most [`MAX_WRITE`] bytes
//! at a time; a guest that writes more than `check-write` allowed breaks the protocol and traps.

use bytes::Bytes;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::MAX_READ;
use crate::runtime::fs::Descriptor;
use crate::runtime::fs::errno::Errno;

const MAX_WRITE: usize = 1 << 20;

pub(super) struct Reader {
    file: Descriptor,
    offset: u64,
    closed: bool,
}

impl Reader {
    pub(super) fn new(file: Descriptor, offset: u64) -> Self {
        Self {
            file,
            offset,
            closed: false,
        }
    }

    fn next(&mut self, size: usize) -> Result<Bytes, Errno> {
        let bytes = self.file.read_vec(self.offset, size.min(MAX_READ))?;
        self.offset += bytes.len() as u64;
        Ok(bytes.into())
    }
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.next(size) {
            Ok(bytes) if bytes.is_empty() => {
                self.closed = true;
                Err(StreamError::Closed)
            }
            Ok(bytes) => Ok(bytes),
            Err(errno) => {
                self.closed = true;
                Err(failed(errno))
            }
        }
    }
}

pub(super) struct Writer {
    file: Descriptor,
    /// `None` appends.
    offset: Option<u64>,
    closed: bool,
}

impl Writer {
    pub(super) fn at(file: Descriptor, offset: u64) -> Self {
        Self {
            file,
            offset: Some(offset),
            closed: false,
        }
    }

    pub(super) fn append(file: Descriptor) -> Self {
        Self {
            file,
            offset: None,
            closed: false,
        }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let count = match &mut self.offset {
                Some(offset) => {
                    let count = self.file.write_at(*offset, &[bytes])?;
                    *offset += count as u64;
                    count
                }
                None => self.file.append(&[bytes])?.0,
            };
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn check_open(&self) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.check_open()?;
        Ok(MAX_WRITE)
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check_open()?;
        if bytes.len() > MAX_WRITE {
            return Err(StreamError::trap("write larger than check-write allowed"));
        }
        self.write_all(&bytes).map_err(|errno| {
            self.closed = true;
            failed(errno)
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check_open()
    }
}

fn failed(errno: Errno) -> StreamError {
    StreamError::LastOperationFailed(ErrorCode::from(errno).into())
}
