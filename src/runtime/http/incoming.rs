//! A handler behind a byte stream: for whoever has a connection and not a request.
//!
//! The handler's port in its pod is served this way (other containers, probes, port-forward, TCP
//! through the router), HTTP/1.1 and HTTP/2 without TLS by the first bytes. Bounds are hyper's, set
//! here: time for a head, size of a head, streams of a connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio_util::sync::CancellationToken;

use super::{Body, Handler, Unread};
use crate::runtime::guests::Guests;
use crate::runtime::net::{Conn, ConnService};
use crate::tasks::TaskGroup;

/// A client must have sent a request's head after this; also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD: usize = 64 << 10;
const MAX_STREAMS: u32 = 100;

/// Serves one connection to its end; `stopped` lets it finish what it has begun.
pub(in crate::runtime) async fn serve(
    conn: Conn,
    handler: Arc<Handler>,
    tasks: TaskGroup,
    stopped: CancellationToken,
) {
    let mut server = auto::Builder::new(tasks.executor("handler stream"));
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(MAX_STREAMS);
    let unread = Arc::new(Unread::default());
    let lender = Arc::clone(&unread);
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let handler = Arc::clone(&handler);
        let is_alone = request.version() < http::Version::HTTP_2;
        let request = request.map(|body| {
            if is_alone {
                lender.lend(body)
            } else {
                Body::incoming(body)
            }
        });
        async move {
            let answered = handler.call(request).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|error| error.response()))
        }
    });
    let mut connection = pin!(server.serve_connection(TokioIo::new(conn), service));
    let serving = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stopped.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    let ended = tokio::select! {
        ended = serving => ended,
        () = unread.read() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(error, "connection to a handler");
    }
}

/// A handler as a listener of its pod.
pub(in crate::runtime) struct Port {
    pub(in crate::runtime) handler: Arc<Handler>,
    pub(in crate::runtime) guests: Guests,
    pub(in crate::runtime) stopped: CancellationToken,
}

impl ConnService for Port {
    fn accept(&self, conn: Conn) {
        let serving = serve(
            conn,
            Arc::clone(&self.handler),
            self.guests.tasks().clone(),
            self.stopped.clone(),
        );
        self.guests.spawn("handler connection", serving);
    }
}
