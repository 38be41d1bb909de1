//! The pod's network against the kernel's loopback: one script of socket calls, run on both, must
//! give the same observable results. And under load: no lost wake-up, no lost byte.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's support may fail the test"
)]

use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wasmorch::runtime::budget::Budget;
use wasmorch::runtime::net::{
    Conn, Error, Fabric, FabricConfig, Family, Incarnation, PodNet, PodNetConfig, Shutdown,
    TcpListener, TcpSocket, UdpSocket,
};
use wasmorch::tasks::TaskGroup;

use crate::no_cluster::NoCluster;

/// One call; the first number is the socket it is made on.
#[derive(Clone, Copy, Debug)]
enum Op {
    Tcp(usize),
    Udp(usize),
    /// Binds to an address, with the port of another socket or a free one.
    Bind(usize, &'static str, Option<usize>),
    Listen(usize, u64),
    /// Connects to an address with the port of another socket.
    Connect(usize, &'static str, usize),
    Accept(usize, usize),
    Write(usize, usize),
    /// Writes until that fails.
    WriteAll(usize),
    Read(usize, usize),
    ReadAll(usize),
    Shutdown(usize, Shutdown),
    Close(usize),
    Local(usize),
    Peer(usize),
    Send(usize, usize, Option<(&'static str, usize)>),
    Receive(usize),
}
use Op::{
    Accept, Bind, Close, Connect, Listen, Local, Peer, Read, ReadAll, Receive, Send, Tcp, Udp,
    Write, WriteAll,
};

trait Net {
    fn apply(&mut self, op: Op) -> io::Result<String>;
}

fn run(net: &mut dyn Net, script: &[Op]) -> Vec<String> {
    let outcome = |op| net.apply(op).unwrap_or_else(|error| word(op, &error));
    script.iter().copied().map(outcome).collect()
}

/// An error in a word, where POSIX' and WASI's words differ in a common one.
fn word(op: Op, error: &io::Error) -> String {
    match (op, error.kind()) {
        // Which of the two is told depends on what was called before.
        (_, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "broken".to_owned(),
        // EINVAL, but WASI's `invalid-state`.
        (Bind(..), io::ErrorKind::NotConnected) => "InvalidInput".to_owned(),
        // EMSGSIZE has no kind of its own.
        (Send(..), _) if error.raw_os_error() == Some(90) => "InvalidInput".to_owned(),
        (_, kind) => format!("{kind:?}"),
    }
}

fn describe(addr: SocketAddr) -> String {
    format!("{} {}", addr.ip(), addr.port() != 0)
}

/// Real sockets of this machine. What takes the kernel a moment is waited for, with a bound.
#[derive(Default)]
struct Kernel(Vec<Option<Socket>>);

impl Kernel {
    fn get(&self, index: usize) -> &Socket {
        self.0[index].as_ref().unwrap()
    }

    fn put(&mut self, index: usize, socket: Socket) {
        socket.set_nonblocking(true).unwrap();
        self.0.resize_with(self.0.len().max(index + 1), || None);
        self.0[index] = Some(socket);
    }

    fn addr(&self, ip: &str, port_of: usize) -> SocketAddr {
        let port = self.get(port_of).local_addr().unwrap().as_socket().unwrap();
        SocketAddr::new(ip.parse().unwrap(), port.port())
    }

    fn wait(&self, index: usize, flags: PollFlags) {
        let bound = Timespec::try_from(Duration::from_millis(100)).unwrap();
        poll(&mut [PollFd::new(self.get(index), flags)], Some(&bound)).unwrap();
    }
}

impl Net for Kernel {
    fn apply(&mut self, op: Op) -> io::Result<String> {
        match op {
            Tcp(at) => self.put(at, Socket::new(Domain::IPV4, Type::STREAM, None)?),
            Udp(at) => self.put(at, Socket::new(Domain::IPV4, Type::DGRAM, None)?),
            Bind(at, ip, port_of) => {
                let addr = match port_of {
                    Some(other) => self.addr(ip, other),
                    None => SocketAddr::new(ip.parse().unwrap(), 0),
                };
                self.get(at).bind(&addr.into())?;
            }
            Listen(at, backlog) => self.get(at).listen(backlog as i32)?,
            Connect(at, ip, port_of) => {
                let to = self.addr(ip, port_of);
                match self.get(at).connect(&to.into()) {
                    Err(error) if error.raw_os_error() == Some(115) => {
                        self.wait(at, PollFlags::OUT);
                        if let Some(error) = self.get(at).take_error()? {
                            return Err(error);
                        }
                    }
                    result => result?,
                }
            }
            Accept(at, into) => {
                self.wait(at, PollFlags::IN);
                let (socket, _) = self.get(at).accept()?;
                self.put(into, socket);
            }
            Write(at, length) => return Ok(self.get(at).write(&vec![1; length])?.to_string()),
            WriteAll(at) => loop {
                self.wait(at, PollFlags::OUT);
                self.get(at).write_all(&[1; 10])?;
            },
            Read(at, max) => {
                self.wait(at, PollFlags::IN);
                return Ok(self.get(at).read(&mut vec![0; max])?.to_string());
            }
            ReadAll(at) => {
                let mut total = 0;
                loop {
                    self.wait(at, PollFlags::IN);
                    match self.get(at).read(&mut [0; 4096]) {
                        Ok(0) => return Ok(format!("{total} end")),
                        Ok(read) => total += read,
                        Err(error) => return Ok(format!("{total} {:?}", error.kind())),
                    }
                }
            }
            Op::Shutdown(at, how) => self.get(at).shutdown(match how {
                Shutdown::Receive => std::net::Shutdown::Read,
                Shutdown::Send => std::net::Shutdown::Write,
                Shutdown::Both => std::net::Shutdown::Both,
            })?,
            Close(at) => self.0[at] = None,
            Local(at) => {
                return Ok(describe(self.get(at).local_addr()?.as_socket().unwrap()));
            }
            Peer(at) => return Ok(describe(self.get(at).peer_addr()?.as_socket().unwrap())),
            Send(at, length, to) => {
                let data = vec![1; length];
                let sent = match to {
                    Some((ip, port_of)) => self
                        .get(at)
                        .send_to(&data, &self.addr(ip, port_of).into())?,
                    None => self.get(at).send(&data)?,
                };
                return Ok(sent.to_string());
            }
            Receive(at) => {
                self.wait(at, PollFlags::IN);
                let mut buffer = vec![MaybeUninit::uninit(); 70_000];
                let (read, from) = self.get(at).recv_from(&mut buffer)?;
                return Ok(format!("{read} {}", from.as_socket().unwrap().ip()));
            }
        }
        Ok("ok".to_owned())
    }
}

fn pod(memory: &Arc<Budget>) -> Arc<PodNet> {
    let fabric = Fabric::new(FabricConfig::new(Arc::new(NoCluster), TaskGroup::new()));
    let config = PodNetConfig {
        namespace: "default".to_owned(),
        hostname: "pod".to_owned(),
        ip: "10.64.0.1".parse().unwrap(),
        egress: false,
        max_sockets: 1000,
        budget: Arc::clone(memory),
    };
    fabric.create_pod(config).unwrap()
}

enum Virtual {
    Tcp(TcpSocket, Option<Arc<TcpListener>>),
    Udp(UdpSocket),
}

/// Sockets of a pod.
struct Ours {
    net: Arc<PodNet>,
    container: Incarnation,
    sockets: Vec<Option<Virtual>>,
}

impl Ours {
    fn put(&mut self, index: usize, socket: Virtual) {
        self.sockets
            .resize_with(self.sockets.len().max(index + 1), || None);
        self.sockets[index] = Some(socket);
    }

    fn local(&self, index: usize) -> Result<SocketAddr, Error> {
        match self.sockets[index].as_ref().unwrap() {
            Virtual::Tcp(socket, _) => socket.local_addr(),
            Virtual::Udp(socket) => socket.local_addr(),
        }
    }

    fn addr(&self, ip: &str, port_of: usize) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), self.local(port_of).unwrap().port())
    }

    fn tcp(&mut self, index: usize) -> &mut TcpSocket {
        match self.sockets[index].as_mut().unwrap() {
            Virtual::Tcp(socket, _) => socket,
            Virtual::Udp(_) => panic!("not a TCP socket"),
        }
    }

    fn udp(&mut self, index: usize) -> &mut UdpSocket {
        match self.sockets[index].as_mut().unwrap() {
            Virtual::Udp(socket) => socket,
            Virtual::Tcp(..) => panic!("not a UDP socket"),
        }
    }

    fn conn(&mut self, index: usize) -> Arc<Conn> {
        Arc::clone(self.tcp(index).conn().unwrap())
    }

    fn stream(&mut self, op: Op) -> Result<String, Error> {
        match op {
            Write(at, length) => Ok(self.conn(at).try_write(&vec![1; length])?.to_string()),
            WriteAll(at) => loop {
                self.conn(at).try_write(&[1; 10])?;
            },
            Read(at, max) => Ok(self.conn(at).try_read(&mut vec![0; max])?.to_string()),
            ReadAll(at) => {
                let mut total = 0;
                loop {
                    match self.conn(at).try_read(&mut [0; 4096]) {
                        Ok(0) => return Ok(format!("{total} end")),
                        Ok(read) => total += read,
                        Err(error) => {
                            return Ok(format!("{total} {:?}", io::Error::from(error).kind()));
                        }
                    }
                }
            }
            other => panic!("{other:?} is not a stream's"),
        }
    }
}

impl Net for Ours {
    fn apply(&mut self, op: Op) -> io::Result<String> {
        let owner = self.container.owner();
        match op {
            Tcp(at) => {
                let socket = TcpSocket::new(&self.net, owner, Family::V4)?;
                self.put(at, Virtual::Tcp(socket, None));
            }
            Udp(at) => {
                let socket = UdpSocket::new(&self.net, owner, Family::V4)?;
                self.put(at, Virtual::Udp(socket));
            }
            Bind(at, ip, port_of) => {
                let addr = match port_of {
                    Some(other) => self.addr(ip, other),
                    None => SocketAddr::new(ip.parse().unwrap(), 0),
                };
                match self.sockets[at].as_mut().unwrap() {
                    Virtual::Tcp(socket, _) => socket.bind(addr)?,
                    Virtual::Udp(socket) => socket.bind(addr)?,
                }
            }
            Listen(at, backlog) => {
                // The kernel's queue holds one more than was asked for.
                self.tcp(at).set_backlog(backlog + 1)?;
                let listener = self.tcp(at).listen()?;
                if let Some(Virtual::Tcp(_, slot)) = &mut self.sockets[at] {
                    *slot = Some(listener);
                }
            }
            Connect(at, ip, port_of) => {
                let to = self.addr(ip, port_of);
                if let Virtual::Udp(socket) = self.sockets[at].as_mut().unwrap() {
                    socket.connect(to)?;
                    return Ok("ok".to_owned());
                }
                self.tcp(at).start_connect(to)?;
                let mut cx = Context::from_waker(Waker::noop());
                match self.tcp(at).poll_connected(&mut cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => panic!("the loopback takes no time"),
                }
            }
            Accept(at, into) => {
                let Some(Virtual::Tcp(_, Some(listener))) = &self.sockets[at] else {
                    panic!("not a listener");
                };
                let conn = listener.try_accept()?;
                let socket = TcpSocket::accepted(&self.net, owner, conn, listener.options());
                self.put(into, Virtual::Tcp(socket, None));
            }
            Op::Shutdown(at, how) => self.conn(at).shutdown(how),
            Close(at) => self.sockets[at] = None,
            Local(at) => return Ok(describe(self.local(at)?)),
            Peer(at) => {
                return Ok(describe(match self.sockets[at].as_ref().unwrap() {
                    Virtual::Tcp(socket, _) => socket.remote_addr()?,
                    Virtual::Udp(socket) => socket.remote_addr()?,
                }));
            }
            Send(at, length, to) => {
                let to = to.map(|(ip, port_of)| self.addr(ip, port_of));
                self.udp(at).send(vec![1; length], to)?;
                return Ok(length.to_string());
            }
            Receive(at) => {
                let (data, from) = self.udp(at).receive()?;
                return Ok(format!("{} {}", data.len(), from.ip()));
            }
            Write(..) | WriteAll(_) | Read(..) | ReadAll(_) => return Ok(self.stream(op)?),
        }
        Ok("ok".to_owned())
    }
}

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
