//! How the streams of a connection end, who outlives whom, and what is left of what was given up.

use tokio::sync::mpsc::error::TryRecvError;
use wasmtime::AsContextMut as _;
use wasmtime_wasi::p3::bindings::sockets::types::HostTcpSocket as _;

use super::tcp::{bind, call_tcp, connect, drop_tcp, listen, new_tcp, send, tcp, way_to};
use super::*;
use crate::runtime::net::{Conn, Error, Shutdown};

/// A connected socket and its peer.
async fn connected(face: &Face) -> (u32, Conn) {
    let this = new_tcp(face, IpAddressFamily::Ipv4);
    assert_eq!(connect(face, this, SERVER).await, "ok");
    let server = face.with(|mut access| Arc::clone(&access.as_context_mut().data().server));
    (this, server.try_accept().unwrap())
}

// What happens; the bytes that the guest reads, how that ends, what a write comes to, and what it comes
// to when the guest has closed its stream.
const ENDS: &str = "
              read receive write closed
 nothing      0    open    open   ok
 data         4    open    open   ok
 finish       0    ok      open   ok
 data-finish  4    ok      open   ok
 deaf         0    open    open   ok
 close        0    ok      broken broken
 data-close   4    ok      broken broken
 reset        0    reset   reset  reset
 data-reset   4    reset   reset  reset
 death        0    reset   reset  reset
";

