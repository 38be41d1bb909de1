//! The scripts on real sockets of this machine. What takes the kernel a moment is waited for, with a
//! bound.

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use wasmorch::runtime::net::Shutdown;

use super::script::Op::{
    self, Accept, Bind, Close, Connect, Listen, Local, Peer, Read, ReadAll, Receive, Send, Tcp,
    Tcp6, Udp, Udp6, Write, WriteAll,
};
use super::script::{Net, describe};

pub(super) struct Kernel {
    sockets: Vec<Option<Socket>>,
    /// Those that hold no address of their own: a listener gave it to them.
    accepted: Vec<usize>,
    /// An address was in use by a program that has nothing to do with the script.
    pub(super) is_disturbed: bool,
    /// How long it is waited for what the kernel takes a moment for.
    pub(super) patience: Duration,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            sockets: Vec::new(),
            accepted: Vec::new(),
            is_disturbed: false,
            patience: Duration::from_millis(100),
        }
    }
}

impl Kernel {
    fn get(&self, index: usize) -> &Socket {
        self.sockets[index].as_ref().unwrap()
    }

    fn put(&mut self, index: usize, socket: Socket) {
        socket.set_nonblocking(true).unwrap();
        self.sockets
            .resize_with(self.sockets.len().max(index + 1), || None);
        self.close(index);
        self.sockets[index] = Some(socket);
    }

    fn close(&mut self, index: usize) {
        self.sockets[index] = None;
        self.accepted.retain(|accepted| *accepted != index);
    }

    /// A socket's address, if it has one.
    pub(super) fn local(&self, index: usize) -> Option<SocketAddr> {
        let local = self.sockets.get(index)?.as_ref()?.local_addr().ok()?;
        local.as_socket().filter(|local| local.port() != 0)
    }

    /// As WASI asks for it: what was connected there before does not keep an address from being taken,
    /// but who holds it does.
    fn bind(&mut self, index: usize, addr: SocketAddr) -> io::Result<()> {
        let is_held = self.is_held(index, addr)?;
        let socket = self.get(index);
        let is_stream = socket.r#type()? == Type::STREAM;
        let is_in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
        let mut bound = socket.bind(&addr.into());
        if is_stream && !is_held && bound.as_ref().is_err_and(is_in_use) {
            socket.set_reuse_address(true)?;
            bound = socket.bind(&addr.into());
        }
        socket.set_reuse_address(is_stream)?;
        self.is_disturbed |= !is_held && bound.as_ref().is_err_and(is_in_use);
        bound
    }

    fn addr(&self, ip: &str, port_of: usize) -> SocketAddr {
        let port = self.get(port_of).local_addr().unwrap().as_socket().unwrap();
        SocketAddr::new(ip.parse().unwrap(), port.port())
    }

    fn wait(&self, index: usize, flags: PollFlags) {
        let bound = Timespec::try_from(self.patience).unwrap();
        poll(&mut [PollFd::new(self.get(index), flags)], Some(&bound)).unwrap();
    }

    /// Whether another socket of the script holds the address.
    fn is_held(&self, index: usize, addr: SocketAddr) -> io::Result<bool> {
        let kind = self.get(index).r#type()?;
        let meets = |other: SocketAddr| {
            let is_any = other.ip().is_unspecified() || addr.ip().is_unspecified();
            other.port() == addr.port()
                && other.is_ipv4() == addr.is_ipv4()
                && (is_any || other.ip() == addr.ip())
        };
        Ok((0..self.sockets.len()).any(|other| {
            let is_like = |socket: &Socket| socket.r#type().is_ok_and(|it| it == kind);
            other != index
                && !self.accepted.contains(&other)
                && self.sockets[other].as_ref().is_some_and(is_like)
                && self.local(other).is_some_and(meets)
        }))
    }
}

fn only_v6(kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind, None)?;
    socket.set_only_v6(true)?;
    Ok(socket)
}

impl Net for Kernel {
    fn apply(&mut self, op: Op) -> io::Result<String> {
        match op {
            Tcp(at) => self.put(at, Socket::new(Domain::IPV4, Type::STREAM, None)?),
            Udp(at) => self.put(at, Socket::new(Domain::IPV4, Type::DGRAM, None)?),
            Tcp6(at) => self.put(at, only_v6(Type::STREAM)?),
            Udp6(at) => self.put(at, only_v6(Type::DGRAM)?),
            Bind(at, ip, port_of) => {
                let addr = match port_of {
                    Some(other) => self.addr(ip, other),
                    None => SocketAddr::new(ip.parse().unwrap(), 0),
                };
                self.bind(at, addr)?;
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
                self.accepted.push(into);
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
            Close(at) => self.close(at),
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
