//! The pod's network against the kernel's loopback: one script of socket calls, run on both, must
//! give the same observable results. And under load: no lost wake-up, no lost byte.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's support may fail the test"
)]

mod kernel;
mod ours;
mod random;
mod script;

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wasmorch::runtime::budget::Budget;
use wasmorch::runtime::net::{Incarnation, Shutdown};
use wasmorch::tasks::TaskGroup;

use kernel::Kernel;
use ours::{Ours, pod};
use script::Op::{
    self, Accept, Bind, Close, Connect, Listen, Local, Peer, Read, ReadAll, Receive, Send, Tcp,
    Tcp6, Udp, Udp6, Write, WriteAll,
};
use script::run;

fn check(name: &str, script: &[Op]) {
    let memory = Budget::new(1 << 30);
    let mut ours = Ours {
        net: pod(&memory),
        container: Incarnation::new(),
        sockets: Vec::new(),
    };
    let expected = run(&mut Kernel::default(), script);
    let got = run(&mut ours, script);
    for (index, op) in script.iter().enumerate() {
        assert_eq!(got[index], expected[index], "{name}: step {index}, {op:?}");
    }
    drop(ours);
    assert_eq!(memory.used(), 0, "{name}: memory given back");
}

/// Socket 0 listens, 1 is connected to it, 2 is the accepted end.
const CONNECTED: [Op; 6] = [
    Tcp(0),
    Bind(0, "127.0.0.1", None),
    Listen(0, 8),
    Tcp(1),
    Connect(1, "127.0.0.1", 0),
    Accept(0, 2),
];

fn check_connected(name: &str, script: &[Op]) {
    check(name, &[&CONNECTED[..], script].concat());
}

