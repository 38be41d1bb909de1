//! What a guest leaves of a request's body.
//!
//! A connection of HTTP/1.1 can take the next request only when the last one has been read to its
//! end. A guest that answers without reading drops the body; hyper then closes the connection after
//! the answer, which the answer does not say. A client that keeps the connection, as routers and
//! workers do, would see it break under its next request, and could not tell whether that one was
//! served. So bodies are only lent: what comes back unread is read here, by the connection's own
//! task, beside the answer. There is an end to that, in bytes and in time, after which hyper closes.
//!
//! HTTP/2 resets one stream and needs none of this.
//!
//! A guest that calls has the same trouble from its side: whoever takes its body may be done with it
//! early (the callee does not read it, the length says that there is nothing, nobody can be asked),
//! and then the guest's stream breaks under its hands, perhaps before it has looked for its answer. So
//! what is left of a guest's body is read, by a task if it is not there yet ([`Offered`]).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use wasmtime_wasi_http::{Error as WasiHttpError, WasiBody};

use super::Body;
use crate::tasks::TaskGroup;

/// Bytes that are read for nobody.
const MOST: usize = 16 << 20;
/// How long a client has for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The unread bodies of one connection: one at a time, as requests are.
#[derive(Default)]
pub struct Unread(Arc<Returned>);

#[derive(Default)]
struct Returned {
    body: Mutex<Option<Incoming>>,
    came: Notify,
}

impl Unread {
    /// Lends a request's body to whoever answers it.
    pub fn lend(&self, body: Incoming) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::lent(Lent {
            body: Some(body),
            owner: Arc::clone(&self.0),
        })
    }

    /// Reads what comes back; runs beside the connection and never ends.
    pub async fn read(&self) {
        loop {
            self.0.came.notified().await;
            let body = self.0.take();
            if let Some(body) = body {
                skip(body).await;
            }
        }
    }
}

impl Returned {
    fn take(&self) -> Option<Incoming> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.take()
    }

    fn put(&self, unread: Incoming) {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        let older = body.replace(unread);
        drop(body);
        drop(older);
        self.came.notify_one();
    }
}

/// Reads a body for nobody. One that is dropped unfinished breaks its sender off.
async fn skip(mut body: impl http_body::Body<Data = Bytes> + Unpin) {
    let skipping = async {
        let mut skipped = 0;
        while let Some(Ok(frame)) = body.frame().await {
            skipped += frame.data_ref().map_or(0, Bytes::len);
            if skipped > MOST {
                return;
            }
        }
    };
    // Late or not, there is nothing more to do.
    let _ = tokio::time::timeout(PATIENCE, skipping).await;
}

/// A body that goes back if it is not read to its end.
pub(super) struct Lent {
    body: Option<Incoming>,
    owner: Arc<Returned>,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            self.owner.put(body);
        }
    }
}

/// A guest's body on its way out.
pub(super) struct Offered {
    body: Option<WasiBody>,
    tasks: TaskGroup,
}

impl Offered {
    pub(super) fn new(body: WasiBody, tasks: TaskGroup) -> Self {
        Self {
            body: Some(body),
            tasks,
        }
    }
}

impl http_body::Body for Offered {
    type Data = Bytes;
    type Error = WasiHttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiHttpError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(WasiBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        // Most often the guest has said all, and nobody has asked it whether that was all.
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(None | Some(Err(_))) = Pin::new(&mut body).poll_frame(&mut nobody) {
            return;
        }
        // At the very end of the process there may be nobody left to run it.
        if Handle::try_current().is_ok() {
            self.tasks.spawn_contained("rest of a request", skip(body));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Serves a connection whose handler reads no bodies; gives the client's end.
    fn serve(tasks: &TaskGroup) -> tokio::io::DuplexStream {
        let (client, server) = tokio::io::duplex(64 << 10);
        tasks.spawn("server", async move {
            let unread = Arc::new(Unread::default());
            let lender = Arc::clone(&unread);
            let service = service_fn(move |request: http::Request<Incoming>| {
                drop(lender.lend(request.into_body()));
                async { Ok::<_, Infallible>(http::Response::new(Body::full("done"))) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(server), service);
            tokio::select! {
                _ = connection => {}
                () = unread.read() => {}
            }
        });
        client
    }

    async fn answer(client: &mut tokio::io::DuplexStream) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"done") {
            let read = client.read_buf(&mut answer).await.unwrap();
            assert_ne!(read, 0, "closed");
        }
        String::from_utf8(answer).unwrap()
    }

    /// What the client sends after it has its answer must not break the next request.
    #[tokio::test]
    async fn a_connection_outlives_a_body_that_nobody_reads() {
        let tasks = TaskGroup::new();
        let mut client = serve(&tasks);
        for (head, rest) in [
            ("transfer-encoding: chunked", "0\r\n\r\n"),
            (
                "transfer-encoding: chunked",
                "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            ),
            ("content-length: 5", "abcde"),
            ("content-length: 0", ""),
        ] {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            let answer = answer(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            client.write_all(rest.as_bytes()).await.unwrap();
        }
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        answer(&mut client).await;
    }

    #[tokio::test]
    async fn a_caller_can_send_to_the_end_although_nobody_reads() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let frames = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let frames = futures::StreamExt::map(frames, Ok::<_, WasiHttpError>);
        let body = http_body_util::StreamBody::new(frames).boxed_unsync();
        drop(Offered::new(body, TaskGroup::new()));
        for _ in 0..10 {
            let frame = Frame::data(Bytes::from_static(b"x"));
            sender.send(frame).await.unwrap();
        }
    }
}
