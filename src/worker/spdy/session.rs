//! One connection: frames in, frames out, streams in between.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::frame::{self, HEAD, Head, Kind, Reason, Syn};
use super::headers::{Inflater, MAX, Replies};
use super::stream::{PIECE, Piece, Reader, Stream, Writer};

/// Streams of a session that are open at once; a forwarded connection has two.
pub const MAX_STREAMS: usize = 512;
/// Bytes that a session holds for all its streams together.
pub const MAX_UNREAD: usize = 1 << 20;
/// Pieces that a stream holds.
const WAITING: usize = 8;
/// Frames that wait to be written.
const QUEUE: usize = 32;
/// A silent session is pinged so often, so that a client that is gone is found.
const PING: Duration = Duration::from_secs(30);
/// How long the last word may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves a connection until the client ends it. Every stream that it opens goes to `accept`; one
/// that finds no room there, or nobody, is refused. A stream whose reader takes nothing for
/// `patience` is reset; without patience the session waits for it.
pub async fn run<I>(
    io: I,
    accept: mpsc::Sender<Stream>,
    patience: Option<Duration>,
) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite,
{
    let (reader, writer) = tokio::io::split(io);
    let (out, queue) = mpsc::channel(QUEUE);
    let ended = CancellationToken::new();
    // Whatever happens to this future, the streams learn that it is over.
    let _ending = ended.clone().drop_guard();
    let mut session = Session {
        streams: HashMap::new(),
        last: 0,
        is_leaving: false,
        inflater: Inflater::new(),
        replies: Replies::default(),
        unread: Arc::new(Semaphore::new(MAX_UNREAD)),
        patience,
        accept,
        out,
        ended: ended.clone(),
    };
    let mut writing = std::pin::pin!(write_all(writer, queue));
    let result = tokio::select! {
        result = session.read_all(BufReader::new(reader)) => result,
        result = &mut writing => return Ok(result?),
    };
    if let Err(Error::Malformed(_) | Error::TooLarge(_) | Error::Unread) = &result {
        // If the queue is full, the client does not listen anyway.
        let _ = session.out.try_send(frame::go_away(session.last));
        ended.cancel();
        drop(session);
        let _ = tokio::time::timeout(GOODBYE, writing).await;
    }
    result
}

async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Bytes>,
) -> std::io::Result<()> {
    let mut pings = 0_u32;
    loop {
        let mut next = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => Some(frame),
                None => return writer.shutdown().await,
            },
            () = tokio::time::sleep(PING) => {
                // A server's pings are even.
                pings = pings.wrapping_add(2);
                Some(frame::ping(&pings.to_be_bytes()))
            }
        };
        while let Some(frame) = next {
            writer.write_all(&frame).await?;
            next = queue.try_recv().ok();
        }
        writer.flush().await?;
    }
}

/// An open stream, seen from the connection.
struct Entry {
    /// None when the client has ended its half, or nobody reads.
    pieces: Option<mpsc::Sender<Piece>>,
    gone: CancellationToken,
    open: Weak<()>,
}

struct Session {
    streams: HashMap<u32, Entry>,
    /// The stream opened last.
    last: u32,
    is_leaving: bool,
    inflater: Inflater,
    replies: Replies,
    unread: Arc<Semaphore>,
    patience: Option<Duration>,
    accept: mpsc::Sender<Stream>,
    out: mpsc::Sender<Bytes>,
    ended: CancellationToken,
}

impl Session {
    async fn read_all(&mut self, mut reader: impl AsyncRead + Unpin) -> Result<(), Error> {
        loop {
            let mut head = [0; HEAD];
            if reader.read(&mut head[..1]).await? == 0 {
                return Ok(());
            }
            reader.read_exact(&mut head[1..]).await?;
            match Head::parse(head)? {
                Head::Data {
                    stream,
                    is_last,
                    length,
                } => {
                    self.data(&mut reader, stream, length).await?;
                    if is_last && let Some(entry) = self.streams.get_mut(&stream) {
                        entry.pieces = None;
                    }
                }
                Head::Control { length, .. } if length > MAX => {
                    return Err(Error::TooLarge("a control frame"));
                }
                Head::Control {
                    kind,
                    flags,
                    length,
                } => {
                    let mut payload = vec![0; length];
                    reader.read_exact(&mut payload).await?;
                    self.control(kind, flags, &payload).await?;
                }
            }
        }
    }

