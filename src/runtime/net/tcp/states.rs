//! Every operation of a TCP socket in every state. WASI 0.3 shows these answers as they are; what 0.2
//! adds by its two steps is in `wasi::p2::sockets`.

use super::super::fixture::{World, addr};
use super::*;

type Operation = fn(&mut TcpSocket) -> Result<(), Error>;

const OPERATIONS: [(&str, Operation); 8] = [
    ("bind", |socket| socket.bind(addr("127.0.0.1:0"))),
    ("connect", |socket| {
        socket.start_connect(addr("127.0.0.1:80"))
    }),
    ("listen", |socket| socket.listen().map(drop)),
    ("local", |socket| socket.local_addr().map(drop)),
    ("remote", |socket| socket.remote_addr().map(drop)),
    ("backlog", |socket| socket.set_backlog(7)),
    ("option", |socket| socket.options().map(drop)),
    ("send and receive", |socket| socket.conn().map(drop)),
];

fn bound(world: &World) -> TcpSocket {
    let mut socket = world.tcp();
    socket.bind(addr("127.0.0.1:0")).unwrap();
    socket
}

fn listening(world: &World) -> TcpSocket {
    let mut socket = bound(world);
    socket.listen().unwrap();
    socket
}

fn connecting(world: &World) -> TcpSocket {
    let mut socket = world.tcp();
    socket.start_connect(addr("127.0.0.1:80")).unwrap();
    socket
}

fn connected(world: &World) -> TcpSocket {
    world.connect("127.0.0.1:80").unwrap()
}

fn closed(world: &World) -> TcpSocket {
    let mut socket = world.tcp();
    socket.start_connect(addr("127.0.0.1:9")).unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(socket.poll_connected(&mut cx).is_ready());
    socket
}

#[test]
fn every_operation_in_every_state() {
    const YES: Result<(), Error> = Ok(());
    const NO: Result<(), Error> = Err(Error::InvalidState);
    // The error that closed it stays.
    const WHY: Result<(), Error> = Err(Error::ConnectionRefused);
    type Row = (
        &'static str,
        fn(&World) -> TcpSocket,
        [Result<(), Error>; 8],
    );
    let rows: [Row; 6] = [
        ("unbound", World::tcp, [YES, YES, YES, NO, NO, YES, YES, NO]),
        ("bound", bound, [NO, YES, YES, YES, NO, YES, YES, NO]),
        ("listening", listening, [NO, NO, NO, YES, NO, YES, YES, NO]),
        ("connecting", connecting, [NO, NO, NO, NO, NO, NO, NO, NO]),
        ("connected", connected, [NO, NO, NO, YES, YES, NO, YES, YES]),
        ("closed", closed, [NO, NO, NO, WHY, WHY, WHY, WHY, WHY]),
    ];
    for (state, made, expected) in rows {
        for ((name, operation), expected) in OPERATIONS.into_iter().zip(expected) {
            let world = World::new();
            let _server = world.listen("127.0.0.1:80");
            let mut socket = made(&world);
            assert_eq!(socket.is_listening(), state == "listening");
            assert_eq!(
                socket.set_backlog(0),
                Err(Error::InvalidArgument),
                "{state}"
            );
            assert_eq!(operation(&mut socket), expected, "{name} while {state}");
        }
    }
}
