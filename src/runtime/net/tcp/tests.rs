//! What `tcp` promises, case by case.

use super::super::conn::Shutdown;
use super::super::fixture::{World, addr, connected};
use super::super::owner::Incarnation;
use super::super::pod_net::ConnService;
use super::*;

fn read(conn: &Conn) -> Result<Vec<u8>, Error> {
    conn.try_read_vec(1 << 20)
}

#[test]
fn bind_takes_the_addresses_of_the_pod_and_no_other() {
    let world = World::new();
    let cases = [
        ("127.0.0.1:80", Ok(())),
        ("127.8.8.8:80", Ok(())),
        ("10.64.0.1:80", Ok(())),
        ("0.0.0.0:81", Ok(())),
        ("10.64.0.1:81", Err(Error::AddressInUse)),
        ("127.0.0.1:80", Err(Error::AddressInUse)),
        ("10.64.0.2:80", Err(Error::AddressNotBindable)),
        ("192.0.2.1:0", Err(Error::AddressNotBindable)),
        ("224.0.0.1:80", Err(Error::InvalidArgument)),
        ("255.255.255.255:80", Err(Error::InvalidArgument)),
        ("[::1]:80", Err(Error::InvalidArgument)),
    ];
    let mut sockets = Vec::new();
    for (at, expected) in cases {
        let mut socket = world.tcp();
        assert_eq!(socket.bind(addr(at)), expected, "{at}");
        sockets.push(socket);
    }
    assert_eq!(
        sockets[0].bind(addr("127.0.0.1:82")),
        Err(Error::InvalidState)
    );
    drop(sockets);
    assert_eq!(world.tcp().bind(addr("0.0.0.0:80")), Ok(()));
}

#[test]
fn connect_reaches_who_listens_there_and_nobody_else() {
    let world = World::new();
    let (_lo, _) = world.listen("127.0.0.1:80");
    let (_pod, _) = world.listen("10.64.0.1:81");
    let (_any, _) = world.listen("0.0.0.0:82");
    let mut bound = world.tcp();
    bound.bind(addr("127.0.0.1:83")).unwrap();
    let _second = world.second.preopen(8080, world.container.owner()).unwrap();
    let cases = [
        ("127.0.0.1:80", None),
        ("127.0.0.2:80", Some(Error::ConnectionRefused)),
        ("10.64.0.1:80", Some(Error::ConnectionRefused)),
        ("127.0.0.1:81", Some(Error::ConnectionRefused)),
        ("10.64.0.1:81", None),
        ("127.3.2.1:82", None),
        ("10.64.0.1:82", None),
        ("127.0.0.1:83", Some(Error::ConnectionRefused)),
        ("127.0.0.1:8080", Some(Error::ConnectionRefused)),
        ("10.64.0.2:8080", None),
        ("10.64.0.2:80", Some(Error::ConnectionRefused)),
        ("10.43.0.1:80", None),
        ("10.43.0.2:80", Some(Error::ConnectionRefused)),
        ("198.51.100.1:80", Some(Error::AccessDenied)),
        ("0.0.0.0:80", Some(Error::InvalidArgument)),
        ("127.0.0.1:0", Some(Error::InvalidArgument)),
        ("224.0.0.1:80", Some(Error::InvalidArgument)),
        ("[::1]:80", Some(Error::InvalidArgument)),
    ];
    for (to, expected) in cases {
        assert_eq!(world.connect(to).err(), expected, "{to}");
    }
}

#[test]
fn addresses_are_what_each_side_should_believe() {
    let world = World::new();
    let listener = world.second.preopen(8080, world.container.owner()).unwrap();
    let client = world.connect("10.43.0.1:80").unwrap();
    let server = listener.try_accept().unwrap();
    assert_eq!(client.remote_addr(), Ok(addr("10.43.0.1:80")));
    assert_eq!(client.local_addr().unwrap().ip(), world.first.ip());
    assert_eq!(server.local_addr(), addr("10.64.0.2:8080"));
    assert_eq!(server.peer_addr(), client.local_addr().unwrap());
}

#[test]
fn a_failed_connect_closes_the_socket_with_its_error() {
    let world = World::new();
    let mut socket = world.tcp();
    socket.start_connect(addr("127.0.0.1:9")).unwrap();
    assert_eq!(socket.local_addr(), Err(Error::InvalidState));
    assert_eq!(socket.listen().err(), Some(Error::InvalidState));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for _ in 0..2 {
        let refused = Poll::Ready(Err(Error::ConnectionRefused));
        assert_eq!(socket.poll_connected(&mut cx), refused);
    }
    assert_eq!(
        socket.start_connect(addr("127.0.0.1:9")),
        Err(Error::InvalidState)
    );
    assert_eq!(socket.options().err(), Some(Error::ConnectionRefused));
    assert_eq!(world.first.listening(), []);
}

