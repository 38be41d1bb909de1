//! The few bytes of gRPC that a benchmark of etcd needs: unary calls, one after another, or one call
//! whose answers go on.
//!
//! Written by hand for the same reason as `raw`: client and server share the machine, and what a
//! client library spends would count against etcd. HTTP/2 is spoken as a fixed prologue, one HEADERS
//! and one DATA frame for each call, and a reader of frames that knows which ones to answer. Headers
//! are never compressed against a table, so every call's are the same bytes.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Both sides' default limit for a frame.
const LARGEST: usize = 16 << 10;

/// A window that nothing here fills, for the connection and for each stream.
const WINDOW: u32 = 0x3fff_0000;
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One connection, one call at a time.
pub(super) struct Connection {
    stream: TcpStream,
    read: BytesMut,
    headers: Vec<u8>,
    next_stream: u32,
}

impl Connection {
    /// Connects for calls of one method, like `/etcdserverpb.KV/Put`.
    pub(super) async fn open(address: SocketAddr, method: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut prologue = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
        let mut settings = BytesMut::new();
        settings.put_u16(INITIAL_WINDOW_SIZE);
        settings.put_u32(WINDOW);
        put_frame(&mut prologue, SETTINGS, 0, 0, &settings);
        put_frame(&mut prologue, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        stream.write_all(&prologue).await?;
        Ok(Self {
            stream,
            read: BytesMut::with_capacity(LARGEST),
            headers: header_block(method),
            next_stream: 1,
        })
    }

    /// Calls with an encoded message; an answer with a message is a success.
    pub(super) async fn call(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let id = self.send(message, END_STREAM).await?;
        let mut has_message = false;
        loop {
            let frame = self.answer(id).await?;
            has_message |= frame.kind == DATA && !frame.payload.is_empty();
            if frame.flags & END_STREAM != 0 {
                // An error comes as trailers alone.
                ensure!(has_message, "etcd answers with an error");
                return Ok(());
            }
        }
    }

    /// Begins a call whose answers go on, and which sends no more than this message.
    pub(super) async fn begin(mut self, message: &[u8]) -> anyhow::Result<Answers> {
        let id = self.send(message, 0).await?;
        Ok(Answers {
            connection: self,
            id,
            read: BytesMut::new(),
        })
    }

    async fn send(&mut self, message: &[u8], flags: u8) -> anyhow::Result<u32> {
        let id = self.next_stream;
        self.next_stream += 2;
        let mut request = BytesMut::with_capacity(self.headers.len() + message.len() + 64);
        put_frame(&mut request, HEADERS, END_HEADERS, id, &self.headers);
        let mut data = BytesMut::with_capacity(message.len() + 5);
        data.put_u8(0);
        data.put_u32(u32::try_from(message.len())?);
        data.put_slice(message);
        while data.len() > LARGEST {
            put_frame(&mut request, DATA, 0, id, &data.split_to(LARGEST));
        }
        put_frame(&mut request, DATA, flags, id, &data);
        self.stream.write_all(&request).await?;
        Ok(id)
    }

    /// The next frame of an answer; what else comes is dealt with.
    async fn answer(&mut self, id: u32) -> anyhow::Result<Frame> {
        loop {
            let frame = self.frame().await?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK == 0 => self.acknowledge(&frame).await?,
                GOAWAY => bail!("etcd ends the connection"),
                _ if frame.stream != id => {}
                RST_STREAM => bail!("etcd refuses the call"),
                _ => return Ok(frame),
            }
        }
    }

    async fn acknowledge(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let payload: &[u8] = if frame.kind == PING {
            &frame.payload
        } else {
            &[]
        };
        let mut answer = BytesMut::new();
        put_frame(&mut answer, frame.kind, ACK, 0, payload);
        Ok(self.stream.write_all(&answer).await?)
    }

    async fn frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.read)? {
                return Ok(frame);
            }
            let read = self.stream.read_buf(&mut self.read).await?;
            ensure!(read > 0, "etcd closed the connection");
        }
    }
}

/// The answers of a call that goes on.
pub(super) struct Answers {
    connection: Connection,
    id: u32,
    read: BytesMut,
}

impl Answers {
    /// Waits for the next message, which is not kept.
    pub(super) async fn next(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(head) = self.read.get(1..5) {
                let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
                if self.read.len() >= 5 + length {
                    self.read.advance(5 + length);
                    return Ok(());
                }
            }
            let frame = self.connection.answer(self.id).await?;
            if frame.kind == DATA {
                self.read.put_slice(&frame.payload);
            }
            ensure!(frame.flags & END_STREAM == 0, "etcd ends the call");
        }
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: BytesMut,
}

fn put_frame(bytes: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.put_uint(payload.len() as u64, 3);
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u32(stream);
    bytes.put_slice(payload);
}

fn take_frame(bytes: &mut BytesMut) -> anyhow::Result<Option<Frame>> {
    if bytes.len() < 9 {
        return Ok(None);
    }
    let mut head = &bytes[..9];
    let length = head.get_uint(3) as usize;
    let (kind, flags) = (head.get_u8(), head.get_u8());
    let stream = head.get_u32() & 0x7fff_ffff;
    ensure!(length <= LARGEST, "a frame of {length} bytes");
    if bytes.len() < 9 + length {
        return Ok(None);
    }
    bytes.advance(9);
    Ok(Some(Frame {
        kind,
        flags,
        stream,
        payload: bytes.split_to(length),
    }))
}

/// HPACK (RFC 7541): indexed fields where the static table has them, else literals without indexing.
fn header_block(method: &str) -> Vec<u8> {
    // `:method: POST` and `:scheme: http`.
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &str, value: &str| {
        block.push(0);
        for text in [name, value] {
            // Short enough for a length of one byte.
            block.push(text.len().min(126) as u8);
            block.extend_from_slice(text.as_bytes());
        }
    };
    literal(":path", method);
    literal(":authority", "etcd");
    literal("content-type", "application/grpc");
    literal("te", "trailers");
    block
}

/// A protobuf message of length-delimited fields.
pub(super) fn message(fields: &[(u8, &[u8])]) -> anyhow::Result<Vec<u8>> {
    let mut message = Vec::new();
    for (number, bytes) in fields {
        message.push(number << 3 | 2);
        let mut length = u32::try_from(bytes.len()).context("a field of more than 4 GiB")?;
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(bytes);
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_encoded_as_protobuf_wants_it() {
        let encoded = message(&[(1, b"k"), (2, &[7; 200])]).unwrap();
        assert_eq!(&encoded[..7], &[0x0a, 1, b'k', 0x12, 0xc8, 0x01, 7]);
        assert_eq!(encoded.len(), 206);
    }

    #[test]
    fn frames_are_read_back_whole() {
        let mut bytes = BytesMut::new();
        put_frame(&mut bytes, DATA, END_STREAM, 5, b"abc");
        let whole = bytes.clone();
        for end in 0..whole.len() {
            let mut half = BytesMut::from(&whole[..end]);
            assert!(take_frame(&mut half).unwrap().is_none(), "{end}");
        }
        let frame = take_frame(&mut bytes).unwrap().unwrap();
        assert_eq!(
            (frame.kind, frame.flags, frame.stream),
            (DATA, END_STREAM, 5)
        );
        assert_eq!(&frame.payload[..], b"abc");
        assert!(bytes.is_empty());
    }
}
