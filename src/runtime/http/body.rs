//! The one body type on both sides of a handler.
//!
//! Small and known bodies stay plain bytes, so that hyper sends them with the head in one write;
//! everything else is polled. Deliberately not `Sync`: a body has one reader.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime_wasi_http::{Error as WasiHttpError, WasiBody};

use super::Error;
use super::unread::Lent;

/// A request's or a response's body.
pub struct Body(Kind);

enum Kind {
    Empty,
    Full(Bytes),
    Incoming(hyper::body::Incoming),
    Lent(Lent),
    Stream(UnsyncBoxBody<Bytes, Error>),
    Wasi(WasiBody),
}

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Bytes that are all there.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self(Kind::Full(bytes))
        }
    }

    /// A guest's body, whose errors are told as they are.
    pub(super) fn guest<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = Error> + Send + 'static,
    {
        Self(Kind::Stream(body.boxed_unsync()))
    }

    /// A body that is read from an HTTP connection.
    pub fn incoming(body: hyper::body::Incoming) -> Self {
        Self(Kind::Incoming(body))
    }

    /// A body that goes back to its connection if it is not read to its end.
    pub(super) fn lent(body: Lent) -> Self {
        Self(Kind::Lent(body))
    }

    /// A body in the guest library's own form.
    pub(in crate::runtime) fn wasi(body: WasiBody) -> Self {
        Self(Kind::Wasi(body))
    }

    /// The same body in the guest library's own form.
    pub(in crate::runtime) fn into_wasi(self) -> WasiBody {
        match self.0 {
            Kind::Wasi(body) => body,
            Kind::Incoming(body) => body.map_err(WasiHttpError::from).boxed_unsync(),
            Kind::Lent(body) => body.map_err(WasiHttpError::from).boxed_unsync(),
            kind @ (Kind::Empty | Kind::Full(_) | Kind::Stream(_)) => Self(kind)
                .map_err(|error| WasiHttpError::InternalError(Some(error.to_string())))
                .boxed_unsync(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Kind::Empty => "empty",
            Kind::Full(_) => "full",
            Kind::Incoming(_) => "incoming",
            Kind::Lent(_) => "lent",
            Kind::Stream(_) => "stream",
            Kind::Wasi(_) => "wasi",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Incoming(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| Error::Body(Box::new(error))),
            Kind::Lent(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| Error::Body(Box::new(error))),
            Kind::Stream(body) => Pin::new(body).poll_frame(cx),
            Kind::Wasi(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| Error::Body(Box::new(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Lent(body) => body.is_end_stream(),
            Kind::Stream(body) => body.is_end_stream(),
            Kind::Wasi(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Lent(body) => body.size_hint(),
            Kind::Stream(body) => body.size_hint(),
            Kind::Wasi(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[tokio::test]
    async fn known_bytes_have_an_exact_size_and_come_in_one_frame() {
        let mut body = Body::full("hello");
        assert_eq!(body.size_hint().exact(), Some(5));
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "hello");
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert!(Body::full("").is_end_stream());
    }
}