#[tokio::test]
async fn streams_end_as_the_peer_ends_them() {
    for (event, column, expected) in cells(ENDS) {
        let got = play(async |face| {
            let (this, peer) = connected(face).await;
            let received = ends::receive(face, this);
            let (feed, sent) = send(face, this);
            if event.starts_with("data") {
                peer.try_write(b"data").unwrap();
            }
            let mut peer = Some(peer);
            match event.trim_start_matches("data").trim_start_matches('-') {
                "" | "nothing" => {}
                "finish" => peer.as_ref().unwrap().shutdown(Shutdown::Send),
                "deaf" => peer.as_ref().unwrap().shutdown(Shutdown::Receive),
                "close" => peer = None,
                "reset" => peer.as_ref().unwrap().reset(),
                "death" => face.with(|mut access| {
                    access.as_context_mut().data_mut().container = Incarnation::new();
                }),
                other => panic!("{other}"),
            }
            feed.send(b"out".to_vec()).unwrap();
            settle().await;
            let got = match column {
                "read" => received.bytes.lock().unwrap().read.to_string(),
                "receive" => received.told_by_now().await.to_owned(),
                "write" => sent.word().to_owned(),
                _ => {
                    drop(feed);
                    settle().await;
                    sent.word().to_owned()
                }
            };
            drop(peer);
            got
        });
        assert_eq!(got.await, expected, "{column} after {event}");
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_its_direction_only() {
    play(async |face| {
        let (this, peer) = connected(face).await;
        peer.try_write(b"unread").unwrap();
        let told = ends::receive_nothing(face, this);
        let (feed, sent) = send(face, this);
        settle().await;
        assert_eq!(told.word(), "ok");
        assert_eq!(peer.try_write(b"discarded"), Ok(9));
        feed.send(b"still".to_vec()).unwrap();
        settle().await;
        assert_eq!(peer.try_read_vec(9).unwrap(), b"still");
        drop(feed);
        settle().await;
        assert_eq!(sent.word(), "ok");
        assert_eq!(peer.try_read_vec(9).unwrap(), b"", "the end, and no reset");
    })
    .await;
    play(async |face| {
        let (this, peer) = connected(face).await;
        let (feed, sent) = send(face, this);
        feed.send(b"all".to_vec()).unwrap();
        drop(feed);
        let received = ends::receive(face, this);
        settle().await;
        assert_eq!(sent.word(), "ok");
        assert_eq!(peer.try_read_vec(9).unwrap(), b"all");
        assert_eq!(peer.try_read_vec(9).unwrap(), b"");
        peer.try_write(b"answer").unwrap();
        settle().await;
        assert_eq!(received.bytes.lock().unwrap().read, 6);
        assert_eq!(received.told_by_now().await, "open");
    })
    .await;
}

#[tokio::test]
async fn streams_outlive_their_socket_and_the_last_closes_it() {
    play(async |face| {
        let (this, peer) = connected(face).await;
        let received = ends::receive(face, this);
        let (feed, sent) = send(face, this);
        drop_tcp(face, this);
        feed.send(b"out".to_vec()).unwrap();
        peer.try_write(b"in").unwrap();
        settle().await;
        assert_eq!(peer.try_read_vec(9).unwrap(), b"out");
        assert_eq!(received.bytes.lock().unwrap().read, 2);
        drop(feed);
        settle().await;
        assert_eq!(sent.word(), "ok");
        assert_eq!(peer.try_write(b"x"), Ok(1), "one direction is still there");
        peer.shutdown(Shutdown::Send);
        settle().await;
        assert_eq!(received.told_by_now().await, "ok");
        assert_eq!(peer.try_write(b"x"), Err(Error::BrokenPipe));
    })
    .await;
}

#[tokio::test]
async fn a_socket_dropped_without_streams_closes_its_connection() {
    play(async |face| {
        let (this, peer) = connected(face).await;
        drop_tcp(face, this);
        assert_eq!(peer.try_read_vec(9).unwrap(), b"");
        let (this, peer) = connected(face).await;
        peer.try_write(b"unread").unwrap();
        drop_tcp(face, this);
        assert_eq!(peer.try_read_vec(9), Err(Error::ConnectionReset));
    })
    .await;
}

#[tokio::test]
async fn more_than_fits_is_sent_when_there_is_room() {
    play(async |face| {
        let (this, peer) = connected(face).await;
        let (feed, sent) = send(face, this);
        let mut left = 1 << 20;
        feed.send(vec![7; left]).unwrap();
        drop(feed);
        settle().await;
        assert_eq!(sent.word(), "open");
        while left > 0 {
            settle().await;
            let read = peer.try_read_vec(1 << 20).unwrap().len();
            assert!(read < 1 << 20, "what waits is bounded");
            left -= read;
        }
        settle().await;
        assert_eq!(sent.word(), "ok");
    })
    .await;
}

#[tokio::test]
async fn a_listener_lives_as_long_as_its_stream() {
    play(async |face| {
        let this = new_tcp(face, IpAddressFamily::Ipv4);
        assert_eq!(bind(face, this, "127.0.0.1:81"), "ok");
        with(face, |view| view.set_hop_limit(tcp(this), 9)).unwrap();
        let mut accepted = ends::accept(face, listen(face, this).unwrap());
        settle().await;
        assert_eq!(accepted.try_recv(), Err(TryRecvError::Empty));
        drop_tcp(face, this);
        let client = new_tcp(face, IpAddressFamily::Ipv4);
        assert_eq!(connect(face, client, "127.0.0.1:81").await, "ok");
        settle().await;
        let server = accepted.try_recv().unwrap();
        assert_eq!(
            with(face, |view| view.get_hop_limit(tcp(server))).unwrap(),
            9
        );
        assert_eq!(call_tcp(face, server, "receive").await, "open");
        assert_eq!(call_tcp(face, server, "send").await, "ok");
        face.with(|mut access| {
            access.as_context_mut().data_mut().container = Incarnation::new();
        });
        settle().await;
        assert_eq!(accepted.try_recv(), Err(TryRecvError::Disconnected));
    })
    .await;
    play(async |face| {
        let this = new_tcp(face, IpAddressFamily::Ipv4);
        assert_eq!(bind(face, this, "127.0.0.1:81"), "ok");
        let mut stream = listen(face, this).unwrap();
        face.with(|access| stream.close(access)).unwrap();
        settle().await;
        let client = new_tcp(face, IpAddressFamily::Ipv4);
        assert_eq!(
            connect(face, client, "127.0.0.1:81").await,
            "ok",
            "it waits"
        );
        drop_tcp(face, this);
        let client = new_tcp(face, IpAddressFamily::Ipv4);
        assert_eq!(connect(face, client, "127.0.0.1:81").await, "refused");
    })
    .await;
}

#[tokio::test]
async fn a_connect_that_was_given_up_leaves_nothing() {
    play(async |face| {
        let net = face.with(|mut access| Arc::clone(&access.as_context_mut().data().net));
        let before = net.sockets();
        let this = new_tcp(face, IpAddressFamily::Ipv4);
        for (method, answer) in way_to("leaving") {
            assert_eq!(call_tcp(face, this, method).await, *answer);
        }
        drop_tcp(face, this);
        // At once, as `close` frees a port.
        let next = new_tcp(face, IpAddressFamily::Ipv4);
        assert_eq!(call_tcp(face, next, "bind-pod").await, "ok");
        drop_tcp(face, next);
        assert_eq!(net.sockets(), before);
    })
    .await;
}
