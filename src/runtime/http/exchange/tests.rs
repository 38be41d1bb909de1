//! What `exchange` promises, case by case.

use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::Error as WasiHttpError;

use super::super::in_flight::InFlight;
use super::*;
use crate::runtime::budget::Budget;
use crate::runtime::guests::Guests;
use crate::runtime::spec::{LogSink, LogStream};
use crate::runtime::ticker::Ticker;
use crate::tasks::TaskGroup;

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _stream: LogStream, _chunk: &[u8]) {}
}

type Sender = mpsc::Sender<Result<Frame<Bytes>, WasiHttpError>>;

struct Bench {
    in_flight: Arc<InFlight>,
    killed: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        let killed = CancellationToken::new();
        let ticker = Ticker::start(Duration::from_millis(5)).unwrap();
        let guests = Guests::start(1, ticker.presence(), TaskGroup::new()).unwrap();
        Self {
            in_flight: InFlight::new(Budget::new(10), killed.clone(), guests, Arc::new(Nowhere)),
            killed,
        }
    }

    /// Lets `guest` write a body of 200.
    async fn respond<F>(
        &self,
        patience: Duration,
        guest: impl FnOnce(Sender) -> F,
    ) -> Result<http::Response<Body>, Error>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (sender, mut chunks) = mpsc::channel(1);
        let body = StreamBody::new(futures::stream::poll_fn(move |cx| chunks.poll_recv(cx)));
        let (head, head_set) = oneshot::channel::<Head>();
        let response = http::Response::new(body.boxed_unsync());
        assert!(head.send(Ok(response)).is_ok());
        let request = self
            .in_flight
            .admit(&http::Request::new(Body::empty()))
            .unwrap();
        let (ended, _) = oneshot::channel();
        Exchange::new(Box::pin(guest(sender)), ended, patience, request)
            .respond(head_set)
            .await
    }
}

const LONG: Duration = Duration::from_mins(1);

async fn write(sender: &Sender, chunk: &'static str) -> Result<(), Error> {
    let frame = Frame::data(Bytes::from_static(chunk.as_bytes()));
    sender
        .send(Ok(frame))
        .await
        .map_err(|error| Error::Body(Box::new(error)))
}

#[tokio::test]
async fn what_needs_no_waiting_is_sent_with_its_length() {
    let bench = Bench::new();
    let guest = async |sender: Sender| {
        write(&sender, "one ").await?;
        write(&sender, "two").await
    };
    let response = bench.respond(LONG, |sender| Box::pin(guest(sender))).await;
    let body = response.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(7));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "one two");
    assert_eq!(bench.in_flight.counts(), (0, 1, 0));
}

#[tokio::test]
async fn a_guest_that_waits_streams_and_a_trap_breaks_the_body_off() {
    let bench = Bench::new();
    let (resume, resumed) = oneshot::channel::<()>();
    let guest = async |sender: Sender| {
        write(&sender, "one").await?;
        let _ = resumed.await;
        write(&sender, "two").await?;
        tokio::task::yield_now().await;
        Err(Error::Trap("unreachable".to_owned()))
    };
    let response = bench.respond(LONG, |sender| Box::pin(guest(sender))).await;
    let mut body = response.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), None);
    let mut next = async || body.frame().await.unwrap();
    assert_eq!(next().await.unwrap().into_data().unwrap(), "one");
    resume.send(()).unwrap();
    assert_eq!(next().await.unwrap().into_data().unwrap(), "two");
    assert!(next().await.is_err());
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(bench.in_flight.counts(), (0, 1, 1));
}

#[tokio::test]
async fn a_dropped_body_ends_the_guest_and_a_kill_or_silence_ends_the_body() {
    let bench = Bench::new();
    let stuck = |sender: Sender| {
        Box::pin(async move {
            write(&sender, "one").await?;
            std::future::pending().await
        })
    };
    let response = bench.respond(LONG, stuck).await.unwrap();
    assert_eq!(bench.in_flight.counts().0, 1);
    drop(response);
    assert_eq!(bench.in_flight.counts(), (0, 1, 0));

    let response = bench.respond(Duration::from_millis(1), stuck).await;
    assert!(response.unwrap().into_body().collect().await.is_err());

    let response = bench.respond(LONG, stuck).await.unwrap();
    bench.killed.cancel();
    assert!(response.into_body().collect().await.is_err());
    bench.in_flight.drain().await;
}
