//! Sequences of socket calls that nobody thought of, on both networks.
//!
//! The same calls in the same order on every run, and a bound on their time. What is left out, because
//! WASI says otherwise than the kernel or says nothing, is what [`Player::is_out`] tells; the table of
//! these is in `docs/conformance.md`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::kernel::Kernel;
use super::ours::{Ours, pod};
use super::script::Op::{
    self, Accept, Bind, Close, Connect, Listen, Local, Peer, Read, Receive, Send, Shutdown, Tcp,
    Tcp6, Udp, Udp6, Write, WriteAll,
};
use super::script::{Net, word};
use wasmorch::runtime::budget::Budget;
use wasmorch::runtime::net::{Incarnation, Shutdown as How};

const SOCKETS: usize = 6;
const BUDGET: Duration = Duration::from_secs(8);

/// What a socket is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Listener,
    Stream,
    /// Its connection broke: the kernel says so once, ours always.
    Broken,
    /// Its connect failed, after which WASI has no use for it.
    Spent,
    Udp,
}

#[derive(Clone, Copy)]
struct Socket {
    kind: Kind,
    is_v6: bool,
    is_bound: bool,
    is_connected: bool,
}

/// What is played on both networks, and what is known of the sockets.
struct Player {
    kernel: Kernel,
    ours: Ours,
    sockets: HashMap<usize, Socket>,
    told: Vec<String>,
}

/// An address of the socket's family.
fn address(ip: usize, is_v6: bool) -> &'static str {
    match (ip % 4, is_v6) {
        (0 | 1, false) => "127.0.0.1",
        (2, false) => "127.0.0.2",
        (_, false) => "0.0.0.0",
        (0..=2, true) => "::1",
        (_, true) => "::",
    }
}

/// Errors of calls in the wrong state have many names.
fn plain(said: String) -> String {
    match said.as_str() {
        "InvalidInput" | "NotConnected" | "Uncategorized" | "Unsupported" => "wrong".to_owned(),
        _ => said,
    }
}

impl Player {
    fn new(memory: &std::sync::Arc<Budget>) -> Self {
        Self {
            kernel: Kernel::default(),
            ours: Ours {
                net: pod(memory),
                container: Incarnation::new(),
                sockets: Vec::new(),
            },
            sockets: HashMap::new(),
            told: Vec::new(),
        }
    }

    fn kind(&self, at: usize) -> Option<Kind> {
        self.sockets.get(&at).map(|socket| socket.kind)
    }

    fn is_bound(&self, at: usize) -> bool {
        self.sockets.get(&at).is_some_and(|socket| socket.is_bound)
    }

    /// The call as it suits the sockets that there are; `None` if it does not.
    fn fitted(&self, op: Op) -> Option<Op> {
        let family = |at: usize| self.sockets.get(&at).map(|socket| socket.is_v6);
        let index = |ip: &str| match ip {
            "0" => 0,
            "1" => 1,
            "2" => 2,
            _ => 3,
        };
        let specific = |ip: &str| index(ip).min(2);
        Some(match op {
            Tcp(_) | Tcp6(_) | Udp(_) | Udp6(_) => op,
            Bind(at, ip, port_of) => {
                if self.kind(at) == Some(Kind::Spent) {
                    return None;
                }
                let port_of = port_of.filter(|other| self.is_bound(*other));
                Bind(at, address(index(ip), family(at)?), port_of)
            }
            Connect(at, ip, port_of) => {
                if !self.is_bound(port_of) || self.is_out(at, port_of) {
                    return None;
                }
                Connect(at, address(specific(ip), family(at)?), port_of)
            }
            Send(at, length, to) => {
                let socket = self.sockets.get(&at)?;
                let to = to.filter(|(_, port_of)| !socket.is_connected && self.is_bound(*port_of));
                let to = to.map(|(ip, port_of)| (address(specific(ip), socket.is_v6), port_of));
                // A kernel's socket is bound even by a send to nowhere.
                let is_sendable = socket.is_connected || to.is_some();
                (socket.kind == Kind::Udp && is_sendable).then_some(Send(at, length, to))?
            }
            Receive(at) => {
                let is_udp = self.kind(at) == Some(Kind::Udp);
                // Nothing comes to a socket without an address; WASI says so, the kernel waits.
                (is_udp && self.is_bound(at)).then_some(op)?
            }
            Accept(at, _) => (self.kind(at) == Some(Kind::Listener)).then_some(op)?,
            Listen(at, _) => match self.kind(at)? {
                Kind::Tcp | Kind::Stream => op,
                // The kernel changes the backlog.
                Kind::Listener | Kind::Broken | Kind::Spent | Kind::Udp => return None,
            },
            Read(at, _) | Write(at, _) | Shutdown(at, _) | Peer(at) => {
                (self.kind(at)? == Kind::Stream).then_some(op)?
            }
            Local(at) => self.is_bound(at).then_some(op)?,
            Close(at) => self.sockets.contains_key(&at).then_some(op)?,
            WriteAll(_) | Op::ReadAll(_) => return None,
        })
    }

    /// Whether a connection of the one to the other's port is left out: a kernel's socket may be
    /// connected to itself, and one that is connected or listens says so in other words.
    fn is_out(&self, at: usize, port_of: usize) -> bool {
        let port = |at: usize| self.kernel.local(at).map(|local| local.port());
        let is_free = matches!(self.kind(at), Some(Kind::Tcp | Kind::Udp));
        !is_free
            || self.kind(at) == Some(Kind::Tcp) && self.is_bound(at) && port(at) == port(port_of)
    }

