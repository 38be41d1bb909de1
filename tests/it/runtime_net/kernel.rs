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

#[derive(Default)]
pub(super) struct Kernel(Vec<Option<Socket>>);

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
