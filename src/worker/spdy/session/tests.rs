//! Sessions with clients that behave, and with others.

use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

use super::super::frame::{data, go_away, ping, reset};
use super::super::headers::Deflater;
use super::*;
use crate::tasks::TaskGroup;

/// A client, as wicked as a test wants it.
struct Peer {
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    folding: Deflater,
    streams: mpsc::Receiver<Stream>,
    outcome: tokio::sync::oneshot::Receiver<Result<(), Error>>,
    _session: JoinHandle<()>,
}

const SOON: Duration = Duration::from_secs(20);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.unwrap()
}

impl Peer {
    fn new(patience: Option<Duration>) -> Self {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (accept, streams) = mpsc::channel(MAX_STREAMS);
        let (told, outcome) = tokio::sync::oneshot::channel();
        let session = TaskGroup::new().spawn("session", async move {
            let _ = told.send(run(far, accept, patience).await);
        });
        let (reader, writer) = tokio::io::split(near);
        Self {
            reader,
            writer,
            folding: Deflater::new(),
            streams,
            outcome,
            _session: session,
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        within(self.writer.write_all(bytes)).await.unwrap();
    }

    fn syn(&mut self, stream: u32, flags: u8, headers: &[(&str, &str)]) -> Vec<u8> {
        let block = self.folding.block(headers);
        let mut frame = frame::control(1, &[&stream.to_be_bytes(), &[0; 6], &block]).to_vec();
        frame[4] = flags;
        frame
    }

    async fn open(&mut self, stream: u32) -> Stream {
        let syn = self.syn(stream, 0, &[("streamtype", "data")]);
        self.write(&syn).await;
        let (head, payload) = self.frame().await;
        assert!(is_control(head, Kind::SynReply), "{head:?}");
        assert_eq!(frame::stream(&payload).unwrap(), stream);
        within(self.streams.recv()).await.unwrap()
    }

    async fn frame(&mut self) -> (Head, Vec<u8>) {
        let mut head = [0; HEAD];
        within(self.reader.read_exact(&mut head)).await.unwrap();
        let head = Head::parse(head).unwrap();
        let (Head::Data { length, .. } | Head::Control { length, .. }) = head;
        let mut payload = vec![0; length];
        within(self.reader.read_exact(&mut payload)).await.unwrap();
        (head, payload)
    }

    async fn error(self) -> Error {
        within(self.outcome).await.unwrap().unwrap_err()
    }
}

fn is_control(head: Head, wanted: Kind) -> bool {
    matches!(head, Head::Control { kind, .. } if kind == wanted)
}

#[tokio::test]
async fn streams_carry_bytes_and_ends_both_ways() {
    let mut peer = Peer::new(None);
    let mut one = peer.open(1).await;
    let mut two = peer.open(3).await;
    assert_eq!(one.headers.get("streamtype"), Some("data"));
    peer.write(&data(3, b"second", true)).await;
    peer.write(&data(1, b"first", false)).await;
    assert_eq!(within(one.reader.next()).await.unwrap(), "first");
    assert_eq!(within(two.reader.next()).await.unwrap(), "second");
    assert!(within(two.reader.next()).await.is_none());
    // An end of one half leaves the other.
    assert!(two.writer.send(b"answer").await && two.writer.finish().await);
    let answer = peer.frame().await;
    assert_eq!(answer.1, b"answer");
    let (end, _) = peer.frame().await;
    assert!(matches!(
        end,
        Head::Data {
            stream: 3,
            is_last: true,
            length: 0
        }
    ));
    drop(peer.writer);
    drop(peer.reader);
    assert!(within(one.reader.next()).await.is_none());
    within(one.writer.gone()).await;
    assert!(within(peer.outcome).await.unwrap().is_ok());
}

#[tokio::test]
async fn what_is_large_comes_in_pieces() {
    let mut peer = Peer::new(None);
    let mut stream = peer.open(1).await;
    let large = vec![7; 3 << 20];
    let sent = large.clone();
    let mut writer = peer.writer;
    let sending = async move {
        writer.write_all(&data(1, &sent, true)).await.unwrap();
        writer
    };
    let reading = async {
        let mut read = Vec::new();
        while let Some(piece) = stream.reader.next().await {
            assert!(piece.len() <= PIECE);
            read.extend_from_slice(&piece);
        }
        read
    };
    let (_writer, read) = within(async { tokio::join!(sending, reading) }).await;
    assert!(read == large);
}

#[tokio::test]
async fn a_reset_ends_one_stream() {
    let mut peer = Peer::new(None);
    let mut one = peer.open(1).await;
    let mut two = peer.open(3).await;
    peer.write(&reset(1, Reason::Cancel)).await;
    assert!(within(one.reader.next()).await.is_none());
    within(one.writer.gone()).await;
    assert!(!one.writer.send(b"x").await);
    // What still comes for it is nobody's.
    peer.write(&data(1, b"late", false)).await;
    peer.write(&data(3, b"alive", false)).await;
    assert_eq!(within(two.reader.next()).await.unwrap(), "alive");
    two.writer.reset().await;
    assert!(is_control(peer.frame().await.0, Kind::Reset));
}

#[tokio::test]
async fn pings_come_back_and_unknown_frames_mean_nothing() {
    let mut peer = Peer::new(None);
    peer.write(&frame::control(4, &[&[0, 0, 0, 0]])).await;
    peer.write(&frame::control(9, &[&[0; 8]])).await;
    peer.write(&frame::control(77, &[b"whatever"])).await;
    peer.write(&ping(&[0, 0, 0, 2])).await;
    peer.write(&ping(&[0, 0, 0, 5])).await;
    let (head, id) = peer.frame().await;
    assert!(is_control(head, Kind::Ping));
    assert_eq!(id, [0, 0, 0, 5], "ours are not sent back");
    // Blocks of frames that mean nothing keep the context whole.
    let block = peer.folding.block(&[("streamtype", "data")]);
    let headers = frame::control(8, &[&[0, 0, 0, 1], &block]);
    peer.write(&headers).await;
    assert_eq!(peer.open(1).await.headers.get("streamtype"), Some("data"));
}

#[tokio::test]
async fn there_are_only_so_many_streams() {
    let mut peer = Peer::new(None);
    let mut open = Vec::new();
    for at in 0..MAX_STREAMS as u32 {
        open.push(peer.open(2 * at + 1).await);
    }
    let next = 2 * MAX_STREAMS as u32 + 1;
    let syn = peer.syn(next, 0, &[]);
    peer.write(&syn).await;
    let (head, payload) = peer.frame().await;
    assert!(is_control(head, Kind::Reset));
    assert_eq!(payload[4..], (Reason::Refused as u32).to_be_bytes());
    // Those that both sides have dropped make room.
    open.pop();
    peer.open(next + 2).await;
    let unidirectional = peer.syn(next + 4, 2, &[]);
    peer.write(&unidirectional).await;
    assert!(is_control(peer.frame().await.0, Kind::Reset));
    peer.write(&go_away(0)).await;
    open.clear();
    let late = peer.syn(next + 6, 0, &[]);
    peer.write(&late).await;
    assert!(is_control(peer.frame().await.0, Kind::Reset));
}

#[tokio::test]
async fn nobody_who_accepts_means_refused() {
    let mut peer = Peer::new(None);
    peer.streams.close();
    let syn = peer.syn(1, 0, &[]);
    peer.write(&syn).await;
    assert!(is_control(peer.frame().await.0, Kind::SynReply));
    assert!(is_control(peer.frame().await.0, Kind::Reset));
}

#[tokio::test]
async fn who_does_not_read_is_reset_and_the_others_go_on() {
    let mut peer = Peer::new(Some(Duration::from_millis(100)));
    let lazy = peer.open(1).await;
    let mut lively = peer.open(3).await;
    let piece = vec![1; PIECE];
    for _ in 0..=WAITING {
        peer.write(&data(1, &piece, false)).await;
    }
    peer.write(&data(3, b"hello", false)).await;
    assert_eq!(within(lively.reader.next()).await.unwrap(), "hello");
    within(lazy.writer.gone()).await;
    assert!(is_control(peer.frame().await.0, Kind::Reset));
}

#[tokio::test]
async fn bytes_that_nobody_reads_are_bounded_for_all_streams_together() {
    let mut peer = Peer::new(Some(Duration::from_millis(100)));
    let mut lazy = Vec::new();
    let piece = vec![1; PIECE];
    // Every stream stays below its own bound.
    for at in 0..(MAX_UNREAD / PIECE / (WAITING - 1)) as u32 + 1 {
        lazy.push(peer.open(2 * at + 1).await);
        for _ in 1..WAITING {
            // The session may have ended while this was written.
            let _ = peer
                .writer
                .write_all(&data(2 * at + 1, &piece, false))
                .await;
        }
    }
    assert!(matches!(peer.error().await, Error::Unread));
}

#[track_caller]
fn check_refused(name: &str, error: &Error, is_expected: bool) {
    assert!(is_expected, "{name}: {error}");
}

#[tokio::test]
async fn whoever_breaks_the_protocol_hears_it_and_is_cut_off() {
    let folded = |block: &[u8]| Deflater::new().raw(block);
    let bomb = folded(&vec![0; 4 << 20]);
    let syn = |id: [u8; 4], block: &[u8]| frame::control(1, &[&id, &[0; 6], block]).to_vec();
    let cases: [(&str, Vec<u8>); 10] = [
        ("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("version", vec![0x80, 2, 0, 1, 0, 0, 0, 0]),
        ("data of nobody", vec![0; 8]),
        ("too large", vec![0x80, 3, 0, 4, 0, 255, 255, 255]),
        ("short syn", frame::control(1, &[&[0, 0, 0, 1]]).to_vec()),
        ("even", syn([0, 0, 0, 2], &folded(&[0; 4]))),
        ("garbage block", syn([0, 0, 0, 1], b"garbage")),
        ("bomb", syn([0, 0, 0, 1], &bomb)),
        ("lie", syn([0, 0, 0, 1], &folded(&[255; 4]))),
        ("short ping", frame::control(6, &[&[0]]).to_vec()),
    ];
    for (name, bytes) in cases {
        let mut peer = Peer::new(None);
        // What is behind the refused frame is not read.
        let _ = peer.writer.write_all(&bytes).await;
        if name == "http" {
            // Its first bytes are the head of a long frame of data; the client goes.
            drop(peer.writer);
            drop(peer.reader);
            let error = within(peer.outcome).await.unwrap().unwrap_err();
            check_refused(name, &error, matches!(error, Error::Io(_)));
            continue;
        }
        let (head, _) = peer.frame().await;
        assert!(is_control(head, Kind::GoAway), "{name}: {head:?}");
        let error = peer.error().await;
        let is_expected = matches!(error, Error::Malformed(_) | Error::TooLarge(_));
        check_refused(name, &error, is_expected);
    }
    let mut peer = Peer::new(None);
    let _stream = peer.open(5).await;
    let back = peer.syn(3, 0, &[]);
    peer.write(&back).await;
    assert!(is_control(peer.frame().await.0, Kind::GoAway));
}

#[tokio::test]
async fn halves_of_frames_end_the_session() {
    let whole = data(1, b"abc", false);
    for end in 1..whole.len() {
        let mut peer = Peer::new(None);
        peer.write(&whole[..end]).await;
        drop(peer.writer);
        drop(peer.reader);
        assert!(within(peer.outcome).await.unwrap().is_err(), "{end}");
    }
}

/// Everything that a client may say, in one run of bytes.
fn conversation() -> Vec<u8> {
    let mut folding = Deflater::new();
    let mut bytes = Vec::new();
    for stream in [1_u32, 3] {
        let block = folding.block(&[("streamtype", "data"), ("port", "80")]);
        bytes.extend_from_slice(&frame::control(
            1,
            &[&stream.to_be_bytes(), &[0; 6], &block],
        ));
        bytes.extend_from_slice(&data(stream, b"some bytes", false));
    }
    bytes.extend_from_slice(&ping(&[0, 0, 0, 1]));
    bytes.extend_from_slice(&reset(1, Reason::Cancel));
    bytes.extend_from_slice(&data(3, b"and the end", true));
    bytes.extend_from_slice(&go_away(3));
    bytes
}

/// Says it all and hangs up; the session must end, whatever was said.
fn say(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let (mut near, far) = tokio::io::duplex(64 << 10);
        let (accept, mut streams) = mpsc::channel(MAX_STREAMS);
        let saying = async {
            // A session that has ended takes no more.
            let _ = near.write_all(bytes).await;
            let _ = near.shutdown().await;
            drop(near);
        };
        let reading = async { while streams.recv().await.is_some() {} };
        let session = run(far, accept, Some(Duration::from_millis(50)));
        let _ = within(async { tokio::join!(session, saying, reading) }).await;
    });
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn a_session_ends_with_its_client_whatever_it_says(
        at in 0_usize..200,
        with in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        drops in 0_usize..20,
    ) {
        let mut bytes = conversation();
        let at = at.min(bytes.len());
        let end = (at + drops).min(bytes.len());
        bytes.splice(at..end, with);
        say(&bytes);
    }
}
