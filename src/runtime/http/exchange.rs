//! One request and its response, driven by whoever waits for it.
//!
//! The guest's work is a future ([`Exchange`]) that lives first inside [`Handler::call`] and then
//! inside the response's body ([`Streaming`]): polling either drives the guest. A response that is
//! complete without ever having to wait is sent as plain bytes with its length, which saves the
//! connection two writes; anything slower or larger streams.
//!
//! Timers and the kill signal are armed only when the guest first has to wait, so a request that is
//! answered in one poll pays for neither.
//!
//! [`Handler::call`]: super::Handler::call

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use wasmtime_wasi_http::WasiBody;

use super::in_flight::Request;
use super::instance::Head;
use super::{Body, Error};

/// Bodies up to this are collected and sent in one write.
const COALESCE: usize = 64 << 10;

/// The guest's side of a request, until it has nothing more to do.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A request in progress.
pub(super) struct Exchange {
    /// `None` when the guest has returned.
    work: Option<Work>,
    /// Dropped to tell the guest that the body is no longer read.
    ended: Option<oneshot::Sender<()>>,
    patience: Duration,
    since: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
    killed: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    request: Arc<Request>,
}

impl Exchange {
    pub(super) fn new(
        work: Work,
        ended: oneshot::Sender<()>,
        patience: Duration,
        request: Arc<Request>,
    ) -> Self {
        Self {
            work: Some(work),
            ended: Some(ended),
            patience,
            since: Instant::now(),
            deadline: None,
            killed: None,
            request,
        }
    }

    /// Runs the guest until it has set the response, then as far as it gets without waiting.
    pub(super) async fn respond(
        mut self,
        mut head: oneshot::Receiver<Head>,
    ) -> Result<http::Response<Body>, Error> {
        let head = poll_fn(|cx| self.poll_head(cx, &mut head)).await;
        let (parts, body) = head
            .inspect_err(|error| self.request.failed(error))?
            .into_parts();
        let mut body = Collected::new(body);
        poll_fn(|cx| body.poll_collect(cx, &mut self))
            .await
            .inspect_err(|error| self.request.failed(error))?;
        Ok(http::Response::from_parts(parts, body.finish(self)))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut oneshot::Receiver<Head>,
    ) -> Poll<Head> {
        // A guest that failed has no response, even if it had set one: nothing of it was sent yet.
        let worked = self.poll_work(cx)?;
        match head.try_recv() {
            Ok(head) => return Poll::Ready(head),
            Err(_) if worked.is_ready() => return Poll::Ready(Err(Error::NoResponse)),
            Err(TryRecvError::Closed) => {}
            // A guest that computes in the background sets it while nobody polls its work.
            Err(TryRecvError::Empty) => {
                if let Poll::Ready(Ok(head)) = Pin::new(head).poll(cx) {
                    return Poll::Ready(head);
                }
            }
        }
        self.poll_patience(cx).map(Err)
    }

    /// Drives the guest; ready when it has returned, also when that was long ago.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(Ok(()));
        };
        let worked = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(worked)
    }

    /// Ready when nobody should wait any longer.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let killed = self
            .killed
            .get_or_insert_with(|| Box::pin(self.request.killed()));
        if killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Error::Killed);
        }
        let until = self.since + self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if deadline.deadline() < until {
            deadline.as_mut().reset(until);
        }
        deadline
            .as_mut()
            .poll(cx)
            .map(|()| Error::Deadline(self.patience))
    }
}

/// The body while it may still turn out to be small.
struct Collected {
    body: WasiBody,
    frames: VecDeque<Frame<Bytes>>,
    size: usize,
    at_end: bool,
}

impl Collected {
    fn new(body: WasiBody) -> Self {
        Self {
            body,
            frames: VecDeque::new(),
            size: 0,
            at_end: false,
        }
    }

    /// Takes what is there; ready when the exchange is over, too large, or has to wait.
    fn poll_collect(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange,
    ) -> Poll<Result<(), Error>> {
        loop {
            let worked = exchange.poll_work(cx)?;
            let mut progress = false;
            while !self.at_end && self.size < COALESCE {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        self.size += frame.data_ref().map_or(0, Bytes::len);
                        self.frames.push_back(frame);
                        progress = true;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(Error::Body(Box::new(error))));
                    }
                    Poll::Ready(None) => {
                        self.at_end = true;
                        exchange.ended = None;
                        progress = true;
                    }
                    Poll::Pending => break,
                }
            }
            let is_over = self.at_end && worked.is_ready();
            if is_over || !progress || self.size >= COALESCE {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn finish(mut self, exchange: Exchange) -> Body {
        if self.at_end && !self.frames.iter().any(Frame::is_trailers) {
            exchange.finish_in_background();
            return Body::full(self.concat());
        }
        Body::guest(Streaming {
            body: self,
            exchange: Some(exchange),
        })
    }

    fn concat(&mut self) -> Bytes {
        let mut data = self
            .frames
            .drain(..)
            .filter_map(|frame| frame.into_data().ok());
        let Some(first) = data.next() else {
            return Bytes::new();
        };
        let mut rest = data.peekable();
        if rest.peek().is_none() {
            return first;
        }
        let mut whole = BytesMut::with_capacity(self.size);
        whole.extend_from_slice(&first);
        rest.for_each(|bytes| whole.extend_from_slice(&bytes));
        whole.freeze()
    }
}

impl Exchange {
    /// The response is out; what the guest still does (logs, a cache) it does by itself, as long
    /// as the deadline lets it.
    fn finish_in_background(mut self) {
        if self.work.is_none() {
            return;
        }
        self.ended = None;
        self.since = Instant::now();
        let request = Arc::clone(&self.request);
        request.spawn(async move {
            let end = poll_fn(|cx| match self.poll_work(cx) {
                Poll::Pending => self.poll_patience(cx).map(Err),
                ended @ Poll::Ready(_) => ended,
            });
            if let Err(error) = end.await {
                self.request.failed(&error);
            }
        });
    }
}

/// The rest of a body, together with the guest that makes it.
struct Streaming {
    body: Collected,
    /// `None` when it ended.
    exchange: Option<Exchange>,
}

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Some(frame) = this.body.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(exchange) = &mut this.exchange else {
            return Poll::Ready(None);
        };
        let next = if this.body.at_end {
            None
        } else {
            std::task::ready!(exchange.poll_next(cx, &mut this.body.body))
        };
        if !matches!(next, Some(Ok(_)))
            && let Some(exchange) = this.exchange.take()
        {
            match &next {
                Some(Err(error)) => exchange.request.failed(error),
                Some(Ok(_)) | None => exchange.finish_in_background(),
            }
        }
        Poll::Ready(next)
    }
}

impl Exchange {
    /// The next piece of a body that has to be waited for.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut WasiBody,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(Err(error)) = self.poll_work(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.since = Instant::now();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Error::Body(Box::new(error))))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_patience(cx).map(|error| Some(Err(error))),
        }
    }
}

#[cfg(test)]
mod tests;
