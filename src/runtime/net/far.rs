//! Datagrams to pods of other workers.
//!
//! One byte stream per pair of pods, opened by the first datagram and closed when none came for a
//! while; what the other pod sends back goes over a stream of its own. After the address of the
//! sending pod the stream is frames:
//!
//! ```text
//!  sender → receiver   source port u16 | target port u16 | length u16 | payload
//!  receiver → sender   source port u16 | target port u16      nobody receives there
//! ```
//!
//! It is UDP all the same: a full queue, a worker that is away, a pod without memory lose datagrams in
//! silence. What waits is charged to the sending pod, and a stream counts as one of its sockets.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::cluster::Duplex;
use super::error::Error;
use super::payload::Payload;
use super::pod_net::PodNet;
use super::udp::MAX_DATAGRAM;

/// Datagrams that may wait for a stream.
const QUEUE: usize = 64;
/// A stream that carried nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The streams of one pod, by the pod they lead to.
#[derive(Default)]
pub(super) struct Streams(Mutex<HashMap<IpAddr, mpsc::Sender<Frame>>>);

/// A datagram on its way.
struct Frame {
    source: u16,
    target: u16,
    data: Payload,
}

impl PodNet {
    /// Sends a datagram to a pod of another worker.
    pub(super) fn post_far(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        data: Vec<u8>,
    ) -> Result<(), Error> {
        let Some(data) = Payload::charge(data, &self.config.budget) else {
            return Ok(());
        };
        let frame = Frame {
            source: from.port(),
            target: to.port(),
            data,
        };
        let mut streams = self.far.0.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = match streams.get(&to.ip()) {
            None => frame,
            Some(stream) => match stream.try_send(frame) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => return Ok(()),
                Err(mpsc::error::TrySendError::Closed(frame)) => frame,
            },
        };
        streams.retain(|_, stream| !stream.is_closed());
        let stream = self.open_far(from.ip(), to.ip())?;
        // It is new and has room.
        let _ = stream.try_send(frame);
        streams.insert(to.ip(), stream);
        Ok(())
    }

    fn open_far(&self, from: IpAddr, to: IpAddr) -> Result<mpsc::Sender<Frame>, Error> {
        let taken = (self.socket_slot()?, self.descriptors.take()?);
        let (sender, frames) = mpsc::channel(QUEUE);
        let opening = self.fabric.cluster.dial_datagrams(from, to);
        let (net, stopped) = (Weak::clone(&self.myself), self.fabric.tasks.cancelled());
        let sending = async move {
            let _taken = taken;
            let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
            let stream = match opened {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%to, %error, "datagrams to a pod"),
                Err(_) => return tracing::debug!(%to, "datagrams to a pod: no answer"),
            };
            if let Err(error) = send(stream, frames, &net, from, to).await {
                tracing::debug!(%to, %error, "datagrams to a pod");
            }
        };
        self.fabric
            .tasks
            .spawn_contained("pod-datagrams", async move {
                tokio::select! {
                    () = sending => {}
                    () = stopped.cancelled() => {}
                }
            });
        Ok(sender)
    }

    /// Receives what a pod of another worker sends, until its stream ends.
    pub async fn receive_far(&self, stream: impl Duplex) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let source = read_address(&mut reader).await?;
        while let Ok(source_port) = reader.read_u16().await {
            let target_port = reader.read_u16().await?;
            let length = usize::from(reader.read_u16().await?);
            if length > MAX_DATAGRAM {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut data = vec![0; length];
            reader.read_exact(&mut data).await?;
            let from = SocketAddr::new(source, source_port);
            let to = SocketAddr::new(self.config.ip, target_port);
            if self.post_from_outside(from, to, data).is_err() {
                let refused = [source_port.to_be_bytes(), target_port.to_be_bytes()].concat();
                writer.write_all(&refused).await?;
            }
        }
        Ok(())
    }
}

