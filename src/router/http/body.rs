//! Bodies on their way through.
//!
//! Frames are passed on as they come; nothing is collected. A body that stands still too long is
//! ended with an error, which closes its connection. The answer's body also carries the connection
//! to the pod: when it has been read to its end, the connection is kept for the next request; when
//! it is dropped before, so is the connection, and the pod sees that its client has left.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Sleep;

use crate::replay::{self, Attempt, Replay};
use crate::router::table::Service;
use crate::router::upstream::InFlight;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::router) enum Error {
    #[error("read the body")]
    Read(#[source] hyper::Error),
    #[error("the body stood still for {0:?}")]
    Idle(Duration),
    #[error("the request is sent again elsewhere")]
    Superseded,
}

/// A body that may not stand still. The timer is armed only while it does.
pub(super) struct Bounded {
    body: Incoming,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Where somebody wants to know when the last frame came.
    moved: Option<Moved>,
}

/// When a body moved last; clones are of the same body.
#[derive(Clone)]
struct Moved {
    began: Instant,
    /// Milliseconds after `began`.
    last: Arc<AtomicU64>,
}

impl Moved {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last: Arc::default(),
        }
    }

    fn now(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis());
        self.last
            .store(since.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            if let Some(moved) = &self.moved {
                moved.now();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::Read)));
        }
        let patience = self.patience;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::Idle(patience))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's body, to be sent as often as it takes; `None` is without any and costs nothing.
pub(super) struct Said(Option<(Replay<Bounded>, Moved)>);

impl Said {
    pub(super) fn new(body: Incoming, patience: Duration) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        let moved = Moved::new();
        let body = Bounded {
            body,
            patience,
            timer: None,
            moved: Some(moved.clone()),
        };
        Self(Some((Replay::new(body), moved)))
    }

    /// When the body moved last, if there is one.
    pub(super) fn moved(&self) -> Option<Instant> {
        self.0.as_ref().map(|(_, moved)| moved.last())
    }

    /// The body for the next send; `None` if its beginning is not known any more.
    pub(super) fn send(&self) -> Option<Sent> {
        match &self.0 {
            Some((replay, _)) => Some(Sent(Some(replay.attempt()?))),
            None => Some(Sent(None)),
        }
    }
}

/// A request's body on its way to a pod.
pub(in crate::router) struct Sent(Option<Attempt<Bounded>>);

impl Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        Pin::new(body).poll_frame(cx).map_err(|error| match error {
            replay::Error::Body(error) => error,
            replay::Error::Superseded => Error::Superseded,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// What is kept while an answer is on its way, and given back at its end.
pub(super) struct Carried {
    pub(super) sender: SendRequest<Sent>,
    pub(super) in_flight: InFlight,
    pub(super) most_idle: usize,
}

impl Carried {
    fn keep(self) {
        let upstream = self.in_flight.upstream();
        upstream.keep(self.sender, self.most_idle, Instant::now());
    }
}

/// A request's answer on its way to a client.
pub(in crate::router) struct Answer(Kind);

enum Kind {
    Text(Option<Bytes>),
    Stream {
        body: Bounded,
        carried: Option<Carried>,
        /// Held so that its counters are, too.
        _service: Arc<Service>,
    },
}

impl Answer {
    pub(super) fn text(text: String) -> Self {
        Self(Kind::Text(Some(text.into())))
    }

    /// An answer without a body, for an upgrade.
    pub(in crate::router) fn none() -> Self {
        Self(Kind::Text(None))
    }

    pub(super) fn stream(
        body: Incoming,
        patience: Duration,
        carried: Carried,
        service: Arc<Service>,
    ) -> Self {
        let mut answer = Self(Kind::Stream {
            body: Bounded {
                body,
                patience,
                timer: None,
                moved: None,
            },
            carried: Some(carried),
            _service: service,
        });
        answer.keep_if_ended();
        answer
    }

    fn keep_if_ended(&mut self) {
        if let Kind::Stream { body, carried, .. } = &mut self.0
            && body.body.is_end_stream()
            && let Some(carried) = carried.take()
        {
            carried.keep();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match &mut self.0 {
            Kind::Text(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Stream { body, carried, .. } => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => Some(Ok(frame)),
                None => {
                    if let Some(carried) = carried.take() {
                        carried.keep();
                    }
                    None
                }
                Some(Err(error)) => {
                    *carried = None;
                    Some(Err(error))
                }
            },
        };
        self.keep_if_ended();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Text(text) => text.is_none(),
            Kind::Stream { body, .. } => body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Text(None) => SizeHint::with_exact(0),
            Kind::Text(Some(text)) => SizeHint::with_exact(text.len() as u64),
            Kind::Stream { body, .. } => body.body.size_hint(),
        }
    }
}