    /// Plays one call on both.
    fn play(&mut self, op: Op) -> Result<(), TestCaseError> {
        let Some(op) = self.fitted(op) else {
            return Ok(());
        };
        if let Connect(at, ..) = op
            && self.kind(at) == Some(Kind::Udp)
        {
            self.drain(at)?;
        }
        self.both(op).map(drop)
    }

    /// A socket that is to hear one peer only has heard all others: what the kernel keeps, WASI drops.
    fn drain(&mut self, at: usize) -> Result<(), TestCaseError> {
        while self.is_bound(at) && self.both(Receive(at))? != "WouldBlock" {}
        Ok(())
    }

    fn both(&mut self, op: Op) -> Result<String, TestCaseError> {
        let said = |net: &mut dyn Net, op| net.apply(op).unwrap_or_else(|error| word(op, &error));
        let got = plain(said(&mut self.ours, op));
        // What ours has, the kernel shall have in a while; what ours has not is not waited for.
        self.kernel.patience = match got.as_str() {
            "WouldBlock" => Duration::from_millis(1),
            _ => Duration::from_secs(5),
        };
        // The kernel takes a first write to a socket that is gone, to find out.
        let tried = match op {
            Write(at, _) if got == "broken" => WriteAll(at),
            op => op,
        };
        let expected = plain(said(&mut self.kernel, tried));
        self.told.push(format!("{op:?}: {got}"));
        if self.kernel.is_disturbed {
            return Ok(got);
        }
        // A kernel forgets a connection that both ends have closed.
        if matches!(op, Peer(_) | Shutdown(..)) && expected == "wrong" {
            return Ok(got);
        }
        let told = self.told.join("\n");
        prop_assert_eq!(&got, &expected, "ours, the kernel's; after\n{}", told);
        self.note(op, &got);
        Ok(got)
    }

    fn note(&mut self, op: Op, got: &str) {
        let new = |kind, is_v6| Socket {
            kind,
            is_v6,
            is_bound: false,
            is_connected: false,
        };
        let (at, is_ok) = (op.socket(), got == "ok");
        match op {
            Tcp(_) | Tcp6(_) => {
                self.sockets
                    .insert(at, new(Kind::Tcp, matches!(op, Tcp6(_))));
            }
            Udp(_) | Udp6(_) => {
                self.sockets
                    .insert(at, new(Kind::Udp, matches!(op, Udp6(_))));
            }
            Close(_) => {
                self.sockets.remove(&at);
            }
            Accept(at, into) if is_ok => {
                let is_v6 = self.sockets[&at].is_v6;
                self.sockets.insert(
                    into,
                    Socket {
                        is_bound: true,
                        is_connected: true,
                        ..new(Kind::Stream, is_v6)
                    },
                );
            }
            _ => {}
        }
        let Some(socket) = self.sockets.get_mut(&at) else {
            return;
        };
        match op {
            Bind(..) => socket.is_bound |= is_ok,
            Listen(..) if is_ok => (socket.kind, socket.is_bound) = (Kind::Listener, true),
            Send(..) if got != "wrong" => socket.is_bound = true,
            Connect(..) if socket.kind == Kind::Udp => {
                socket.is_bound |= is_ok;
                socket.is_connected |= is_ok;
            }
            Connect(..) if is_ok => {
                *socket = Socket {
                    kind: Kind::Stream,
                    is_bound: true,
                    is_connected: true,
                    ..*socket
                };
            }
            Connect(..) if got != "wrong" => (socket.kind, socket.is_bound) = (Kind::Spent, false),
            Read(..) | Write(..) if got == "broken" => socket.kind = Kind::Broken,
            _ => {}
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..SOCKETS;
    let ip = || prop_oneof![Just("0"), Just("1"), Just("2"), Just("3")];
    let how = Just(How::Send);
    prop_oneof![
        4 => at().prop_map(Tcp),
        1 => at().prop_map(Tcp6),
        3 => at().prop_map(Udp),
        1 => at().prop_map(Udp6),
        6 => (at(), ip(), prop::option::of(at())).prop_map(|(at, ip, of)| Bind(at, ip, of)),
        4 => at().prop_map(|at| Listen(at, 1000)),
        8 => (at(), ip(), at()).prop_map(|(at, ip, of)| Connect(at, ip, of)),
        6 => (at(), at()).prop_map(|(at, into)| Accept(at, into)),
        6 => (at(), 1..2000_usize).prop_map(|(at, length)| Write(at, length)),
        6 => (at(), 1..3000_usize).prop_map(|(at, length)| Read(at, length)),
        2 => (at(), how).prop_map(|(at, how)| Shutdown(at, how)),
        2 => at().prop_map(Close),
        1 => at().prop_map(Local),
        1 => at().prop_map(Peer),
        6 => (at(), 0..2000_usize, prop::option::weighted(0.8, (ip(), at())))
            .prop_map(|(at, length, to)| Send(at, length, to)),
        6 => at().prop_map(Receive),
    ]
}

#[test]
fn random_calls_behave_like_the_kernels() {
    let config = Config {
        cases: 400,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let started = Instant::now();
    let played = runner.run(&prop::collection::vec(op(), 1..80), |ops| {
        // Fewer on a slow machine, never others.
        if started.elapsed() > BUDGET {
            return Ok(());
        }
        let memory = Budget::new(1 << 30);
        let mut player = Player::new(&memory);
        for op in ops {
            player.play(op)?;
            // What follows would be told of two different states.
            if player.kernel.is_disturbed {
                break;
            }
        }
        drop(player);
        prop_assert_eq!(memory.used(), 0, "memory given back");
        Ok(())
    });
    match played {
        Ok(()) => {}
        Err(TestError::Fail(why, _)) => panic!("{why}"),
        Err(error) => panic!("{error}"),
    }
}
