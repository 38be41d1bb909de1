//! `udp-socket` of 0.3: every method in every state.

use super::*;
use wasmtime_wasi::p3::bindings::sockets::types::{
    HostUdpSocket as _, HostUdpSocketWithStore as _,
};

fn udp(rep: u32) -> Resource<UdpSocket> {
    Resource::new_borrow(rep)
}

pub(super) fn new_udp(face: &Face, family: IpAddressFamily) -> u32 {
    let created = with(face, |view| view.create(family).now_or_never());
    created.unwrap().unwrap().rep()
}

pub(super) fn bind(face: &Face, this: u32, address: &str) -> &'static str {
    let to = at(address).into();
    word(with(face, |view| view.bind(udp(this), to).now_or_never()).unwrap())
}

pub(super) fn connect(face: &Face, this: u32, address: &str) -> &'static str {
    let to = at(address).into();
    word(with(face, |view| view.connect(udp(this), to).now_or_never()).unwrap())
}

async fn call_udp(face: &Face, this: u32, method: &str) -> &'static str {
    let send = |length: usize, to: Option<&str>| {
        let to = to.map(|to| at(to).into());
        outcome(HasNet::send(face, udp(this), vec![0; length], to))
    };
    match method {
        "bind" => bind(face, this, "127.0.0.1:0"),
        "connect" => connect(face, this, "127.0.0.1:53"),
        "connect-6" => connect(face, this, "[::1]:53"),
        "disconnect" => word(with(face, |view| view.disconnect(udp(this)))),
        "send" => send(1, None).await,
        "send-to" => send(1, Some("127.0.0.1:53")).await,
        "send-else" => send(1, Some("127.0.0.1:54")).await,
        "send-0" => send(1, Some("127.0.0.1:0")).await,
        "send-any" => send(1, Some("0.0.0.0:53")).await,
        "send-6" => send(1, Some("[::1]:53")).await,
        "send-big" => send(65_508, Some("127.0.0.1:53")).await,
        "receive" => outcome(HasNet::receive(face, udp(this))).await,
        "local" => word(with(face, |view| view.get_local_address(udp(this)))),
        "remote" => word(with(face, |view| view.get_remote_address(udp(this)))),
        "get" => with(face, |view| {
            all([
                word(view.get_unicast_hop_limit(udp(this))),
                word(view.get_receive_buffer_size(udp(this))),
                word(view.get_send_buffer_size(udp(this))),
            ])
        }),
        "set" | "set-0" => with(face, |view| {
            let value = if method == "set" { 9 } else { 0 };
            all([
                word(view.set_unicast_hop_limit(udp(this), value)),
                word(view.set_receive_buffer_size(udp(this), value.into())),
                word(view.set_send_buffer_size(udp(this), value.into())),
            ])
        }),
        other => panic!("{other}"),
    }
}

/// The calls that bring a new socket into a state, with what they come to.
fn way_to(state: &str) -> &'static [(&'static str, &'static str)] {
    const CONNECT: (&str, &str) = ("connect", "ok");
    match state {
        "unbound" => &[],
        "bound" => &[("bind", "ok")],
        "sending" => &[("send-to", "ok")],
        "tied" => &[CONNECT],
        "retied" => &[CONNECT, ("connect-6", "arg"), CONNECT],
        "untied" => &[CONNECT, ("disconnect", "ok")],
        "refused" => &[CONNECT, ("send", "ok")],
        other => panic!("{other}"),
    }
}

// A peer that refuses is told by the next operation, and once.
const UDP: &str = "
             bind  connect connect-6 disconnect send    send-to send-else receive local remote
 unbound     ok    ok      arg       state      arg     ok      ok        state   state state
 bound       state ok      arg       state      arg     ok      ok        open    ok    state
 sending     state ok      arg       state      arg     ok      ok        open    ok    state
 tied        state ok      arg       ok         ok      ok      arg       open    ok    ok
 retied      state ok      arg       ok         ok      ok      arg       open    ok    ok
 untied      state ok      arg       state      arg     ok      ok        open    ok    state
 refused     state ok      arg       ok         refused refused arg       refused ok    ok
";

const UDP_MORE: &str = "
             send-0 send-any send-6 send-big  get set set-0
 unbound     arg    arg      arg    too-large ok  ok  arg
 bound       arg    arg      arg    too-large ok  ok  arg
 tied        arg    arg      arg    too-large ok  ok  arg
 untied      arg    arg      arg    too-large ok  ok  arg
";

#[tokio::test]
async fn udp_sockets_answer_as_documented_in_every_state() {
    for (state, method, expected) in cells(UDP).chain(cells(UDP_MORE)) {
        let answer = play(async |face| {
            let this = new_udp(face, IpAddressFamily::Ipv4);
            for (method, answer) in way_to(state) {
                assert_eq!(call_udp(face, this, method).await, *answer, "{state}");
            }
            call_udp(face, this, method).await
        });
        assert_eq!(answer.await, expected, "{method} while {state}");
    }
}

#[tokio::test]
async fn a_receive_that_was_given_up_loses_no_datagram() {
    play(async |face| {
        let [first, second] = [0, 1].map(|_| new_udp(face, IpAddressFamily::Ipv4));
        assert_eq!(call_udp(face, first, "bind").await, "ok");
        let to = with(face, |view| view.get_local_address(udp(first))).unwrap();
        let send = async |data: &[u8]| {
            HasNet::send(face, udp(second), data.to_vec(), Some(to))
                .await
                .unwrap();
        };
        assert_eq!(call_udp(face, first, "receive").await, "open");
        send(b"one").await;
        let (data, _) = HasNet::receive(face, udp(first)).await.unwrap();
        assert_eq!(data, b"one");
        // Two wait; each gets one.
        let mut waiting = [
            pin!(HasNet::receive(face, udp(first))),
            pin!(HasNet::receive(face, udp(first))),
        ];
        for receive in &mut waiting {
            assert!(receive.as_mut().now_or_never().is_none());
        }
        send(b"two").await;
        send(b"three").await;
        let [left, right] = waiting;
        let (left, right) = futures::join!(left, right);
        let mut got = [left.unwrap().0, right.unwrap().0];
        got.sort();
        assert_eq!(got, [b"three".to_vec(), b"two".to_vec()]);
    })
    .await;
}