    /// Passes a frame's bytes on as they come.
    async fn data(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        stream: u32,
        length: usize,
    ) -> Result<(), Error> {
        let mut left = length;
        while left > 0 {
            let size = left.min(PIECE);
            left -= size;
            let paid = Arc::clone(&self.unread).acquire_many_owned(size as u32);
            let paid = patiently(self.patience, paid).await;
            let Some(Ok(paid)) = paid else {
                return Err(Error::Unread);
            };
            let mut bytes = BytesMut::zeroed(size);
            reader.read_exact(&mut bytes).await?;
            let piece = Piece {
                bytes: bytes.freeze(),
                _paid: paid,
            };
            self.deliver(stream, piece).await;
        }
        Ok(())
    }

    async fn deliver(&mut self, stream: u32, piece: Piece) {
        // What is left of a stream that was ended here is nobody's.
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        let Some(pieces) = &entry.pieces else { return };
        match patiently(self.patience, pieces.send(piece)).await {
            Some(Ok(())) => {}
            Some(Err(_)) => entry.pieces = None,
            None => {
                self.end(stream);
                let _ = self.out.send(frame::reset(stream, Reason::Cancel)).await;
            }
        }
    }

    async fn control(&mut self, kind: Kind, flags: u8, payload: &[u8]) -> Result<(), Error> {
        match kind {
            Kind::SynStream => self.open(&Syn::parse(flags, payload)?).await?,
            Kind::Reset => self.end(frame::stream(payload)?),
            Kind::Ping => {
                let id = payload.first_chunk::<4>();
                let id = id.ok_or(Error::Malformed("a PING that is too short"))?;
                // Ours come back, and need no answer.
                if id[3] % 2 == 1 {
                    self.send(frame::ping(id)).await;
                }
            }
            Kind::GoAway => self.is_leaving = true,
            Kind::SynReply | Kind::Headers => {
                frame::stream(payload)?;
                self.inflater.read(&payload[4..])?;
            }
            Kind::Other => {}
        }
        Ok(())
    }

    async fn open(&mut self, syn: &Syn<'_>) -> Result<(), Error> {
        let headers = self.inflater.read(syn.headers)?;
        if syn.stream <= self.last {
            return Err(Error::Malformed("a stream's id that goes back"));
        }
        self.last = syn.stream;
        if self.streams.len() >= MAX_STREAMS {
            self.streams
                .retain(|_, entry| entry.open.strong_count() > 0);
        }
        if syn.is_unidirectional {
            self.send(frame::reset(syn.stream, Reason::Protocol)).await;
            return Ok(());
        }
        if self.streams.len() >= MAX_STREAMS || self.is_leaving {
            self.send(frame::reset(syn.stream, Reason::Refused)).await;
            return Ok(());
        }
        let reply = frame::syn_reply(syn.stream, &self.replies.empty());
        self.send(reply).await;
        let (stream, mut entry) = self.stream(syn.stream, headers);
        if syn.is_last {
            entry.pieces = None;
        }
        match self.accept.try_send(stream) {
            Ok(()) => {
                self.streams.insert(syn.stream, entry);
            }
            Err(_) => self.send(frame::reset(syn.stream, Reason::Refused)).await,
        }
        Ok(())
    }

    fn stream(&self, id: u32, headers: super::Headers) -> (Stream, Entry) {
        let (sender, pieces) = mpsc::channel(WAITING);
        let gone = self.ended.child_token();
        let open = Arc::new(());
        let entry = Entry {
            pieces: Some(sender),
            gone: gone.clone(),
            open: Arc::downgrade(&open),
        };
        let stream = Stream {
            headers,
            reader: Reader {
                pieces,
                gone: gone.clone(),
                _open: Arc::clone(&open),
            },
            writer: Writer {
                stream: id,
                out: self.out.clone(),
                gone,
                _open: open,
            },
        };
        (stream, entry)
    }

    fn end(&mut self, stream: u32) {
        if let Some(entry) = self.streams.remove(&stream) {
            entry.gone.cancel();
        }
    }

    async fn send(&self, frame: Bytes) {
        // It fails when the writing half has ended, and then so does this one.
        let _ = self.out.send(frame).await;
    }
}

/// `None` when patience has ended.
async fn patiently<T>(patience: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, work).await.ok(),
        None => Some(work.await),
    }
}

#[cfg(test)]
mod tests;
