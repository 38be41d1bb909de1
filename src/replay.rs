//! A request's body that can be sent more than once.
//!
//! A client says its body once, as a stream. So that the death of whoever was asked first is not the
//! client's failure, the first bytes are remembered as they are sent; a body that has become longer
//! than that, or has trailers, can be sent only once. Bytes are shared, not copied. The front door
//! and the guests' own client both retry, by the same rules, and so both use this.
//!
//! Attempts follow each other: when a new one begins, the one before ends in an error, whatever
//! connection still holds it, so that a peer never takes the half it got for a whole.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Bytes of a body that are remembered.
const MOST: usize = 16 << 10;

/// See the module.
pub struct Replay<B>(Arc<Mutex<Shared<B>>>);

/// Why an attempt's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    #[error("the request is sent again elsewhere")]
    Superseded,
    /// The client's own error.
    #[error(transparent)]
    Body(E),
}

struct Shared<B> {
    body: B,
    sent: Vec<Bytes>,
    size: usize,
    is_lost: bool,
    is_ended: bool,
    attempt: u32,
}

impl<B: Body<Data = Bytes> + Unpin> Replay<B> {
    pub fn new(body: B) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            is_ended: body.is_end_stream(),
            body,
            sent: Vec::new(),
            size: 0,
            is_lost: false,
            attempt: 0,
        })))
    }

    /// The body for the next attempt; `None` if its beginning is not known any more.
    pub fn attempt(&self) -> Option<Attempt<B>> {
        let mut shared = lock(&self.0);
        if shared.is_lost {
            return None;
        }
        shared.attempt += 1;
        Some(Attempt {
            number: shared.attempt,
            next: 0,
            shared: Arc::clone(&self.0),
        })
    }
}

fn lock<B>(shared: &Mutex<Shared<B>>) -> MutexGuard<'_, Shared<B>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Shared<B> {
    fn remember(&mut self, frame: &Frame<Bytes>) {
        let data = frame.data_ref();
        self.size += data.map_or(0, Bytes::len);
        match data {
            Some(data) if self.size <= MOST => self.sent.push(data.clone()),
            Some(_) | None => {
                self.is_lost = true;
                self.sent = Vec::new();
            }
        }
    }
}

/// The body of one attempt.
pub struct Attempt<B> {
    number: u32,
    /// How many of the remembered pieces it has sent.
    next: usize,
    shared: Arc<Mutex<Shared<B>>>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Attempt<B> {
    type Data = Bytes;
    type Error = Error<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let mut shared = lock(&this.shared);
        if shared.attempt != this.number {
            return Poll::Ready(Some(Err(Error::Superseded)));
        }
        if let Some(data) = shared.sent.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if shared.is_ended {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut shared.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                shared.remember(frame);
                this.next = shared.sent.len();
            }
            // It cannot be told twice.
            Some(Err(_)) => shared.is_lost = true,
            None => shared.is_ended = true,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::Body)))
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.shared);
        let is_told = self.next >= shared.sent.len();
        is_told && (shared.is_ended || shared.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let shared = lock(&self.shared);
        let again = shared.sent.iter().skip(self.next);
        let again: u64 = again.map(|data| data.len() as u64).sum();
        let rest = shared.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(again + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(again + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    type Frames = stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

    fn replay(frames: Vec<Frame<Bytes>>) -> Replay<StreamBody<Frames>> {
        let frames: Vec<_> = frames.into_iter().map(Ok).collect();
        Replay::new(StreamBody::new(stream::iter(frames)))
    }

    fn data(length: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; length]))
    }

    async fn length(body: impl Body<Data = Bytes>) -> usize {
        let whole = body.collect().await.ok();
        whole.expect("a whole body").to_bytes().len()
    }

    #[tokio::test]
    async fn what_is_short_is_sent_again_from_its_beginning() {
        let replay = replay(vec![data(10), data(20), data(30)]);
        let mut first = replay.attempt().unwrap();
        first.frame().await.unwrap().unwrap();
        let second = replay.attempt().unwrap();
        let broken = first.frame().await.unwrap();
        assert!(matches!(broken, Err(Error::Superseded)));
        assert_eq!(length(second).await, 60);
        assert_eq!(length(replay.attempt().unwrap()).await, 60);
    }

    #[tokio::test]
    async fn what_is_long_or_odd_is_sent_once() {
        for frames in [
            vec![data(MOST), data(1)],
            vec![data(1), Frame::trailers(http::HeaderMap::new())],
        ] {
            let replay = replay(frames);
            let first = replay.attempt().unwrap();
            first.collect().await.unwrap();
            assert!(replay.attempt().is_none());
        }
    }

    #[tokio::test]
    async fn nothing_stays_nothing() {
        let replay = replay(Vec::new());
        for _ in 0..3 {
            assert_eq!(length(replay.attempt().unwrap()).await, 0);
        }
    }
}