#[test]
fn each_direction_ends_on_its_own() {
    let world = World::new();
    let (_socket, listener) = world.listen("127.0.0.1:80");
    let client = world.connect("127.0.0.1:80").unwrap();
    let client = client.conn().unwrap();
    let server = listener.try_accept().unwrap();
    assert_eq!(listener.try_accept().err(), Some(Error::WouldBlock));
    assert_eq!(read(&server), Err(Error::WouldBlock));
    client.try_write(b"ask").unwrap();
    client.shutdown(Shutdown::Send);
    assert_eq!(client.try_write(b"more"), Err(Error::BrokenPipe));
    assert_eq!(read(&server).unwrap(), b"ask");
    assert_eq!(read(&server).unwrap(), b"");
    server.try_write(b"answer").unwrap();
    assert_eq!(read(client).unwrap(), b"answer");
    drop(server);
    assert_eq!(read(client).unwrap(), b"");
    assert_eq!(world.budget.used(), 0);
}

#[test]
fn close_is_an_end_and_close_with_unread_bytes_a_reset() {
    let world = World::new();
    let (_socket, listener) = world.listen("127.0.0.1:80");
    for (unread, expected) in [(false, Ok(Vec::new())), (true, Err(Error::ConnectionReset))] {
        let client = world.connect("127.0.0.1:80").unwrap();
        let client = client.conn().unwrap();
        let server = listener.try_accept().unwrap();
        server.try_write(b"bye").unwrap();
        if unread {
            client.try_write(b"too late").unwrap();
        }
        drop(server);
        assert_eq!(read(client).unwrap(), b"bye");
        assert_eq!(read(client), expected);
        assert!(client.try_write(b"x").is_err());
    }
}

#[test]
fn a_dead_container_frees_its_ports_and_resets_its_peers() {
    let world = World::new();
    let doomed = Incarnation::new();
    let listener = world.first.preopen(80, doomed.owner()).unwrap();
    let by_v6 = world.connect_by(Family::V6, "[::1]:80").unwrap();
    assert!(by_v6.conn().unwrap().local_addr().is_ipv6());
    drop(listener.try_accept().unwrap());
    let accepted_by_doomed = world.connect("127.0.0.1:80").unwrap();
    let server = listener.try_accept().unwrap();
    let waiting = world.connect("127.0.0.1:80").unwrap();
    server.try_write(b"last words").unwrap();
    drop(doomed);
    let conn = accepted_by_doomed.conn().unwrap();
    assert_eq!(read(conn).unwrap(), b"last words");
    assert_eq!(read(conn), Err(Error::ConnectionReset));
    assert_eq!(read(waiting.conn().unwrap()), Err(Error::ConnectionReset));
    assert_eq!(listener.try_accept().err(), Some(Error::ConnectionAborted));
    assert_eq!(
        world.connect("127.0.0.1:80").err(),
        Some(Error::ConnectionRefused)
    );
    // The guest's handles may outlive it; the ports do not wait for them.
    let (_socket, _) = world.listen("0.0.0.0:80");
    drop((listener, server));
    assert!(world.connect("127.0.0.1:80").is_ok());
}

#[test]
fn the_dead_open_nothing() {
    let world = World::new();
    let doomed = Incarnation::new();
    let owner = doomed.owner().clone();
    let mut socket = TcpSocket::new(&world.first, &owner, Family::V4).unwrap();
    drop(doomed);
    assert!(owner.is_dead());
    assert_eq!(
        socket.bind(addr("127.0.0.1:80")),
        Err(Error::ConnectionAborted)
    );
    let free = world.first.preopen(80, world.container.owner());
    assert!(free.is_ok());
}

#[test]
fn a_full_backlog_refuses() {
    let world = World::new();
    let mut socket = world.tcp();
    socket.bind(addr("127.0.0.1:80")).unwrap();
    assert_eq!(socket.set_backlog(0), Err(Error::InvalidArgument));
    socket.set_backlog(2).unwrap();
    let listener = socket.listen().unwrap();
    let clients: Vec<_> = (0..3).map(|_| world.connect("127.0.0.1:80")).collect();
    assert_eq!(clients[2].as_ref().err(), Some(&Error::ConnectionRefused));
    listener.try_accept().unwrap();
    assert!(world.connect("127.0.0.1:80").is_ok());
}

#[test]
fn sockets_are_counted_and_limited() {
    let world = World::with_limits(1 << 20, 4);
    let (_socket, listener) = world.listen("127.0.0.1:80");
    let first = world.connect("127.0.0.1:80").unwrap();
    assert_eq!(world.first.sockets(), 3, "listener, client, waiting");
    let second = world.tcp();
    let full = TcpSocket::new(&world.first, world.container.owner(), Family::V4);
    assert_eq!(full.err(), Some(Error::NewSocketLimit));
    drop(listener.try_accept().unwrap());
    drop((first, second));
    assert_eq!(world.first.sockets(), 1);
}

