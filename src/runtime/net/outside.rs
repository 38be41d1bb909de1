//! Datagrams to addresses outside the cluster.
//!
//! A guest's socket that sends there gets a real one behind it, as a home router gives it a port of
//! its own: opened by the first datagram, closed when none went out for a while, open only to
//! those that the guest has sent to. It counts as one more socket of the pod, and as a descriptor
//! (`descriptors.rs`). Whether an address may be reached is
//! decided before, by the same rule as for connections.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use super::error::Error;
use super::mailbox::Mailbox;
use super::options::{Family, Options};
use super::payload::Payload;
use super::pod_net::PodNet;
use super::udp::MAX_DATAGRAM;
use crate::runtime::budget::Budget;

/// Datagrams that may wait for the real socket.
const QUEUE: usize = 16;
/// A real socket through which the guest sent nothing for so long is closed.
const IDLE: Duration = Duration::from_mins(1);
/// Outside addresses that one socket may hear from; the rest of its peers is not answered.
const MAX_PEERS: usize = 1024;

/// The way out of one socket.
pub(super) struct Outside {
    datagrams: mpsc::Sender<(SocketAddr, Payload)>,
    budget: Arc<Budget>,
    options: watch::Sender<Options>,
}

impl Outside {
    /// Opens it; what comes back goes into `mailbox`.
    pub(super) fn open(
        net: &PodNet,
        (family, options): (Family, Options),
        mailbox: &Arc<Mailbox>,
    ) -> Result<Self, Error> {
        let taken = (net.socket_slot()?, net.descriptors.take()?);
        let (sender, datagrams) = mpsc::channel(QUEUE);
        let (changes, options) = watch::channel(options);
        let mailbox = Arc::downgrade(mailbox);
        let stopped = net.fabric.tasks.cancelled();
        net.fabric
            .tasks
            .spawn_contained("outside-datagrams", async move {
                let _taken = taken;
                let carried = tokio::select! {
                    carried = carry((family, options), datagrams, &mailbox) => carried,
                    () = stopped.cancelled() => Ok(()),
                };
                if let Err(error) = carried {
                    tracing::debug!(%error, "datagrams to the outside");
                }
            });
        Ok(Self {
            datagrams: sender,
            budget: Arc::clone(&net.config.budget),
            options: changes,
        })
    }

    /// Whether it still carries anything.
    pub(super) fn is_open(&self) -> bool {
        !self.datagrams.is_closed()
    }

    /// Sets the options of the real socket.
    pub(super) fn apply(&self, options: Options) {
        self.options.send_replace(options);
    }

    /// Sends a datagram, or loses it.
    pub(super) fn send(&self, to: SocketAddr, data: Vec<u8>) {
        if let Some(data) = Payload::charge(data, &self.budget) {
            // Full is lost, as on any network.
            let _ = self.datagrams.try_send((to, data));
        }
    }
}

/// The buffer is this call's: one for each socket would be memory that nobody is charged for.
fn receive(socket: &UdpSocket) -> io::Result<(SocketAddr, Vec<u8>)> {
    let mut data = Vec::with_capacity(MAX_DATAGRAM);
    let (_, from) = socket.try_recv_buf_from(&mut data)?;
    data.shrink_to_fit();
    Ok((from, data))
}

async fn carry(
    (family, mut options): (Family, watch::Receiver<Options>),
    mut datagrams: mpsc::Receiver<(SocketAddr, Payload)>,
    mailbox: &Weak<Mailbox>,
) -> io::Result<()> {
    let any: SocketAddr = match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
        Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    options.borrow_and_update().apply(&socket, family, false)?;
    let mut peers = HashSet::new();
    let mut idle = Box::pin(tokio::time::sleep(IDLE));
    loop {
        tokio::select! {
            // What is set goes for the datagrams that are sent afterwards.
            biased;
            changed = options.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                options.borrow_and_update().apply(&socket, family, false)?;
            }
            datagram = datagrams.recv() => {
                let Some((to, data)) = datagram else { return Ok(()) };
                if peers.len() < MAX_PEERS {
                    peers.insert(to);
                }
                idle.as_mut().reset(tokio::time::Instant::now() + IDLE);
                if let Err(error) = socket.send_to(&data, to).await {
                    tracing::debug!(%to, %error, "a datagram to the outside");
                }
            }
            received = socket.async_io(Interest::READABLE, || receive(&socket)) => {
                // An unreachable peer is told here; the next datagram may go elsewhere.
                let Ok((from, data)) = received else { continue };
                let Some(mailbox) = mailbox.upgrade() else { return Ok(()) };
                if peers.contains(&from) {
                    mailbox.deliver(from, data);
                }
            }
            () = &mut idle => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::fd::AsRawFd as _;

    use super::super::fixture::World;
    use super::*;
    use crate::runtime::budget::Budget;

    #[tokio::test]
    async fn options_reach_the_real_socket_before_what_is_sent_next() {
        let world = World::new();
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, the value lives, and its size is told.
        let set = unsafe {
            libc::setsockopt(
                server.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_RECVTTL,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        let mailbox = Arc::new(Mailbox::new(1 << 20, Budget::new(1 << 20)));
        let mut options = Options::default();
        options.set_hop_limit(9).unwrap();
        let outside = Outside::open(&world.first, (Family::V4, options), &mailbox).unwrap();
        for hops in [9, 7, 255] {
            options.set_hop_limit(hops).unwrap();
            outside.apply(options);
            outside.send(server.local_addr().unwrap(), vec![hops]);
            assert_eq!(hops_of_the_next(&server).await, (hops, hops));
        }
    }

    /// What is in the next datagram, and the hops that it could have made still.
    async fn hops_of_the_next(server: &UdpSocket) -> (u8, u8) {
        loop {
            server.readable().await.unwrap();
            let (mut data, mut control) = ([0_u8], [0_u64; 8]);
            let mut buffer = libc::iovec {
                iov_base: data.as_mut_ptr().cast(),
                iov_len: data.len(),
            };
            // SAFETY: all zero is a message header without anything.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = &raw mut buffer;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control);
            // SAFETY: what the header points to lives, with the sizes that it says.
            let read = server.try_io(Interest::READABLE, || {
                match unsafe { libc::recvmsg(server.as_raw_fd(), &raw mut message, 0) } {
                    -1 => Err(io::Error::last_os_error()),
                    length => Ok(length),
                }
            });
            if read.is_ok() {
                // One control message: its length, its level and type, and the number.
                return (data[0], control[2] as u8);
            }
        }
    }

    #[tokio::test]
    async fn answers_come_back_and_strangers_are_not_heard() {
        let world = World::new();
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mailbox = Arc::new(Mailbox::new(1 << 20, Budget::new(1 << 20)));
        let outside =
            Outside::open(&world.first, (Family::V4, Options::default()), &mailbox).unwrap();
        assert_eq!(world.first.sockets(), 1);
        outside.send(server.local_addr().unwrap(), b"ask".to_vec());
        let mut buffer = [0; 10];
        let (length, from) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"ask");
        stranger.send_to(b"spam", from).await.unwrap();
        server.send_to(b"answer", from).await.unwrap();
        poll_fn(|cx| mailbox.poll_receivable(cx)).await;
        let (from, data) = mailbox.receive().unwrap();
        assert_eq!(
            (from, data.as_slice()),
            (server.local_addr().unwrap(), &b"answer"[..])
        );
        // With the guest's socket the real one goes.
        drop((outside, mailbox));
        let gone = async {
            while world.first.sockets() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone)
            .await
            .unwrap();
    }
}
