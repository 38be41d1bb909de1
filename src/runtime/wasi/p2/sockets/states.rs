//! Every method of a socket of 0.2 in every state, as the interfaces document it.
//!
//! In the tables, a row is a state or a call and a word an answer: `ok`, `-` for `not-in-progress`,
//! `state` for `invalid-state`, `busy` for `concurrency-conflict`, `arg` for `invalid-argument`.

mod readiness;

use wasmtime_wasi::p2::bindings::sockets::instance_network::Host as _;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    Host as _, HostResolveAddressStream as _,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{HostTcpSocket as _, ShutdownType, TcpSocket};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::udp::{HostUdpSocket as _, UdpSocket};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::sockets::{WasiSocketsCtx, WasiSocketsCtxView};

use super::network::{IpAddressFamily, IpSocketAddress};
use super::*;
use crate::runtime::net::{self, Family, Incarnation};

/// A container in a pod in which something listens on 127.0.0.1:80.
struct Guest {
    net: Arc<PodNet>,
    container: Incarnation,
    table: ResourceTable,
    network: u32,
    listener: Arc<net::TcpListener>,
    /// Holds the listener, which is another container's.
    _server: (net::TcpSocket, Incarnation),
}

fn word<T>(answer: SocketResult<T>) -> &'static str {
    let Err(error) = answer else { return "ok" };
    match error.downcast().unwrap() {
        ErrorCode::NotInProgress => "-",
        ErrorCode::InvalidState => "state",
        ErrorCode::ConcurrencyConflict => "busy",
        ErrorCode::InvalidArgument => "arg",
        ErrorCode::WouldBlock => "block",
        ErrorCode::ConnectionRefused => "refused",
        ErrorCode::AddressInUse => "in-use",
        ErrorCode::AddressNotBindable => "not-bindable",
        ErrorCode::NameUnresolvable => "unresolvable",
        other => panic!("{other:?}"),
    }
}

fn at(text: &str) -> IpSocketAddress {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

fn tcp(rep: u32) -> Resource<TcpSocket> {
    Resource::new_borrow(rep)
}

fn udp(rep: u32) -> Resource<UdpSocket> {
    Resource::new_borrow(rep)
}

impl Guest {
    fn new() -> Self {
        let (net, container) = net::pod();
        let other = Incarnation::new();
        let mut server = net::TcpSocket::new(&net, other.owner(), Family::V4).unwrap();
        server.bind("127.0.0.1:80".parse().unwrap()).unwrap();
        let listener = server.listen().unwrap();
        let mut table = ResourceTable::new();
        let network = WasiSocketsCtxView {
            ctx: &mut WasiSocketsCtx::default(),
            table: &mut table,
        }
        .instance_network()
        .unwrap()
        .rep();
        Self {
            net,
            container,
            table,
            network,
            listener,
            _server: (server, other),
        }
    }

    fn view(&mut self) -> NetView<'_> {
        NetView {
            net: &self.net,
            owner: self.container.owner(),
            table: &mut self.table,
        }
    }

    fn network(&self) -> Resource<Network> {
        Resource::new_borrow(self.network)
    }

    async fn call_tcp(&mut self, this: u32, method: &str, address: &str) -> &'static str {
        let network = self.network();
        let mut view = self.view();
        match method {
            "start-bind" => word(
                tcp_face::HostTcpSocket::start_bind(&mut view, tcp(this), network, at(address))
                    .await,
            ),
            "finish-bind" => word(tcp_face::HostTcpSocket::finish_bind(&mut view, tcp(this))),
            "start-connect" => word(view.start_connect(tcp(this), network, at(address))),
            "finish-connect" => word(view.finish_connect(tcp(this))),
            "start-listen" => word(view.start_listen(tcp(this)).await),
            "finish-listen" => word(view.finish_listen(tcp(this))),
            "accept" => word(view.accept(tcp(this))),
            "local" => word(tcp_face::HostTcpSocket::local_address(&mut view, tcp(this))),
            "remote" => word(tcp_face::HostTcpSocket::remote_address(
                &mut view,
                tcp(this),
            )),
            "is-listening" if view.is_listening(tcp(this)).unwrap() => "yes",
            "is-listening" => "no",
            "backlog" => word(view.set_listen_backlog_size(tcp(this), 7)),
            "backlog-0" => word(view.set_listen_backlog_size(tcp(this), 0)),
            "option" => word(view.hop_limit(tcp(this))),
            "option-0" => word(view.set_hop_limit(tcp(this), 0)),
            "shutdown" => word(view.shutdown(tcp(this), ShutdownType::Both)),
            other => panic!("{other}"),
        }
    }

    async fn call_udp(&mut self, this: u32, method: &str, address: &str) -> &'static str {
        let network = self.network();
        let mut view = self.view();
        match method {
            "start-bind" => {
                let bound =
                    udp_face::HostUdpSocket::start_bind(&mut view, udp(this), network, at(address));
                word(bound.await)
            }
            "finish-bind" => word(udp_face::HostUdpSocket::finish_bind(&mut view, udp(this))),
            "stream" | "stream-to" => {
                let remote = (method == "stream-to").then(|| at(address));
                let streams = view.stream(udp(this), remote).await;
                word(match streams {
                    Ok((incoming, outgoing)) => {
                        udp_face::HostIncomingDatagramStream::drop(&mut view, incoming).unwrap();
                        udp_face::HostOutgoingDatagramStream::drop(&mut view, outgoing)
                            .await
                            .unwrap();
                        Ok(())
                    }
                    Err(error) => Err(error),
                })
            }
            "local" => word(udp_face::HostUdpSocket::local_address(&mut view, udp(this))),
            "remote" => word(udp_face::HostUdpSocket::remote_address(
                &mut view,
                udp(this),
            )),
            "option" => word(view.unicast_hop_limit(udp(this))),
            "option-0" => word(view.set_unicast_hop_limit(udp(this), 0)),
            other => panic!("{other}"),
        }
    }
}

