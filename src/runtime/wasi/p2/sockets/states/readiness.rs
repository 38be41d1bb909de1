//! When a pollable of 0.2 is ready, and what the next call then says: for sockets as "Operational
//! semantics of WASI TCP sockets" has it, for streams after each way in which a connection may end.

use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
use wasmtime_wasi::p2::bindings::sockets::udp::OutgoingDatagram;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError};

use super::*;
use crate::runtime::net::{Conn, Shutdown};

impl Guest {
    /// Whether what `subscribe` gives is ready now.
    async fn is_ready(&mut self, pollable: wasmtime::Result<Resource<DynPollable>>) -> bool {
        let pollable = pollable.unwrap();
        let borrowed = Resource::new_borrow(pollable.rep());
        let ready = HostPollable::ready(&mut self.table, borrowed)
            .await
            .unwrap();
        HostPollable::drop(&mut self.table, pollable).unwrap();
        ready
    }

    fn new_tcp(&mut self) -> u32 {
        let created = self.view().create_tcp_socket(IpAddressFamily::Ipv4);
        created.unwrap().rep()
    }

    /// The streams of a connection, and its other end.
    async fn connect(
        &mut self,
    ) -> (
        u32,
        Resource<DynInputStream>,
        Resource<DynOutputStream>,
        Conn,
    ) {
        let this = self.new_tcp();
        self.call_tcp(this, "start-connect", "127.0.0.1:80").await;
        let (input, output) = self.view().finish_connect(tcp(this)).unwrap();
        (this, input, output, self.listener.try_accept().unwrap())
    }
}

const SOCKETS: &str = "
             ready
 unbound     yes
 binding     yes
 bound       yes
 starting    yes
 listening   no
 awaited     yes
 aborted     yes
 connecting  yes
 waiting     no
 connected   yes
 closed      yes
";

#[tokio::test]
async fn a_tcp_socket_is_ready_when_its_operation_is() {
    for (state, _, expected) in cells(SOCKETS) {
        let mut guest = Guest::new();
        let this = guest.new_tcp();
        let way = match state {
            "awaited" | "aborted" => way_to("listening"),
            // To a pod that never answers.
            "waiting" => &[("start-connect", "10.64.9.9:6")],
            state => way_to(state),
        };
        for (method, address) in way {
            guest.call_tcp(this, method, address).await;
        }
        let mut client = net::TcpSocket::new(&guest.net, guest.container.owner(), Family::V4);
        if state == "awaited" {
            let listening = tcp_face::HostTcpSocket::local_address(&mut guest.view(), tcp(this));
            let client = client.as_mut().unwrap();
            client.start_connect(listening.unwrap().into()).unwrap();
        }
        if state == "aborted" {
            guest.container = Incarnation::new();
        }
        let pollable = tcp_face::HostTcpSocket::subscribe(&mut guest.view(), tcp(this));
        let ready = ["no", "yes"][usize::from(guest.is_ready(pollable).await)];
        assert_eq!(ready, expected, "{state}");
    }
}

fn said<T>(answer: Result<T, StreamError>) -> Result<T, &'static str> {
    match answer {
        Ok(value) => Ok(value),
        Err(StreamError::Closed) => Err("closed"),
        Err(StreamError::LastOperationFailed(error)) => Err(match error.downcast_ref() {
            Some(ErrorCode::ConnectionReset) => "reset",
            other => panic!("{other:?}"),
        }),
        Err(StreamError::Trap(error)) => panic!("{error}"),
    }
}

// What happens; whether the input is ready, what two reads give (bytes, or how the stream ended);
// whether the output is ready, whether two checks permit something.
const STREAMS: &str = "
               input read-1 read-2 output check-1 check-2
 nothing       no    0      0      yes    some    some
 data          yes   4      0      yes    some    some
 full          no    0      0      no     none    none
 full-read     no    0      0      yes    some    some
 finish        yes   closed closed yes    some    some
 data-finish   yes   4      closed yes    some    some
 deaf          no    0      0      yes    some    some
 close         yes   closed closed yes    closed  closed
 data-close    yes   4      closed yes    closed  closed
 full-close    yes   reset  closed yes    reset   closed
 reset         yes   reset  closed yes    reset   closed
 data-reset    yes   4      reset  yes    reset   closed
 full-reset    yes   reset  closed yes    reset   closed
 death         yes   reset  closed yes    reset   closed
 send          no    0      0      yes    closed  closed
 data-send     yes   4      0      yes    closed  closed
 receive       yes   closed closed yes    some    some
 data-receive  yes   closed closed yes    some    some
 both          yes   closed closed yes    closed  closed
 data-both     yes   closed closed yes    closed  closed
";

