//! A server of WASI 0.1: it accepts on the listener that it was given.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmorch::runtime::net::{Shutdown, TcpListener};
use wasmorch::runtime::spec::{PortSpec, Protocol};
use wasmorch::runtime::wasi::p1::{self, Config};

use super::guest::*;
use super::world::World;

/// A guest with one listener on port 8080, and the network it is in.
async fn server() -> (Guest, World) {
    let world = World::new();
    let ports = [PortSpec {
        port: 8080,
        protocol: Protocol::Tcp,
    }];
    let listeners: Vec<Arc<TcpListener>> =
        p1::listen(&world.net, world.container.owner(), &ports).unwrap();
    let config = Config {
        listeners,
        ..config(super::root())
    };
    (Guest::new(config).await, world)
}

#[tokio::test]
async fn a_program_serves_on_the_listener_it_was_given() {
    let (mut guest, world) = server().await;
    assert_eq!(guest.call("environ_get", &[0, 1000]).await, SUCCESS);
    let env = String::from_utf8(guest.bytes(1000, 60)).unwrap();
    assert!(
        env.contains("LISTEN_FDS=1\0WASMORCH_LISTEN_FD_8080=4\0"),
        "{env:?}"
    );
    assert_eq!(guest.call("fd_fdstat_get", &[4, 0]).await, SUCCESS);
    assert_eq!(guest.bytes(0, 1), [6]);
    assert_eq!(guest.call("fd_prestat_get", &[4, 0]).await, BADF);
    assert_eq!(
        guest.call("fd_fdstat_set_flags", &[4, NONBLOCK]).await,
        SUCCESS
    );
    assert_eq!(guest.call("sock_accept", &[4, 0, 0]).await, AGAIN);
    assert_eq!(guest.call("sock_accept", &[3, 0, 0]).await, NOTSOCK);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[4, 0]).await, SUCCESS);

    let mut client = world.net.dial(8080).unwrap();
    assert_eq!(guest.poll(&[(1, 4)]).await, Ok(vec![0]));
    assert_eq!(guest.call("sock_accept", &[4, NONBLOCK, 0]).await, SUCCESS);
    assert_eq!(guest.u32(0), 5);
    assert_eq!(guest.read(5, 10).await, Err(AGAIN));
    client.write_all(b"request").await.unwrap();
    assert_eq!(guest.poll(&[(1, 5), (2, 5)]).await, Ok(vec![0, 1]));
    assert_eq!(guest.read(5, 20).await.as_deref(), Ok("request"));
    assert_eq!(guest.write(5, "answer").await, Ok(6));
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");

    guest.put(DATA, b"more");
    let [vectors, count] = guest.vector(&[4]);
    let send = [5, vectors, count, 0, 0];
    assert_eq!(guest.counted("sock_send", &send).await, Ok(4));
    assert_eq!(guest.call("sock_shutdown", &[5, 2]).await, SUCCESS);
    assert_eq!(guest.call("sock_shutdown", &[5, 0]).await, INVAL);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"more");
    assert_eq!(guest.counted("sock_send", &send).await, Err(PIPE));
    client.write_all(b"x").await.unwrap();
    drop(client);
    let receive = [5, vectors, count, 0, 0, 8];
    assert_eq!(guest.counted("sock_recv", &receive).await, Ok(1));
    assert_eq!(guest.counted("sock_recv", &receive).await, Ok(0));
    for (flags, errno) in [(1 | 2, NOTSUP), (4, INVAL)] {
        let unknown = [5, vectors, count, flags, 0, 8];
        assert_eq!(guest.counted("sock_recv", &unknown).await, Err(errno));
    }
    let stdin = [0, vectors, count, 0, 0, 8];
    assert_eq!(guest.counted("sock_recv", &stdin).await, Err(NOTSOCK));
    assert_eq!(guest.call("fd_close", &[5]).await, SUCCESS);
}

#[tokio::test]
async fn a_receive_may_peek_and_may_wait_for_all() {
    const PEEK: i64 = 1;
    const ALL: i64 = 2;
    let (mut guest, world) = server().await;
    let mut client = world.net.dial(8080).unwrap();
    assert_eq!(guest.call("sock_accept", &[4, 0, 0]).await, SUCCESS);
    client.write_all(b"abc").await.unwrap();
    let [vectors, count] = guest.vector(&[2, 4]);
    let receive = move |flags| [5, vectors, count, flags, 0, 8];
    for _ in 0..2 {
        let peeked = guest.counted("sock_recv", &receive(PEEK)).await;
        assert_eq!((peeked, guest.bytes(DATA, 3)), (Ok(3), b"abc".to_vec()));
    }
    let rest = async {
        tokio::task::yield_now().await;
        client.write_all(b"de").await.unwrap();
        tokio::task::yield_now().await;
        client.write_all(b"fgh").await.unwrap();
    };
    let arguments = receive(ALL);
    let (all, ()) = tokio::join!(guest.counted("sock_recv", &arguments), rest);
    assert_eq!((all, guest.bytes(DATA, 6)), (Ok(6), b"abcdef".to_vec()));
    // What is there, for who does not want to wait; then nothing; then the end.
    assert_eq!(
        guest.call("fd_fdstat_set_flags", &[5, NONBLOCK]).await,
        SUCCESS
    );
    assert_eq!(guest.counted("sock_recv", &receive(ALL)).await, Ok(2));
    assert_eq!(guest.counted("sock_recv", &receive(ALL)).await, Err(AGAIN));
    assert_eq!(guest.counted("sock_recv", &receive(PEEK)).await, Err(AGAIN));
    client.write_all(b"i").await.unwrap();
    client.shutdown(Shutdown::Send);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[5, 0]).await, SUCCESS);
    assert_eq!(guest.counted("sock_recv", &receive(ALL)).await, Ok(1));
    assert_eq!(guest.counted("sock_recv", &receive(PEEK)).await, Ok(0));
}

#[tokio::test]
async fn a_blocking_accept_waits_for_a_client() {
    let (mut guest, world) = server().await;
    let accept = guest.call("sock_accept", &[4, 0, 0]);
    let dial = async {
        tokio::task::yield_now().await;
        world.net.dial(8080).unwrap()
    };
    let (errno, client) = tokio::join!(accept, dial);
    assert_eq!(errno, SUCCESS);
    drop(client);
    assert_eq!(guest.read(5, 1).await.as_deref(), Ok(""));
}