#[test]
fn what_outlives_its_handle_is_counted_on() {
    let world = World::new();
    let (socket, listener) = world.listen("127.0.0.1:80");
    let client = world.connect("127.0.0.1:80").unwrap();
    let conn = Arc::clone(client.conn().unwrap());
    drop((socket, client));
    assert_eq!(world.first.sockets(), 3, "listener, client, waiting");
    drop(conn);
    assert_eq!(world.first.sockets(), 2);
    drop(listener);
    assert_eq!(world.first.sockets(), 0);
}

#[test]
fn a_bound_socket_keeps_its_address_while_it_connects() {
    let world = World::new();
    let mut socket = world.tcp();
    socket.bind(addr("10.64.0.1:4000")).unwrap();
    socket.start_connect(addr("127.0.0.1:9")).unwrap();
    assert_eq!(socket.local_addr(), Ok(addr("10.64.0.1:4000")));
}

#[test]
fn bytes_are_bounded_charged_and_given_back() {
    let world = World::with_limits(300 << 10, 100);
    let (_socket, listener) = world.listen("127.0.0.1:80");
    let client = world.connect("127.0.0.1:80").unwrap();
    let conn = client.conn().unwrap();
    let server = listener.try_accept().unwrap();
    let block = vec![7; 1 << 20];
    assert_eq!(conn.try_write(&block), Ok(256 << 10));
    assert_eq!(conn.try_write(&block), Err(Error::WouldBlock));
    assert_eq!(world.budget.used(), 256 << 10);
    assert_eq!(
        server.try_write(&block),
        Ok(44 << 10),
        "what memory is left"
    );
    assert_eq!(server.try_write(&block), Err(Error::WouldBlock));
    assert_eq!(read(&server).unwrap().len(), 256 << 10);
    read(conn).unwrap();
    assert_eq!(world.budget.used(), 0);
    world.budget.charge(300 << 10).unwrap();
    assert_eq!(conn.try_write(&block), Err(Error::OutOfMemory));
}

#[test]
fn accepted_sockets_inherit_options() {
    let world = World::new();
    let (mut socket, listener) = world.listen("127.0.0.1:80");
    let set = |options: &mut Options| options.set_receive_buffer(8192);
    socket.change_options(set).unwrap();
    let client = world.connect("127.0.0.1:80").unwrap();
    assert_eq!(client.conn().unwrap().try_write(&[0; 10_000]), Ok(8192));
    assert_eq!(listener.options().receive_buffer(), 8192);
}

#[test]
fn a_service_answers_on_a_port_like_a_guest() {
    struct Greeter;
    impl ConnService for Greeter {
        fn accept(&self, conn: Conn) {
            conn.try_write(b"hello").unwrap();
        }
    }
    let world = World::new();
    let doomed = Incarnation::new();
    let _binding = world
        .first
        .bind_service(80, doomed.owner(), Arc::new(Greeter))
        .unwrap();
    for (family, at) in [(Family::V4, "127.0.0.1:80"), (Family::V6, "[::1]:80")] {
        let client = world.connect_by(family, at).unwrap();
        assert_eq!(read(client.conn().unwrap()).unwrap(), b"hello", "{at}");
    }
    assert_eq!(read(&world.first.dial(80).unwrap()).unwrap(), b"hello");
    assert_eq!(
        world.first.listening(),
        ["0.0.0.0:80", "[::]:80"].map(|at| (addr(at), Protocol::Tcp))
    );
    drop(doomed);
    assert_eq!(world.first.listening(), []);
    assert_eq!(world.first.dial(80).err(), Some(Error::ConnectionRefused));
}

#[test]
fn a_stopping_pod_refuses_the_outside_only() {
    let world = World::new();
    let (_socket, _) = world.listen("0.0.0.0:80");
    world.first.refuse_outside(true);
    assert_eq!(world.first.dial(80).err(), Some(Error::ConnectionRefused));
    assert!(world.connect("127.0.0.1:80").is_ok());
}

#[test]
fn an_address_is_free_again_when_its_pod_is_gone() {
    let world = World::new();
    let World { fabric, first, .. } = world;
    let ip = first.ip();
    assert!(fabric.pod(ip).is_some());
    drop(first);
    assert!(fabric.pod(ip).is_none());
}

#[tokio::test]
async fn a_pod_of_another_worker_is_reached_over_the_wire() {
    let world = World::new();
    let client = connected(world.tcp(), "10.64.9.9:7").await.unwrap();
    let conn = client.conn().unwrap();
    let data: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
    assert_eq!(conn.try_write(&data), Ok(data.len()));
    conn.shutdown(Shutdown::Send);
    let mut echoed = Vec::new();
    loop {
        std::future::poll_fn(|cx| conn.poll_readable(cx)).await;
        match read(conn).unwrap() {
            bytes if bytes.is_empty() => break,
            bytes => echoed.extend(bytes),
        }
    }
    assert_eq!(echoed, data);
    let refused = connected(world.tcp(), "10.64.9.9:8").await;
    assert_eq!(refused.err(), Some(Error::ConnectionRefused));
}
