//! A script of socket calls, and what is said about each so that two networks can be compared.

use std::io;
use std::net::SocketAddr;

use wasmorch::runtime::net::Shutdown;

use Op::{Bind, Send};

/// One call; the first number is the socket it is made on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Tcp(usize),
    Udp(usize),
    /// The same for IPv6 alone, as WASI has it.
    Tcp6(usize),
    Udp6(usize),
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

impl Op {
    /// The socket it is made on.
    pub(super) fn socket(self) -> usize {
        match self {
            Self::Tcp(at)
            | Self::Udp(at)
            | Self::Tcp6(at)
            | Self::Udp6(at)
            | Bind(at, ..)
            | Self::Listen(at, _)
            | Self::Connect(at, ..)
            | Self::Accept(at, _)
            | Self::Write(at, _)
            | Self::WriteAll(at)
            | Self::Read(at, _)
            | Self::ReadAll(at)
            | Self::Shutdown(at, _)
            | Self::Close(at)
            | Self::Local(at)
            | Self::Peer(at)
            | Send(at, ..)
            | Self::Receive(at) => at,
        }
    }
}

pub(super) trait Net {
    fn apply(&mut self, op: Op) -> io::Result<String>;
}

pub(super) fn run(net: &mut dyn Net, script: &[Op]) -> Vec<String> {
    let outcome = |op| net.apply(op).unwrap_or_else(|error| word(op, &error));
    script.iter().copied().map(outcome).collect()
}

/// An error in a word, where POSIX' and WASI's words differ in a common one.
pub(super) fn word(op: Op, error: &io::Error) -> String {
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

pub(super) fn describe(addr: SocketAddr) -> String {
    format!("{} {}", addr.ip(), addr.port() != 0)
}
