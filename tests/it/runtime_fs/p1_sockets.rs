//! A server of WASI 0.1: it accepts on the listener that it was given.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmorch::runtime::net::TcpListener;
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
    let peek = [5, vectors, count, 1, 0, 8];
    assert_eq!(guest.counted("sock_recv", &peek).await, Err(NOTSUP));
    let stdin = [0, vectors, count, 0, 0, 8];
    assert_eq!(guest.counted("sock_recv", &stdin).await, Err(NOTSOCK));
    assert_eq!(guest.call("fd_close", &[5]).await, SUCCESS);
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
