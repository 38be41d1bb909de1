//! Every method of a socket of 0.3 in every state, as the interfaces document it, and what its
//! streams and futures come to.
//!
//! The faces are called as a component's bindings call them; the other ends of streams and futures are
//! held by the test (`ends`). In the tables, a row is a state and a word an answer: `ok`, `state` for
//! `invalid-state`, `arg` for `invalid-argument`, `open` for what has not ended.

mod ends;
mod streams;
mod tcp;
mod udp;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures::FutureExt as _;
use wasmtime::component::{Accessor, Resource, ResourceTable, StreamReader};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p3::bindings::sockets::types::{
    ErrorCode, IpAddressFamily, TcpSocket, UdpSocket,
};
use wasmtime_wasi::p3::sockets::SocketResult;

use super::{HasNet, NetView};
use crate::runtime::net::{self, Family, Incarnation, PodNet, TcpListener};

/// A container in a pod in which something listens on 127.0.0.1:80.
struct Guest {
    net: Arc<PodNet>,
    container: Incarnation,
    table: ResourceTable,
    server: Arc<TcpListener>,
    /// Holds the server, which is another container's.
    _other: (net::TcpSocket, Incarnation),
}

type Face = Accessor<Guest, HasNet>;

/// A pod of another worker that never answers.
const SILENT: &str = "10.64.9.9:6";
const SERVER: &str = "127.0.0.1:80";

impl Guest {
    fn new() -> Self {
        let (net, container) = net::pod();
        let other = Incarnation::new();
        let mut server = net::TcpSocket::new(&net, other.owner(), Family::V4).unwrap();
        server.bind(at(SERVER)).unwrap();
        Self {
            server: server.listen().unwrap(),
            net,
            container,
            table: ResourceTable::new(),
            _other: (server, other),
        }
    }
}

fn view(guest: &mut Guest) -> NetView<'_> {
    NetView {
        net: &guest.net,
        owner: guest.container.owner(),
        table: &mut guest.table,
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Runs a test in a store of its own.
async fn play<R>(test: impl AsyncFnOnce(&Face) -> R) -> R {
    let mut store = Store::new(&Engine::default(), Guest::new());
    let played = store.run_concurrent(async |accessor| {
        let face = accessor.with_getter::<HasNet>(view);
        test(&face).await
    });
    let bound = std::time::Duration::from_secs(10);
    tokio::time::timeout(bound, played).await.unwrap().unwrap()
}

/// Lets everything happen that can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn code(error: &ErrorCode) -> &'static str {
    match error {
        ErrorCode::InvalidState => "state",
        ErrorCode::InvalidArgument => "arg",
        ErrorCode::ConnectionRefused => "refused",
        ErrorCode::ConnectionReset => "reset",
        ErrorCode::ConnectionBroken => "broken",
        ErrorCode::AddressInUse => "in-use",
        ErrorCode::AddressNotBindable => "not-bindable",
        ErrorCode::DatagramTooLarge => "too-large",
        ErrorCode::AccessDenied => "denied",
        other => panic!("{other:?}"),
    }
}

fn word<T>(answer: SocketResult<T>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(error) => code(&error.downcast().unwrap()),
    }
}

/// The one answer of many methods.
fn all<const N: usize>(answers: [&'static str; N]) -> &'static str {
    assert!(
        answers.iter().all(|word| *word == answers[0]),
        "{answers:?}"
    );
    answers[0]
}

/// What an asynchronous function has come to when nothing more can happen; `open` gives it up.
async fn outcome<T>(call: impl Future<Output = SocketResult<T>>) -> &'static str {
    let mut call = pin!(call);
    for _ in 0..20 {
        let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        if let Poll::Ready(answer) = polled {
            return word(answer);
        }
        tokio::task::yield_now().await;
    }
    "open"
}

fn with<R>(face: &Face, call: impl FnOnce(&mut NetView<'_>) -> R) -> R {
    face.with(|mut access| call(&mut access.get()))
}

/// Rows of a table: the first word, and the others under the words of the first row.
fn cells(table: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut lines = table.lines().filter(|line| !line.trim().is_empty());
    let methods: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    lines.flat_map(move |line| {
        let mut words = line.split_whitespace();
        let state = words.next().unwrap();
        let answers: Vec<&str> = words.collect();
        assert_eq!(answers.len(), methods.len(), "{line}");
        let cells = methods.clone().into_iter().zip(answers);
        cells.map(move |(method, answer)| (state, method, answer))
    })
}

/// An address for sockets of the families 4 and 6.
const ADDRESSES: &str = "
                            bind4        bind6        connect4 connect6 udp-bind4    udp-bind6    udp4 udp6
 127.0.0.1:5000             ok           arg          refused  arg      ok           arg          ok   arg
 127.0.0.1:80               in-use       arg          ok       arg      ok           arg          ok   arg
 127.0.0.1:0                ok           arg          arg      arg      ok           arg          arg  arg
 0.0.0.0:5000               ok           arg          arg      arg      ok           arg          arg  arg
 [::]:80                    arg          ok           arg      arg      arg          ok           arg  arg
 [::1]:80                   arg          ok           arg      refused  arg          ok           arg  ok
 [::ffff:127.0.0.1]:80      arg          arg          arg      arg      arg          arg          arg  arg
 [::127.0.0.1]:80           arg          arg          arg      arg      arg          arg          arg  arg
 224.0.0.1:80               arg          arg          arg      arg      not-bindable arg          ok   arg
 255.255.255.255:80         arg          arg          arg      arg      not-bindable arg          ok   arg
 [ff02::1]:80               arg          arg          arg      arg      arg          not-bindable arg  ok
 192.0.2.1:80               not-bindable arg          denied   arg      not-bindable arg          ok   arg
 [2001:db8::1]:80           arg          not-bindable arg      denied   arg          not-bindable arg  ok
";

#[tokio::test]
async fn addresses_are_checked_as_documented() {
    for (address, method, expected) in cells(ADDRESSES) {
        let families = [IpAddressFamily::Ipv6, IpAddressFamily::Ipv4];
        let family = families[usize::from(method.ends_with('4'))];
        let answer = play(async |face| match method.trim_end_matches(['4', '6']) {
            "bind" => tcp::bind(face, tcp::new_tcp(face, family), address),
            "connect" => tcp::connect(face, tcp::new_tcp(face, family), address).await,
            "udp-bind" => udp::bind(face, udp::new_udp(face, family), address),
            _ => udp::connect(face, udp::new_udp(face, family), address),
        });
        assert_eq!(answer.await, expected, "{method} {address}");
    }
}
