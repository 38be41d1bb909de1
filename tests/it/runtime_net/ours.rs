//! The scripts on the sockets of a pod.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wasmorch::runtime::budget::Budget;
use wasmorch::runtime::net::{
    Conn, Error, Fabric, FabricConfig, Family, Incarnation, NoCluster, PodNet, PodNetConfig,
    TcpListener, TcpSocket, UdpSocket,
};
use wasmorch::tasks::TaskGroup;

use super::script::Op::{
    self, Accept, Bind, Close, Connect, Listen, Local, Peer, Read, ReadAll, Receive, Send, Tcp,
    Tcp6, Udp, Udp6, Write, WriteAll,
};
use super::script::{Net, describe};

pub(super) fn pod(memory: &Arc<Budget>) -> Arc<PodNet> {
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

pub(super) enum Virtual {
    Tcp(TcpSocket, Option<Arc<TcpListener>>),
    Udp(UdpSocket),
}

/// Sockets of a pod.
pub(super) struct Ours {
    pub(super) net: Arc<PodNet>,
    pub(super) container: Incarnation,
    pub(super) sockets: Vec<Option<Virtual>>,
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

fn family(is_v6: bool) -> Family {
    if is_v6 { Family::V6 } else { Family::V4 }
}

impl Net for Ours {
    fn apply(&mut self, op: Op) -> io::Result<String> {
        let owner = self.container.owner();
        match op {
            Tcp(at) | Tcp6(at) => {
                let family = family(matches!(op, Tcp6(_)));
                let socket = TcpSocket::new(&self.net, owner, family)?;
                self.put(at, Virtual::Tcp(socket, None));
            }
            Udp(at) | Udp6(at) => {
                let family = family(matches!(op, Udp6(_)));
                let socket = UdpSocket::new(&self.net, owner, family)?;
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
