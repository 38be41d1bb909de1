//! The guest's ends of streams and futures, held by a test.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use wasmtime::component::{
    Destination, FutureConsumer, FutureReader, Resource, Source, StreamConsumer, StreamProducer,
    StreamReader, StreamResult, VecBuffer,
};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::p3::bindings::sockets::types::{HostTcpSocketWithStore as _, TcpSocket};

use super::super::stream::Outcome;
use super::tcp::tcp;
use super::{Face, Guest, HasNet, code, settle};

type Ready = Poll<wasmtime::Result<StreamResult>>;

/// What a future has told.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Option<Outcome>>>);

impl Told {
    pub(super) fn word(&self) -> &'static str {
        match &*self.0.lock().unwrap() {
            None => "open",
            Some(Ok(())) => "ok",
            Some(Err(error)) => code(error),
        }
    }
}

impl FutureConsumer<Guest> for Told {
    type Item = Outcome;

    fn poll_consume(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        store: StoreContextMut<Guest>,
        mut source: Source<'_, Outcome>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut told = None;
        source.read(store, &mut told)?;
        *self.0.lock().unwrap() = told;
        Poll::Ready(Ok(()))
    }
}

pub(super) fn told(face: &Face, future: FutureReader<Outcome>) -> Told {
    let told = Told::default();
    face.with(|access| future.pipe(access, told.clone()).unwrap());
    told
}

/// What the guest writes into a stream; dropping it closes the stream.
pub(super) type Feed = mpsc::UnboundedSender<Vec<u8>>;

struct Fed(mpsc::UnboundedReceiver<Vec<u8>>);

impl StreamProducer<Guest> for Fed {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _store: StoreContextMut<'a, Guest>,
        mut destination: Destination<'a, u8, VecBuffer<u8>>,
        _finish: bool,
    ) -> Ready {
        self.0.poll_recv(cx).map(|data| match data {
            Some(data) => {
                destination.set_buffer(data.into());
                Ok(StreamResult::Completed)
            }
            None => Ok(StreamResult::Dropped),
        })
    }
}

pub(super) fn feed(face: &Face) -> (Feed, StreamReader<u8>) {
    let (feed, fed) = mpsc::unbounded_channel();
    let data = face.with(|access| StreamReader::new(access, Fed(fed)).unwrap());
    (feed, data)
}

/// What came out of a stream of bytes, and whether it has ended.
#[derive(Default)]
pub(super) struct Bytes {
    pub(super) read: usize,
    pub(super) has_ended: bool,
}

struct Taking(Arc<Mutex<Bytes>>);

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.lock().unwrap().has_ended = true;
    }
}

impl StreamConsumer<Guest> for Taking {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        store: StoreContextMut<Guest>,
        source: Source<u8>,
        _finish: bool,
    ) -> Ready {
        let mut source = source.as_direct(store);
        let length = source.remaining().len();
        source.mark_read(length);
        self.0.lock().unwrap().read += length;
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// A direction that the guest reads.
pub(super) struct Received {
    pub(super) bytes: Arc<Mutex<Bytes>>,
    pub(super) told: Told,
}

impl Received {
    /// How it has ended, and that its stream has too if it has.
    pub(super) async fn told_by_now(self) -> &'static str {
        settle().await;
        let word = self.told.word();
        let has_ended = self.bytes.lock().unwrap().has_ended;
        assert_eq!(has_ended, word != "open", "{word}");
        word
    }
}

/// Receives, and reads all that comes.
pub(super) fn receive(face: &Face, this: u32) -> Received {
    let (data, ended) = face.with(|access| HasNet::receive(access, tcp(this)).unwrap());
    let bytes = Arc::<Mutex<Bytes>>::default();
    let taking = Taking(Arc::clone(&bytes));
    face.with(|access| data.pipe(access, taking).unwrap());
    let told = told(face, ended);
    Received { bytes, told }
}

/// Receives, and drops the stream unread.
pub(super) fn receive_nothing(face: &Face, this: u32) -> Told {
    let (mut data, ended) = face.with(|access| HasNet::receive(access, tcp(this)).unwrap());
    data.close_with(face).unwrap();
    told(face, ended)
}

struct Accepting(mpsc::UnboundedSender<u32>);

impl StreamConsumer<Guest> for Accepting {
    type Item = Resource<TcpSocket>;

    fn poll_consume(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut store: StoreContextMut<Guest>,
        mut source: Source<Self::Item>,
        _finish: bool,
    ) -> Ready {
        let mut accepted = None::<Resource<TcpSocket>>;
        source.read(store.as_context_mut(), &mut accepted)?;
        if let Some(accepted) = accepted {
            // The test may have gone.
            let _ = self.0.send(accepted.rep());
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// Takes the sockets of a listener as they come; ends when their stream does.
pub(super) fn accept(
    face: &Face,
    stream: StreamReader<Resource<TcpSocket>>,
) -> mpsc::UnboundedReceiver<u32> {
    let (sender, accepted) = mpsc::unbounded_channel();
    face.with(|access| stream.pipe(access, Accepting(sender)).unwrap());
    accepted
}