fn happen(guest: &mut Guest, event: &str, this: u32, peer: &mut Option<Conn>) {
    let conn = peer.as_ref().unwrap();
    match event {
        "" | "nothing" => {}
        "finish" => conn.shutdown(Shutdown::Send),
        "deaf" => conn.shutdown(Shutdown::Receive),
        "read" => drop(conn.try_read_vec(1 << 20).unwrap()),
        "close" => *peer = None,
        "reset" => conn.reset(),
        "death" => guest.container = Incarnation::new(),
        own => {
            let how = match own {
                "send" => ShutdownType::Send,
                "receive" => ShutdownType::Receive,
                "both" => ShutdownType::Both,
                other => panic!("{other}"),
            };
            guest.view().shutdown(tcp(this), how).unwrap();
        }
    }
}

#[tokio::test]
async fn streams_are_ready_when_the_next_call_does_something() {
    for (event, column, expected) in cells(STREAMS) {
        let mut guest = Guest::new();
        let (this, input, output, peer) = guest.connect().await;
        let mut peer = Some(peer);
        let event = match event.split_once('-').unwrap_or((event, "")) {
            ("data", then) => {
                peer.as_ref().unwrap().try_write(b"data").unwrap();
                then
            }
            ("full", then) => {
                let stream = guest.table.get_mut(&output).unwrap();
                while let permit @ 1.. = stream.check_write().unwrap() {
                    stream.write(vec![0; permit].into()).unwrap();
                }
                then
            }
            (event, _) => event,
        };
        happen(&mut guest, event, this, &mut peer);
        let got = match column {
            "input" | "output" => {
                let pollable = if column == "input" {
                    let input: Resource<DynInputStream> = Resource::new_borrow(input.rep());
                    wasmtime_wasi::p2::subscribe(&mut guest.table, input)
                } else {
                    let output: Resource<DynOutputStream> = Resource::new_borrow(output.rep());
                    wasmtime_wasi::p2::subscribe(&mut guest.table, output)
                };
                ["no", "yes"][usize::from(guest.is_ready(pollable).await)].to_owned()
            }
            "read-1" | "read-2" => {
                let stream = guest.table.get_mut(&input).unwrap();
                let mut read =
                    || said(stream.read(9)).map_or_else(str::to_owned, |it| it.len().to_string());
                let first = read();
                if column == "read-1" { first } else { read() }
            }
            _ => {
                let stream = guest.table.get_mut(&output).unwrap();
                let mut check = || match said(stream.check_write()) {
                    Ok(0) => "none",
                    Ok(_) => "some",
                    Err(end) => end,
                };
                let first = check();
                if column == "check-1" { first } else { check() }.to_owned()
            }
        };
        assert_eq!(got, expected, "{column} after {event}");
    }
}

#[tokio::test]
async fn what_was_sent_arrives_before_the_end_that_shutdown_sends() {
    // What the peer reads, and what its next write comes to.
    let cases = [
        (ShutdownType::Send, Ok(Vec::new()), Ok(1)),
        (ShutdownType::Receive, Err(net::Error::WouldBlock), Ok(1)),
        (ShutdownType::Both, Ok(Vec::new()), Ok(1)),
    ];
    for (how, then, written) in cases {
        let mut guest = Guest::new();
        let (this, _input, output, peer) = guest.connect().await;
        let stream = guest.table.get_mut(&output).unwrap();
        stream.check_write().unwrap();
        stream.write("data".into()).unwrap();
        guest.view().shutdown(tcp(this), how).unwrap();
        assert_eq!(peer.try_read_vec(9), Ok(b"data".to_vec()), "{how:?}");
        assert_eq!(peer.try_read_vec(9), then, "{how:?}");
        assert_eq!(peer.try_write(b"x"), written, "{how:?}");
        // A second time changes nothing.
        guest.view().shutdown(tcp(this), how).unwrap();
    }
}

