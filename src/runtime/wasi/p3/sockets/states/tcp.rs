//! `tcp-socket` of 0.3: every method in every state.

use super::ends::{Feed, Told, feed, told};
use super::*;
use wasmtime_wasi::p3::bindings::sockets::types::{
    HostTcpSocket as _, HostTcpSocketWithStore as _,
};

pub(super) fn tcp(rep: u32) -> Resource<TcpSocket> {
    Resource::new_borrow(rep)
}

pub(super) fn new_tcp(face: &Face, family: IpAddressFamily) -> u32 {
    with(face, |view| view.create(family)).unwrap().rep()
}

pub(super) fn drop_tcp(face: &Face, this: u32) {
    with(face, |view| view.drop(Resource::new_own(this))).unwrap();
}

pub(super) fn bind(face: &Face, this: u32, address: &str) -> &'static str {
    let to = at(address).into();
    word(with(face, |view| view.bind(tcp(this), to).now_or_never()).unwrap())
}

pub(super) async fn connect(face: &Face, this: u32, to: &str) -> &'static str {
    outcome(HasNet::connect(face, tcp(this), at(to).into())).await
}

pub(super) fn listen(face: &Face, this: u32) -> SocketResult<StreamReader<Resource<TcpSocket>>> {
    face.with(|access| HasNet::listen(access, tcp(this)).now_or_never().unwrap())
}

pub(super) fn send(face: &Face, this: u32) -> (Feed, Told) {
    let (feed, data) = feed(face);
    let ended = face.with(|access| HasNet::send(access, tcp(this), data).unwrap());
    (feed, told(face, ended))
}

pub(super) async fn call_tcp(face: &Face, this: u32, method: &str) -> &'static str {
    let options = |view: &mut NetView<'_>, value: u8| {
        let this = || tcp(this);
        all([
            word(view.set_keep_alive_idle_time(this(), value.into())),
            word(view.set_keep_alive_interval(this(), value.into())),
            word(view.set_keep_alive_count(this(), value.into())),
            word(view.set_hop_limit(this(), value)),
            word(view.set_receive_buffer_size(this(), value.into())),
            word(view.set_send_buffer_size(this(), value.into())),
        ])
    };
    match method {
        "bind" => bind(face, this, "127.0.0.1:0"),
        "bind-pod" => bind(face, this, "10.64.0.1:4000"),
        "connect" => connect(face, this, SERVER).await,
        "connect-9" => connect(face, this, "127.0.0.1:9").await,
        "connect-silent" => connect(face, this, SILENT).await,
        "listen" => word(listen(face, this)),
        "send" => {
            let (feed, told) = send(face, this);
            drop(feed);
            settle().await;
            told.word()
        }
        "receive" => ends::receive(face, this).told_by_now().await,
        "local" => word(with(face, |view| view.get_local_address(tcp(this)))),
        "remote" => word(with(face, |view| view.get_remote_address(tcp(this)))),
        "listens" => {
            let listens = with(face, |view| view.get_is_listening(tcp(this)).unwrap());
            ["no", "yes"][usize::from(listens)]
        }
        "backlog" => word(with(face, |view| {
            view.set_listen_backlog_size(tcp(this), 7)
        })),
        "backlog-0" => word(with(face, |view| {
            view.set_listen_backlog_size(tcp(this), 0)
        })),
        "get" => with(face, |view| {
            let this = || tcp(this);
            all([
                word(view.get_keep_alive_enabled(this())),
                word(view.get_keep_alive_idle_time(this())),
                word(view.get_keep_alive_interval(this())),
                word(view.get_keep_alive_count(this())),
                word(view.get_hop_limit(this())),
                word(view.get_receive_buffer_size(this())),
                word(view.get_send_buffer_size(this())),
            ])
        }),
        "set" => with(face, |view| {
            let switched = word(view.set_keep_alive_enabled(tcp(this), true));
            all([switched, options(view, 9)])
        }),
        "set-0" => with(face, |view| options(view, 0)),
        "family" => match with(face, |view| view.get_address_family(tcp(this)).unwrap()) {
            IpAddressFamily::Ipv4 => "4",
            IpAddressFamily::Ipv6 => "6",
        },
        other => panic!("{other}"),
    }
}

/// The calls that bring a new socket into a state, with what they come to.
pub(super) fn way_to(state: &str) -> &'static [(&'static str, &'static str)] {
    const BIND: (&str, &str) = ("bind", "ok");
    const CONNECT: (&str, &str) = ("connect", "ok");
    match state {
        "unbound" => &[],
        "bound" => &[BIND],
        "listening" => &[BIND, ("listen", "ok")],
        "found" => &[("listen", "ok")],
        "connecting" => &[("connect-silent", "open")],
        "leaving" => &[("bind-pod", "ok"), ("connect-silent", "open")],
        "connected" => &[CONNECT],
        "sent" => &[CONNECT, ("send", "ok")],
        "received" => &[CONNECT, ("receive", "open")],
        "closed" => &[("connect-9", "refused")],
        other => panic!("{other}"),
    }
}

// A connect that was given up leaves its socket connecting: only dropping it is left. `found` listens
// where it found a free port. What closed a socket is what it answers from then on.
const TCP: &str = "
             bind  connect listen send    receive local   remote  listens family
 unbound     ok    ok      ok     state   state   state   state   no      4
 bound       state ok      ok     state   state   ok      state   no      4
 listening   state state   state  state   state   ok      state   yes     4
 found       state state   state  state   state   ok      state   yes     4
 connecting  state state   state  state   state   state   state   no      4
 leaving     state state   state  state   state   ok      state   no      4
 connected   state state   state  ok      open    ok      ok      no      4
 sent        state state   state  state   open    ok      ok      no      4
 received    state state   state  ok      state   ok      ok      no      4
 closed      state state   state  refused refused refused refused no      4
";

const TCP_OPTIONS: &str = "
             backlog backlog-0 get     set     set-0
 unbound     ok      arg       ok      ok      arg
 bound       ok      arg       ok      ok      arg
 listening   ok      arg       ok      ok      arg
 connecting  state   arg       state   state   state
 connected   state   arg       ok      ok      arg
 closed      refused arg       refused refused refused
";

#[tokio::test]
async fn tcp_sockets_answer_as_documented_in_every_state() {
    for (state, method, expected) in cells(TCP).chain(cells(TCP_OPTIONS)) {
        let answer = play(async |face| {
            let this = new_tcp(face, IpAddressFamily::Ipv4);
            for (method, answer) in way_to(state) {
                assert_eq!(call_tcp(face, this, method).await, *answer, "{state}");
            }
            call_tcp(face, this, method).await
        });
        assert_eq!(answer.await, expected, "{method} while {state}");
    }
}
