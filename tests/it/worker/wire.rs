//! Between the pods of two workers, over their real wires: datagrams, and who is let in.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use wasmorch::api::subnet::Subnet;
use wasmorch::clock::Clock;
use wasmorch::router::dial::{self, Dialer};
use wasmorch::router::tunnel::{Answer, Source};
use wasmorch::runtime::net::{
    Block, ClusterNetwork, Duplex, Error, Family, Incarnation, PeerSet, Peers, Route, Rule, Rules,
    TcpSocket, UdpSocket,
};
use wasmorch::runtime::spec::Protocol;
use wasmorch::runtime::{self, PodSandbox, Runtime};
use wasmorch::tasks::TaskGroup;
use wasmorch::worker::fence::Fence;
use wasmorch::worker::specs;
use wasmorch::worker::wire::{Listeners, Wire};

use super::harness::within;

const SECRET: &[u8] = b"the cluster's";
const PORT: u16 = 5300;

/// Every pod's worker by its wire address.
struct Network {
    wires: Arc<OnceLock<HashMap<IpAddr, SocketAddr>>>,
    dialer: Arc<Dialer>,
}

impl ClusterNetwork for Network {
    fn resolve(&self, _namespace: &str, _name: &str) -> Option<Vec<IpAddr>> {
        None
    }

    fn route(&self, _from: IpAddr, to: SocketAddr, _protocol: Protocol) -> Route {
        Route::Pod(to)
    }