async fn send(
    stream: Box<dyn Duplex>,
    mut frames: mpsc::Receiver<Frame>,
    net: &Weak<PodNet>,
    from: IpAddr,
    to: IpAddr,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    write_address(&mut writer, from).await?;
    let sending = async {
        while let Ok(Some(frame)) = tokio::time::timeout(IDLE, frames.recv()).await {
            let mut bytes = Vec::with_capacity(6 + frame.data.len());
            bytes.extend_from_slice(&frame.source.to_be_bytes());
            bytes.extend_from_slice(&frame.target.to_be_bytes());
            bytes.extend_from_slice(&(frame.data.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&frame.data);
            drop(frame);
            writer.write_all(&bytes).await?;
        }
        Ok(())
    };
    let hearing = async {
        loop {
            let source = SocketAddr::new(from, reader.read_u16().await?);
            let target = SocketAddr::new(to, reader.read_u16().await?);
            if let Some(net) = net.upgrade() {
                net.refused_far(source, target);
            }
        }
    };
    tokio::select! {
        sent = sending => sent,
        heard = hearing => heard,
    }
}

async fn write_address(writer: &mut (impl AsyncWrite + Unpin), ip: IpAddr) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(17);
    match ip {
        IpAddr::V4(ip) => {
            bytes.push(4);
            bytes.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    writer.write_all(&bytes).await
}

async fn read_address(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<IpAddr> {
    match reader.read_u8().await? {
        4 => Ok(Ipv4Addr::from_bits(reader.read_u32().await?).into()),
        6 => Ok(Ipv6Addr::from_bits(reader.read_u128().await?).into()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::OnceLock;

    use futures::future::BoxFuture;

    use super::super::fixture::addr;
    use super::super::udp::MAX_DATAGRAM_V4;
    use super::super::{
        ClusterNetwork, Fabric, FabricConfig, Family, Incarnation, PodNetConfig, Route, UdpSocket,
    };
    use super::*;
    use crate::runtime::budget::Budget;
    use crate::runtime::spec::Protocol;
    use crate::tasks::TaskGroup;

    /// Another worker, by the host's hand: its streams end in the other fabric.
    #[derive(Default)]
    struct Far(OnceLock<(Arc<Fabric>, TaskGroup)>);

    impl ClusterNetwork for Far {
        fn resolve(&self, _namespace: &str, _name: &str) -> Option<Vec<IpAddr>> {
            None
        }

        fn route(&self, _from: IpAddr, to: SocketAddr, _protocol: Protocol) -> Route {
            match to.to_string().as_str() {
                "10.43.0.53:53" => Route::Pod(addr("10.64.2.1:5353")),
                _ => Route::Pod(to),
            }
        }

        fn dial_pod(
            &self,
            _from: SocketAddr,
            _to: SocketAddr,
        ) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }

        fn dial_datagrams(
            &self,
            _from: IpAddr,
            to: IpAddr,
        ) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
            let (fabric, tasks) = self.0.get().unwrap().clone();
            Box::pin(async move {
                let pod = fabric.pod(to).ok_or(io::ErrorKind::HostUnreachable)?;
                let (near, far) = tokio::io::duplex(1 << 10);
                tasks.spawn_contained("wire", async move {
                    // It ends when its sender has gone.
                    let _ = pod.receive_far(far).await;
                });
                Ok(Box::new(near) as Box<dyn Duplex>)
            })
        }
    }

    struct Worker {
        pod: Arc<PodNet>,
        memory: Arc<Budget>,
    }

    fn workers(tasks: &TaskGroup) -> (Worker, Worker, Incarnation) {
        let networks = [Arc::new(Far::default()), Arc::new(Far::default())];
        let fabrics = networks.each_ref().map(|network| {
            let cluster = Arc::clone(network) as Arc<dyn ClusterNetwork>;
            Fabric::new(FabricConfig::new(cluster, tasks.clone()))
        });
        for (network, other) in networks.iter().zip([&fabrics[1], &fabrics[0]]) {
            assert!(network.0.set((Arc::clone(other), tasks.clone())).is_ok());
        }
        let pod = |fabric: &Arc<Fabric>, ip: &str| {
            let memory = Budget::new(1 << 20);
            let config = PodNetConfig {
                namespace: "shop".to_owned(),
                hostname: "web".to_owned(),
                ip: ip.parse().unwrap(),
                egress: false,
                max_sockets: 100,
                budget: Arc::clone(&memory),
            };
            let pod = fabric.create_pod(config).unwrap();
            Worker { pod, memory }
        };
        let (first, second) = (pod(&fabrics[0], "10.64.1.1"), pod(&fabrics[1], "10.64.2.1"));
        (first, second, Incarnation::new())
    }

    async fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr), Error> {
        let ready = poll_fn(|cx| socket.poll_receivable(cx));
        tokio::time::timeout(Duration::from_secs(20), ready)
            .await
            .expect("nothing came");
        socket.receive()
    }

    #[tokio::test]
    async fn datagrams_cross_the_wire_both_ways_also_by_a_service_address() {
        let tasks = TaskGroup::new();
        let (first, second, container) = workers(&tasks);
        let socket = |worker: &Worker| UdpSocket::new(&worker.pod, container.owner(), Family::V4);
        let (mut client, mut server) = (socket(&first).unwrap(), socket(&second).unwrap());
        server.bind(addr("0.0.0.0:5353")).unwrap();
        for to in ["10.64.2.1:5353", "10.43.0.53:53"] {
            for length in [0, 5, MAX_DATAGRAM_V4] {
                client.send(vec![7; length], Some(addr(to))).unwrap();
                let (data, from) = receive(&server).await.unwrap();
                assert_eq!((data.len(), from.ip()), (length, first.pod.ip()));
                server.send(data, Some(from)).unwrap();
                let (data, from) = receive(&client).await.unwrap();
                assert_eq!((data.len(), from), (length, addr(to)));
            }
        }
        assert_eq!((first.memory.used(), second.memory.used()), (0, 0));
    }

    #[tokio::test]
    async fn a_connected_socket_hears_that_nobody_receives_and_a_flood_is_lost() {
        let tasks = TaskGroup::new();
        let (first, _second, container) = workers(&tasks);
        let mut client = UdpSocket::new(&first.pod, container.owner(), Family::V4).unwrap();
        client.connect(addr("10.64.2.1:9")).unwrap();
        client.send(b"anybody?".to_vec(), None).unwrap();
        assert_eq!(receive(&client).await, Err(Error::ConnectionRefused));
        let mut other = UdpSocket::new(&first.pod, container.owner(), Family::V4).unwrap();
        for _ in 0..1000 {
            let sent = other.send(vec![0; 60_000], Some(addr("10.64.2.1:9")));
            assert_eq!(sent, Ok(()));
        }
        assert!(first.memory.used() <= 1 << 20);
        // A worker that is not there loses them, too.
        let sent = other.send(vec![0; 10], Some(addr("10.64.2.9:9")));
        assert_eq!(sent, Ok(()));
    }
}
