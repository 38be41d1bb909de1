//! A guest's request that can be sent more than once.
//!
//! A guest says its request once, and its body is a stream. So that the death of whoever was asked
//! first is not the guest's failure, the first bytes of the body are remembered as they are sent;
//! a body that has become longer than that, or has trailers, can be sent only once. Bytes are
//! shared, not copied.
//!
//! Attempts follow each other: when a new one begins, the body of the one before ends in an error,
//! whatever connection still holds it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, request};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{Error as WasiHttpError, WasiBody};

/// Bytes of a body that are remembered.
const MOST: usize = 64 << 10;

/// See the module.
pub(super) struct Replay {
    head: request::Parts,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    body: WasiBody,
    sent: Vec<Bytes>,
    size: usize,
    is_lost: bool,
    is_ended: bool,
    attempt: u32,
}

impl Replay {
    pub(super) fn new(request: http::Request<WasiBody>) -> Self {
        let (head, body) = request.into_parts();
        Self {
            head,
            shared: Arc::new(Mutex::new(Shared {
                is_ended: body.is_end_stream(),
                body,
                sent: Vec::new(),
                size: 0,
                is_lost: false,
                attempt: 0,
            })),
        }
    }

    pub(super) fn head(&mut self) -> &mut request::Parts {
        &mut self.head
    }

    /// Whether doing it twice is as good as once.
    pub(super) fn is_idempotent(&self) -> bool {
        matches!(
            self.head.method,
            Method::GET
                | Method::HEAD
                | Method::OPTIONS
                | Method::TRACE
                | Method::PUT
                | Method::DELETE
        )
    }

    /// The request for the next attempt; `None` if its beginning is not known any more.
    pub(super) fn attempt(&self) -> Option<http::Request<WasiBody>> {
        let mut shared = lock(&self.shared);
        if shared.is_lost {
            return None;
        }
        shared.attempt += 1;
        let body = Attempt {
            number: shared.attempt,
            next: 0,
            shared: Arc::clone(&self.shared),
        };
        Some(http::Request::from_parts(
            self.head.clone(),
            body.boxed_unsync(),
        ))
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn remember(&mut self, frame: &Frame<Bytes>) {
        let Some(data) = frame.data_ref() else {
            self.is_lost = true;
            return;
        };
        self.size += data.len();
        if self.size > MOST {
            self.is_lost = true;
            self.sent.clear();
        } else {
            self.sent.push(data.clone());
        }
    }
}

/// The body of one attempt.
struct Attempt {
    number: u32,
    /// How many of the remembered pieces it has sent.
    next: usize,
    shared: Arc<Mutex<Shared>>,
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = WasiHttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiHttpError>>> {
        let this = &mut *self;
        let mut shared = lock(&this.shared);
        if shared.attempt != this.number {
            let words = "the request is sent again elsewhere".to_owned();
            return Poll::Ready(Some(Err(WasiHttpError::InternalError(Some(words)))));
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
            // An error is the guest's own; it cannot be told twice.
            Some(Err(_)) => shared.is_lost = true,
            None => shared.is_ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.shared);
        let is_told = self.next >= shared.sent.len();
        is_told && (shared.is_ended || shared.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let shared = lock(&self.shared);
        let again: u64 = shared
            .sent
            .iter()
            .skip(self.next)
            .map(|it| it.len() as u64)
            .sum();
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
    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn replay(frames: Vec<Frame<Bytes>>) -> Replay {
        let frames = frames.into_iter().map(Ok::<_, WasiHttpError>);
        let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
        Replay::new(http::Request::post("/").body(body).unwrap())
    }

    fn data(length: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; length]))
    }

    async fn length(request: http::Request<WasiBody>) -> usize {
        request
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .len()
    }

    #[tokio::test]
    async fn what_is_short_is_sent_again_from_its_beginning() {
        let replay = replay(vec![data(10), data(20), data(30)]);
        let mut first = replay.attempt().unwrap().into_body();
        first.frame().await.unwrap().unwrap();
        let second = replay.attempt().unwrap();
        assert!(first.frame().await.unwrap().is_err(), "the first is over");
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
            first.into_body().collect().await.unwrap();
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