    fn dial_pod(
        &self,
        _from: SocketAddr,
        _to: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) })
    }

    fn dial_datagrams(
        &self,
        from: IpAddr,
        to: IpAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        let wire = self.wires.get().unwrap()[&to].to_string();
        let dialer = Arc::clone(&self.dialer);
        Box::pin(async move {
            let opened = dialer.open_datagrams(&wire, from, to).await;
            let stream = opened.map_err(std::io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }
}

/// A worker's runtime and wire, and its one pod.
struct Side {
    pod: Arc<PodSandbox>,
    wire: SocketAddr,
    container: Incarnation,
    _directory: tempfile::TempDir,
}

impl Side {
    fn start(address: &str, network: Network, tasks: &TaskGroup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = runtime::Config {
            cache_dir: directory.path().to_owned(),
            max_instances: 10,
            tasks: tasks.child(),
        };
        let runtime = Runtime::new(config, Arc::new(network)).unwrap();
        let object: Pod = serde_json::from_value(json!({
            "metadata": {"name": address, "namespace": "default", "uid": address},
            "spec": {"containers": [{"name": "main"}]}}))
        .unwrap();
        let spec = specs::sandbox(&object, address.parse().unwrap(), Vec::new());
        let pod = runtime.create_sandbox(spec).unwrap();
        let fence = Arc::new(Fence::new(Duration::from_mins(1), Clock::system()));
        fence.reopen();
        let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let wire = listeners.address();
        let secret = SECRET.to_vec();
        let served = Wire {
            runtime,
            secret,
            fence,
        };
        listeners.serve(&Arc::new(served), tasks).unwrap();
        Self {
            pod,
            wire,
            container: Incarnation::new(),
            _directory: directory,
        }
    }

    fn socket(&self) -> UdpSocket {
        UdpSocket::new(self.pod.net(), self.container.owner(), Family::V4).unwrap()
    }
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    loop {
        within(poll_fn(|cx| socket.poll_receivable(cx))).await;
        match socket.receive() {
            Err(Error::WouldBlock) => {}
            received => return received.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_go_there_and_back_and_nobody_else_may_send_any() {
    let tasks = TaskGroup::new();
    let wires = Arc::new(OnceLock::new());
    let network = |secret: &[u8]| {
        let dialer = Arc::new(Dialer::new(None));
        dialer.set_secret(secret.to_vec());
        let wires = Arc::clone(&wires);
        Network { wires, dialer }
    };
    let server_side = Side::start("10.64.0.1", network(SECRET), &tasks);
    let client_side = Side::start("10.64.32.1", network(SECRET), &tasks);
    let strange_side = Side::start("10.64.64.1", network(b"another"), &tasks);
    let sides = [&server_side, &client_side, &strange_side];
    let known = sides.map(|side| (side.pod.net().ip(), side.wire));
    wires.set(HashMap::from(known)).unwrap();

    let mut server = server_side.socket();
    server.bind(SocketAddr::from(([0, 0, 0, 0], PORT))).unwrap();
    let to = SocketAddr::new(server_side.pod.net().ip(), PORT);
    let mut stranger = strange_side.socket();
    stranger.send(b"let me in".to_vec(), Some(to)).unwrap();
    let mut client = client_side.socket();
    client.connect(to).unwrap();
    let sizes = [0, 1, 1500, 65_507];
    for size in sizes {
        let sent = vec![size as u8; size];
        client.send(sent.clone(), None).unwrap();
        let (asked, from) = receive(&server).await;
        assert!(asked == sent, "{} bytes for {size}", asked.len());
        assert_eq!(from, client.local_addr().unwrap());
        server.send(asked, Some(from)).unwrap();
        let (answer, from) = receive(&client).await;
        assert!(answer == sent && from == to, "{} from {from}", answer.len());
    }
    // Whoever is connected learns that nobody is there any more.
    drop(server);
    client.send(b"anybody?".to_vec(), None).unwrap();
    let told = async {
        loop {
            poll_fn(|cx| client.poll_receivable(cx)).await;
            match client.receive() {
                Err(Error::WouldBlock) => {}
                told => return told,
            }
        }
    };
    assert_eq!(within(told).await, Err(Error::ConnectionRefused));
    tasks.cancel();
}

/// Rules that let in whom `range` covers.
fn from(range: &str) -> Arc<Rules> {
    let set = PeerSet {
        blocks: vec![Block {
            range: Subnet::parse(range).unwrap(),
            except: Vec::new(),
        }],
        ..PeerSet::default()
    };
    Arc::new(Rules {
        ingress: Some(vec![Rule {
            peers: Peers::These(Arc::new(set)),
            ports: None,
        }]),
        egress: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_is_decided_at_the_other_end() {
    let tasks = TaskGroup::new();
    let wires = Arc::new(OnceLock::new());
    let dialer = Arc::new(Dialer::new(None));
    dialer.set_secret(SECRET.to_vec());
    let network = || Network {
        wires: Arc::clone(&wires),
        dialer: Arc::clone(&dialer),
    };
    let server_side = Side::start("10.64.0.1", network(), &tasks);
    let client_side = Side::start("10.64.32.1", network(), &tasks);
    let known = [&server_side, &client_side].map(|side| (side.pod.net().ip(), side.wire));
    wires.set(HashMap::from(known)).unwrap();
    let net = server_side.pod.net();
    let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    let owner = server_side.container.owner();
    let mut listening = TcpSocket::new(net, owner, Family::V4).unwrap();
    listening.bind(at("0.0.0.0", PORT)).unwrap();
    let listener = listening.listen().unwrap();
    let wire = server_side.wire.to_string();
    let answer = async |source| match dialer.open(&wire, source, at("10.64.0.1", PORT)).await {
        Ok(_) => Answer::Ok,
        Err(dial::Error::Answered { answer, .. }) => answer,
        Err(other) => panic!("{other}"),
    };
    let peer = Source::Peer(at("10.64.32.1", 4000));
    let client = Source::Peer(at("192.0.2.1", 4000));
    assert_eq!(answer(peer).await, Answer::Ok);
    assert_eq!(answer(Source::Requests).await, Answer::Ok);
    let conn = listener.try_accept().unwrap();
    assert_eq!(
        conn.peer_addr(),
        at("10.64.32.1", 4000),
        "guests see who it is"
    );
    // A connection for whoever comes ends when it begins to matter who comes.
    let target = at("10.64.0.1", PORT);
    let mut shared = dialer.open(&wire, Source::Requests, target).await.unwrap();
    let mut own = dialer.open(&wire, peer, target).await.unwrap();
    net.set_rules(Some(from("10.64.0.0/10")));
    let ended = within(shared.read(&mut [0; 1])).await;
    assert!(!matches!(ended, Ok(1..)));
    assert_eq!(answer(peer).await, Answer::Ok);
    assert_eq!(answer(client).await, Answer::Denied);
    assert_eq!(answer(Source::Requests).await, Answer::Isolated);
    net.set_rules(Some(from("192.0.2.0/24")));
    assert_eq!(answer(peer).await, Answer::Denied);
    assert_eq!(answer(client).await, Answer::Ok);
    let lives = tokio::time::timeout(Duration::from_millis(1), own.read(&mut [0; 1])).await;
    assert!(lives.is_err(), "what is established stays");
    // Datagrams, too, and who is connected hears of it.
    let mut server = server_side.socket();
    server.bind(at("0.0.0.0", PORT)).unwrap();
    let mut socket = client_side.socket();
    socket.connect(at("10.64.0.1", PORT)).unwrap();
    socket.send(b"let me in".to_vec(), None).unwrap();
    within(poll_fn(|cx| socket.poll_receivable(cx))).await;
    assert_eq!(socket.receive(), Err(Error::ConnectionRefused));
    net.set_rules(Some(from("10.64.0.0/10")));
    socket.send(b"thanks".to_vec(), None).unwrap();
    assert_eq!(receive(&server).await.0, b"thanks");
    tasks.cancel();
}