/// The calls that bring a new socket into a state.
fn way_to(state: &str) -> &'static [(&'static str, &'static str)] {
    const BIND: (&str, &str) = ("start-bind", "127.0.0.1:0");
    const BOUND: (&str, &str) = ("finish-bind", "");
    const LISTEN: (&str, &str) = ("start-listen", "");
    const REACHED: &str = "127.0.0.1:80";
    match state {
        "unbound" => &[],
        "binding" => &[BIND],
        "bound" => &[BIND, BOUND],
        "starting" => &[BIND, BOUND, LISTEN],
        "listening" => &[BIND, BOUND, LISTEN, ("finish-listen", "")],
        "connecting" => &[("start-connect", REACHED)],
        "connected" => &[("start-connect", REACHED), ("finish-connect", "")],
        "closed" => &[("start-connect", "127.0.0.1:9"), ("finish-connect", "")],
        "streaming" => &[BIND, BOUND, ("stream", "")],
        "tied" => &[BIND, BOUND, ("stream-to", "127.0.0.1:53")],
        other => panic!("{other}"),
    }
}

/// Rows of a table: the first word, and the others under the words of the first row.
fn cells(table: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut lines = table.lines().filter(|line| !line.trim().is_empty());
    let methods: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    lines.flat_map(move |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.len(), methods.len() + 1, "{line}");
        let cells = methods.clone().into_iter().zip(words.clone().split_off(1));
        let cells: Vec<_> = cells
            .map(|(method, answer)| (words[0], method, answer))
            .collect();
        cells
    })
}

// A bound socket stays so while it connects; one that is bound by connecting has no address yet.
const TCP: &str = "
             start-bind finish-bind start-connect finish-connect start-listen finish-listen accept
 unbound     ok         -           ok            -              state        -             state
 binding     busy       ok          busy          -              busy         -             state
 bound       state      -           ok            -              ok           -             state
 starting    busy       -           busy          -              busy         ok            state
 listening   state      -           state         -              state        -             block
 connecting  busy       -           busy          ok             busy         -             state
 connected   state      -           state         -              state        -             state
 closed      state      -           state         -              state        -             state
";

const TCP_MORE: &str = "
             local   remote  is-listening backlog backlog-0 option  option-0 shutdown
 unbound     state   state   no           ok      arg       ok      arg      state
 binding     state   state   no           ok      arg       ok      arg      state
 bound       ok      state   no           ok      arg       ok      arg      state
 starting    ok      state   no           ok      arg       ok      arg      state
 listening   ok      state   yes          ok      arg       ok      arg      state
 connecting  state   state   no           state   arg       state   state    state
 connected   ok      ok      no           state   arg       ok      arg      ok
 closed      refused refused no           refused arg       refused refused  state
";

const UDP: &str = "
             start-bind finish-bind stream stream-to local remote option option-0
 unbound     ok         -           state  state     state state  ok     arg
 binding     busy       ok          state  state     state state  ok     arg
 bound       state      -           ok     ok        ok    state  ok     arg
 streaming   state      -           ok     ok        ok    state  ok     arg
 tied        state      -           ok     ok        ok    ok     ok     arg
";

