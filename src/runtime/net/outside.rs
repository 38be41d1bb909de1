//! Datagrams to addresses outside the cluster.
//!
//! A guest's socket that sends there gets a real one behind it, as a home router gives it a port of
//! its own: opened by the first datagram, closed when none went out for a while, open only to
//! those that the guest has sent to. This is the one place where a virtual socket costs a descriptor
//! of the host, so it counts as one more socket of the pod. Whether an address may be reached is
//! decided before, by the same rule as for connections.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::error::Error;
use super::mailbox::Mailbox;
use super::options::{Family, Options};
use super::pod_net::PodNet;
use super::udp::MAX_DATAGRAM;

/// Datagrams that may wait for the real socket.
const QUEUE: usize = 16;
/// A real socket through which the guest sent nothing for so long is closed.
const IDLE: Duration = Duration::from_mins(1);
/// Outside addresses that one socket may hear from; the rest of its peers is not answered.
const MAX_PEERS: usize = 1024;

/// The way out of one socket.
pub(super) struct Outside(mpsc::Sender<(SocketAddr, Vec<u8>)>);

impl Outside {
    /// Opens it; what comes back goes into `mailbox`.
    pub(super) fn open(
        net: &PodNet,
        (family, options): (Family, Options),
        mailbox: &Arc<Mailbox>,
    ) -> Result<Self, Error> {
        let slot = net.socket_slot()?;
        let (sender, datagrams) = mpsc::channel(QUEUE);
        let mailbox = Arc::downgrade(mailbox);
        let stopped = net.fabric.tasks.cancelled();
        net.fabric
            .tasks
            .spawn_contained("outside-datagrams", async move {
                let _slot = slot;
                let carried = tokio::select! {
                    carried = carry((family, options), datagrams, &mailbox) => carried,
                    () = stopped.cancelled() => Ok(()),
                };
                if let Err(error) = carried {
                    tracing::debug!(%error, "datagrams to the outside");
                }
            });
        Ok(Self(sender))
    }

    /// Whether it still carries anything.
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Sends a datagram, or loses it.
    pub(super) fn send(&self, to: SocketAddr, data: Vec<u8>) {
        // Full is lost, as on any network.
        let _ = self.0.try_send((to, data));
    }
}

async fn carry(
    (family, options): (Family, Options),
    mut datagrams: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    mailbox: &Weak<Mailbox>,
) -> io::Result<()> {
    let any: SocketAddr = match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
        Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    options.apply(&socket, family, false)?;
    let mut peers = HashSet::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut idle = Box::pin(tokio::time::sleep(IDLE));
    loop {
        tokio::select! {
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
            received = socket.recv_from(&mut buffer) => {
                // An unreachable peer is told here; the next datagram may go elsewhere.
                let Ok((length, from)) = received else { continue };
                let Some(mailbox) = mailbox.upgrade() else { return Ok(()) };
                if peers.contains(&from) {
                    mailbox.deliver(from, buffer[..length].to_vec());
                }
            }
            () = &mut idle => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::super::fixture::World;
    use super::*;
    use crate::runtime::budget::Budget;

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