#[test]
fn streams_behave_like_the_kernels() {
    check_connected("echo", &[Write(1, 5), Read(2, 9), Write(2, 5), Read(1, 9)]);
    check_connected(
        "partial reads",
        &[Write(1, 5), Read(2, 2), Read(2, 9), Read(2, 9)],
    );
    check_connected("nothing to read", &[Read(1, 1), Read(2, 1)]);
    check_connected(
        "addresses",
        &[Local(0), Local(1), Peer(1), Local(2), Peer(2), Peer(0)],
    );
    check_connected(
        "half-close",
        &[
            Write(1, 5),
            Op::Shutdown(1, Shutdown::Send),
            Write(1, 1),
            ReadAll(2),
            Read(2, 1),
            Write(2, 7),
            Read(1, 9),
            Close(2),
            Read(1, 9),
        ],
    );
    check_connected(
        "shutdown of both",
        &[
            Write(2, 3),
            Op::Shutdown(1, Shutdown::Both),
            Read(2, 9),
            Write(1, 1),
        ],
    );
    check_connected(
        "half-close of the answering side",
        &[
            Op::Shutdown(2, Shutdown::Send),
            Read(1, 9),
            Write(1, 4),
            Read(2, 9),
            Write(2, 1),
            Close(1),
            Read(2, 9),
        ],
    );
    check_connected(
        "shut down for reading, still written to",
        &[
            Op::Shutdown(1, Shutdown::Receive),
            Read(1, 9),
            Write(2, 3),
            Write(1, 2),
            Read(2, 9),
        ],
    );
    check_connected(
        "both sides finish",
        &[
            Op::Shutdown(1, Shutdown::Send),
            Op::Shutdown(2, Shutdown::Send),
            Read(1, 9),
            Read(2, 9),
            Close(1),
            Close(2),
        ],
    );
    check_connected("close", &[Write(2, 3), Close(2), ReadAll(1), WriteAll(1)]);
    check_connected(
        "close with unread bytes",
        &[Write(1, 3), Close(2), Read(1, 9)],
    );
    check_connected(
        "bytes before a reset",
        &[Write(2, 4), Write(1, 3), Close(2), Read(1, 9), Read(1, 9)],
    );
    check_connected("write to a reset", &[Write(1, 3), Close(2), WriteAll(1)]);
    check_connected(
        "the listener goes, connections stay",
        &[Close(0), Write(1, 3), Read(2, 9), Close(1), Read(2, 9)],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of scripts")]
fn listeners_behave_like_the_kernels() {
    let cases: [(&str, &[Op]); 8] = [
        (
            "in use",
            &[
                Tcp(0),
                Bind(0, "127.0.0.1", None),
                Tcp(1),
                Bind(1, "127.0.0.1", Some(0)),
            ],
        ),
        (
            "wildcard over specific",
            &[
                Tcp(0),
                Bind(0, "127.0.0.1", None),
                Tcp(1),
                Bind(1, "0.0.0.0", Some(0)),
            ],
        ),
        (
            "specific under wildcard",
            &[
                Tcp(0),
                Bind(0, "0.0.0.0", None),
                Listen(0, 1),
                Tcp(1),
                Bind(1, "127.0.0.1", Some(0)),
            ],
        ),
        (
            "side by side",
            &[
                Tcp(0),
                Bind(0, "127.0.0.1", None),
                Listen(0, 1),
                Tcp(1),
                Bind(1, "127.0.0.2", Some(0)),
                Tcp(2),
                Connect(2, "127.0.0.2", 0),
            ],
        ),
        (
            "wildcard answers everywhere",
            &[
                Tcp(0),
                Bind(0, "0.0.0.0", None),
                Listen(0, 1),
                Tcp(1),
                Connect(1, "127.0.0.9", 0),
                Accept(0, 2),
                Local(1),
                Local(2),
            ],
        ),
        (
            "twice",
            &[
                Tcp(0),
                Bind(0, "127.0.0.1", None),
                Bind(0, "127.0.0.1", None),
            ],
        ),
        ("not ours", &[Tcp(0), Bind(0, "192.0.2.1", None)]),
        (
            "free again",
            &[
                Tcp(0),
                Bind(0, "127.0.0.1", None),
                Listen(0, 1),
                Tcp(1),
                Tcp(2),
                Bind(2, "127.0.0.2", Some(0)),
                Close(0),
                Bind(1, "127.0.0.1", Some(2)),
                Listen(1, 1),
            ],
        ),
    ];
    for (name, script) in cases {
        check(name, script);
    }
    check(
        "nobody listens",
        &[
            Tcp(0),
            Bind(0, "127.0.0.1", None),
            Tcp(1),
            Connect(1, "127.0.0.1", 0),
        ],
    );
    check(
        "free ports are different ones",
        &[
            Tcp(0),
            Bind(0, "127.0.0.1", None),
            Tcp(1),
            Bind(1, "127.0.0.1", None),
            Listen(0, 1),
            Listen(1, 1),
            Tcp(2),
            Connect(2, "127.0.0.1", 1),
            Accept(0, 3),
            Accept(1, 3),
        ],
    );
    check_connected("nothing to accept", &[Accept(0, 3)]);
    check_connected(
        "waiting connections are reset with their listener",
        &[Tcp(3), Connect(3, "127.0.0.1", 0), Close(0), Read(3, 9)],
    );
}

#[test]
fn datagrams_behave_like_the_kernels() {
    let pair = [
        Udp(0),
        Bind(0, "127.0.0.1", None),
        Udp(1),
        Bind(1, "0.0.0.0", None),
    ];
    let to_first = Some(("127.0.0.1", 0));
    let cases: [(&str, &[Op]); 7] = [
        (
            "whole or nothing",
            &[
                Send(1, 5, to_first),
                Send(1, 0, to_first),
                Receive(0),
                Receive(0),
                Receive(0),
            ],
        ),
        (
            "too large",
            &[
                Send(1, 65_507, to_first),
                Receive(0),
                Send(1, 65_508, to_first),
            ],
        ),
        (
            "in use",
            &[
                Udp(2),
                Bind(2, "127.0.0.1", Some(1)),
                Bind(2, "127.0.0.2", Some(0)),
            ],
        ),
        (
            "connected",
            &[
                Connect(1, "127.0.0.1", 0),
                Local(1),
                Peer(1),
                Send(1, 3, None),
                Receive(0),
            ],
        ),
        (
            "strangers are not heard",
            &[
                Connect(1, "127.0.0.1", 0),
                Udp(2),
                Bind(2, "127.0.0.1", None),
                Send(2, 3, Some(("127.0.0.1", 1))),
                Receive(1),
                Send(0, 4, Some(("127.0.0.1", 1))),
                Receive(1),
            ],
        ),
        (
            "refusal is told to the connected",
            &[
                Connect(1, "127.0.0.1", 0),
                Close(0),
                Send(1, 3, None),
                Receive(1),
                Receive(1),
            ],
        ),
        ("no peer", &[Peer(1)]),
    ];
    for (name, script) in cases {
        check(name, &[&pair[..], script].concat());
    }
}

#[test]
fn the_two_families_behave_like_the_kernels() {
    let both = [
        Tcp6(0),
        Bind(0, "::", None),
        Listen(0, 8),
        Tcp(1),
        Bind(1, "0.0.0.0", Some(0)),
        Listen(1, 8),
    ];
    let cases: [(&str, &[Op]); 6] = [
        (
            "each answers its own",
            &[
                Tcp6(2),
                Connect(2, "::1", 0),
                Accept(0, 3),
                Accept(1, 4),
                Tcp(5),
                Connect(5, "127.0.0.1", 0),
                Accept(1, 6),
                Local(2),
                Peer(2),
                Local(3),
                Peer(6),
            ],
        ),
        ("gone", &[Close(1), Tcp(2), Connect(2, "127.0.0.1", 0)]),
        ("in use", &[Tcp6(2), Bind(2, "::1", Some(0))]),
        ("not ours", &[Tcp6(2), Bind(2, "2001:db8::1", None)]),
        (
            "datagrams",
            &[
                Udp6(2),
                Bind(2, "::1", None),
                Udp6(3),
                Bind(3, "::", None),
                Send(3, 4, Some(("::1", 2))),
                Receive(2),
                Connect(3, "::1", 2),
                Local(3),
                Udp(4),
                Bind(4, "127.0.0.1", Some(2)),
            ],
        ),
        (
            "refused, and a port of one's own",
            &[
                Tcp6(2),
                Bind(2, "::1", None),
                Tcp6(3),
                Connect(3, "::1", 2),
                Tcp6(4),
                Connect(4, "::1", 0),
                Local(4),
            ],
        ),
    ];
    for (name, script) in cases {
        check(name, &[&both[..], script].concat());
    }
}

/// Other tests open descriptors beside this one, so it runs once more, alone.
#[tokio::test]
async fn a_thousand_virtual_connections_take_no_descriptor_of_the_host() {
    const NAME: &str = "runtime_net::a_thousand_virtual_connections_take_no_descriptor_of_the_host";
    const ALONE: &str = "WASMORCH_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let alone = alone
            .args(["--exact", NAME])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(
            alone.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let memory = Budget::new(64 << 20);
    let net = pod(&memory);
    let container = Incarnation::new();
    let listener = net.preopen(80, container.owner()).unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut connections = Vec::new();
    for _ in 0..1000 {
        let client = net.connect(container.owner(), "127.0.0.1:80".parse().unwrap());
        connections.push((client.await.unwrap(), listener.try_accept().unwrap()));
    }
    for (client, server) in &connections {
        client.try_write(b"x").unwrap();
        server.try_write(b"y").unwrap();
    }
    assert_eq!(descriptors(), before);
    assert!(memory.used() > 0);
}

/// Both directions at once over every core, with a limit that makes both sides wait often.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_byte_and_no_wake_up_is_lost() {
    const TOTAL: usize = 2 << 20;
    let memory = Budget::new(1 << 20);
    let net = pod(&memory);
    let container = Incarnation::new();
    let listener = net.preopen(80, container.owner()).unwrap();
    for _ in 0..4 {
        let client = net.connect(container.owner(), "127.0.0.1:80".parse().unwrap());
        poll_fn(|cx| listener.poll_acceptable(cx)).await;
        let (client, server) = (client.await.unwrap(), listener.try_accept().unwrap());
        let both = [client, server].map(|conn| {
            let (mut reader, mut writer) = tokio::io::split(conn);
            let sent = async move {
                let mut next = 0_usize;
                while next < TOTAL {
                    let end = (next + 1 + next % 9973).min(TOTAL);
                    let block: Vec<u8> = (next..end).map(|at| (at % 251) as u8).collect();
                    writer.write_all(&block).await.unwrap();
                    next = end;
                }
                writer.shutdown().await.unwrap();
            };
            let received = async move {
                let mut at = 0_usize;
                let mut buffer = vec![0; 5000];
                loop {
                    let read = reader.read(&mut buffer).await.unwrap();
                    if read == 0 {
                        return at;
                    }
                    assert!(
                        (at..)
                            .zip(&buffer[..read])
                            .all(|(at, byte)| *byte == (at % 251) as u8)
                    );
                    at += read;
                }
            };
            let tasks = TaskGroup::new();
            (tasks.spawn("sender", sent), received)
        });
        let [(_, first), (_, second)] = both;
        let all = tokio::time::timeout(Duration::from_secs(30), async {
            tokio::join!(first, second)
        });
        assert_eq!(all.await.expect("a wake-up was lost"), (TOTAL, TOTAL));
    }
    drop(container);
    assert_eq!(memory.used(), 0);
}