#[tokio::test]
async fn tcp_sockets_answer_as_documented_in_every_state() {
    for (state, method, expected) in cells(TCP).chain(cells(TCP_MORE)) {
        let mut guest = Guest::new();
        let created = guest.view().create_tcp_socket(IpAddressFamily::Ipv4);
        let this = created.unwrap().rep();
        for (method, address) in way_to(state) {
            guest.call_tcp(this, method, address).await;
        }
        let answer = guest.call_tcp(this, method, "127.0.0.1:80").await;
        // The address is another's, which is not the question.
        let answer = if answer == "in-use" { "ok" } else { answer };
        assert_eq!(answer, expected, "{method} while {state}");
    }
}

#[tokio::test]
async fn udp_sockets_answer_as_documented_in_every_state() {
    for (state, method, expected) in cells(UDP) {
        let mut guest = Guest::new();
        let created = guest.view().create_udp_socket(IpAddressFamily::Ipv4).await;
        let this = created.unwrap().rep();
        for (method, address) in way_to(state) {
            assert_eq!(guest.call_udp(this, method, address).await, "ok", "{state}");
        }
        let answer = guest.call_udp(this, method, "127.0.0.1:53").await;
        assert_eq!(answer, expected, "{method} while {state}");
    }
}

/// An address for sockets of the other family, and of the families 4 and 6.
const ADDRESSES: &str = "
                            bind4        connect4 bind6        connect6 udp-bind4    udp-bind6    stream4 stream6
 127.0.0.1:5000             ok           ok       arg          arg      ok           arg          ok      arg
 127.0.0.1:80               in-use       ok       arg          arg      ok           arg          ok      arg
 127.0.0.1:0                ok           arg      arg          arg      ok           arg          arg     arg
 0.0.0.0:5000               ok           arg      arg          arg      ok           arg          arg     arg
 [::]:80                    arg          arg      ok           arg      arg          ok           arg     arg
 [::1]:80                   arg          arg      ok           ok       arg          ok           arg     ok
 [::ffff:127.0.0.1]:80      arg          arg      arg          arg      arg          arg          arg     arg
 [::127.0.0.1]:80           arg          arg      arg          arg      arg          arg          arg     arg
 224.0.0.1:80               arg          arg      arg          arg      not-bindable arg          ok      arg
 255.255.255.255:80         arg          arg      arg          arg      not-bindable arg          ok      arg
 [ff02::1]:80               arg          arg      arg          arg      arg          not-bindable arg     ok
 192.0.2.1:80               not-bindable ok       arg          arg      not-bindable arg          ok      arg
 [2001:db8::1]:80           arg          arg      not-bindable ok       arg          not-bindable arg     ok
";

#[tokio::test]
async fn addresses_are_checked_as_documented() {
    for (address, method, expected) in cells(ADDRESSES) {
        let mut guest = Guest::new();
        let family = match method.strip_suffix('4') {
            Some(_) => IpAddressFamily::Ipv4,
            None => IpAddressFamily::Ipv6,
        };
        let any = ["0.0.0.0:0", "[::]:0"][usize::from(method.ends_with('6'))];
        let method = method.trim_end_matches(['4', '6']);
        let answer = if matches!(method, "bind" | "connect") {
            let this = guest.view().create_tcp_socket(family).unwrap().rep();
            let method = ["start-bind", "start-connect"][usize::from(method == "connect")];
            guest.call_tcp(this, method, address).await
        } else {
            let this = guest.view().create_udp_socket(family).await.unwrap().rep();
            if method == "udp-bind" {
                guest.call_udp(this, "start-bind", address).await
            } else {
                guest.call_udp(this, "start-bind", any).await;
                guest.call_udp(this, "finish-bind", "").await;
                guest.call_udp(this, "stream-to", address).await
            }
        };
        assert_eq!(answer, expected, "{method} {address}");
    }
}

#[tokio::test]
async fn a_wrong_question_fails_at_once_and_a_name_without_an_address_when_it_is_answered() {
    let cases = [
        ("a b", "arg", ""),
        ("empty", "ok", "unresolvable"),
        ("db", "ok", "ok"),
        ("127.0.0.1", "ok", "ok"),
    ];
    for (name, asked, answered) in cases {
        let mut guest = Guest::new();
        let network = guest.network();
        let mut view = guest.view();
        let stream = match view.resolve_addresses(network, name.to_owned()) {
            Ok(stream) => stream,
            Err(error) => {
                assert_eq!(word::<()>(Err(error)), asked, "{name}");
                continue;
            }
        };
        assert_eq!("ok", asked, "{name}");
        assert_eq!(word(view.resolve_next_address(stream)), answered, "{name}");
    }
}