#[tokio::test]
async fn datagram_streams_are_ready_when_the_next_call_does_something() {
    // What happens; whether the incoming stream is ready, what it then gives, and whether the outgoing
    // one is.
    let cases = [
        ("nothing", "no", Ok(0), "yes"),
        ("datagram", "yes", Ok(1), "yes"),
        ("refused", "yes", Err(ErrorCode::ConnectionRefused), "yes"),
        ("death", "yes", Err(ErrorCode::ConnectionAborted), "yes"),
    ];
    for (event, input, got, output) in cases {
        let mut guest = Guest::new();
        let created = guest.view().create_udp_socket(IpAddressFamily::Ipv4).await;
        let this = created.unwrap().rep();
        for (method, address) in way_to("bound") {
            guest.call_udp(this, method, address).await;
        }
        let remote = (event == "refused").then(|| at("127.0.0.1:53"));
        let streams = guest.view().stream(udp(this), remote).await;
        let (incoming, outgoing) = streams.unwrap();
        let local = udp_face::HostUdpSocket::local_address(&mut guest.view(), udp(this));
        let local = std::net::SocketAddr::from(local.unwrap());
        match event {
            "datagram" => {
                let owner = guest.container.owner();
                let mut sender = net::UdpSocket::new(&guest.net, owner, Family::V4).unwrap();
                sender.send(b"x".to_vec(), Some(local)).unwrap();
            }
            "refused" => {
                let outgoing = Resource::new_borrow(outgoing.rep());
                assert_eq!(guest.send(outgoing, 1), Ok(1));
            }
            "death" => guest.container = Incarnation::new(),
            _ => {}
        }
        let borrowed = || Resource::new_borrow(incoming.rep());
        let pollable =
            udp_face::HostIncomingDatagramStream::subscribe(&mut guest.view(), borrowed());
        let ready = ["no", "yes"][usize::from(guest.is_ready(pollable).await)];
        assert_eq!(ready, input, "{event}");
        let borrowed_out = Resource::new_borrow(outgoing.rep());
        let pollable =
            udp_face::HostOutgoingDatagramStream::subscribe(&mut guest.view(), borrowed_out);
        let ready = ["no", "yes"][usize::from(guest.is_ready(pollable).await)];
        assert_eq!(ready, output, "{event}");
        let received =
            udp_face::HostIncomingDatagramStream::receive(&mut guest.view(), borrowed(), 9);
        let received = received.map(|datagrams| datagrams.len());
        assert_eq!(
            received.map_err(|error| error.downcast().unwrap()),
            got,
            "{event}"
        );
        let pollable = udp_face::HostUdpSocket::subscribe(&mut guest.view(), udp(this));
        assert!(
            guest.is_ready(pollable).await,
            "it has no operation that waits"
        );
    }
}

impl Guest {
    /// Asks for a permit if `datagrams` is not none, and sends that many.
    fn send(
        &mut self,
        outgoing: Resource<udp_face::OutgoingDatagramStream>,
        datagrams: usize,
    ) -> Result<u64, ErrorCode> {
        let mut view = self.view();
        let borrowed = Resource::new_borrow(outgoing.rep());
        let permit = udp_face::HostOutgoingDatagramStream::check_send(&mut view, borrowed).unwrap();
        assert!(permit > 0);
        self.send_unasked(outgoing, datagrams)
            .map_err(|error| error.downcast().unwrap())
    }

    fn send_unasked(
        &mut self,
        outgoing: Resource<udp_face::OutgoingDatagramStream>,
        datagrams: usize,
    ) -> SocketResult<u64> {
        let datagram = OutgoingDatagram {
            data: b"x".to_vec(),
            remote_address: None,
        };
        let datagrams = vec![datagram; datagrams];
        udp_face::HostOutgoingDatagramStream::send(&mut self.view(), outgoing, datagrams)
    }
}

#[tokio::test]
async fn no_more_datagrams_are_sent_than_were_permitted() {
    let mut guest = Guest::new();
    let created = guest.view().create_udp_socket(IpAddressFamily::Ipv4).await;
    let this = created.unwrap().rep();
    for (method, address) in way_to("bound") {
        guest.call_udp(this, method, address).await;
    }
    let peer = net::UdpSocket::new(&guest.net, guest.container.owner(), Family::V4);
    let mut peer = peer.unwrap();
    peer.bind("127.0.0.1:53".parse().unwrap()).unwrap();
    let streams = guest
        .view()
        .stream(udp(this), Some(at("127.0.0.1:53")))
        .await;
    let (_incoming, outgoing) = streams.unwrap();
    let outgoing = || Resource::new_borrow(outgoing.rep());
    let is_trap = |sent: SocketResult<u64>| sent.is_err_and(|error| error.downcast().is_err());
    assert!(
        is_trap(guest.send_unasked(outgoing(), 1)),
        "nothing is permitted yet"
    );
    assert_eq!(
        guest.send_unasked(outgoing(), 0).unwrap(),
        0,
        "none needs no permit"
    );
    assert_eq!(guest.send(outgoing(), 3), Ok(3));
    assert!(
        is_trap(guest.send_unasked(outgoing(), 1)),
        "the permit is used up"
    );
    let mut view = guest.view();
    let permit = udp_face::HostOutgoingDatagramStream::check_send(&mut view, outgoing()).unwrap();
    assert!(is_trap(guest.send_unasked(outgoing(), permit as usize + 1)));
    assert_eq!(guest.send(outgoing(), permit as usize), Ok(permit));
}
