//! Rules on every plane that the fixture's world has: two pods here, one elsewhere, the outside.

use super::super::fixture::{World, addr, connected};
use super::super::{Block, Family, PeerSet, Peers, PortRange, Rule, Rules, UdpSocket};
use super::*;
use crate::api::subnet::Subnet;

fn ports(protocol: Protocol, ports: std::ops::RangeInclusive<u16>) -> Vec<PortRange> {
    vec![PortRange { protocol, ports }]
}

fn these(pods: &[&str], block: Option<(&str, &[&str])>) -> Peers {
    let range = |text: &str| Subnet::parse(text).unwrap();
    Peers::These(Arc::new(PeerSet {
        pods: pods.iter().map(|ip| ip.parse().unwrap()).collect(),
        blocks: block
            .map(|(whole, except)| Block {
                range: range(whole),
                except: except.iter().map(|hole| range(hole)).collect(),
            })
            .into_iter()
            .collect(),
    }))
}

fn inward(rules: Vec<Rule>) -> Arc<Rules> {
    Arc::new(Rules {
        ingress: Some(rules),
        egress: None,
    })
}

fn outward(rules: Vec<Rule>) -> Arc<Rules> {
    Arc::new(Rules {
        ingress: None,
        egress: Some(rules),
    })
}

fn rule(peers: Peers, ports: Option<Vec<PortRange>>) -> Rule {
    Rule { peers, ports }
}

#[test]
fn a_rule_is_peers_and_ports() {
    let block = Some(("10.0.0.0/8", &["10.1.0.0/16"][..]));
    let rules = Rules {
        ingress: Some(vec![
            rule(
                these(&["192.0.2.1"], block),
                Some(ports(Protocol::Tcp, 8000..=8009)),
            ),
            rule(these(&["192.0.2.2"], None), None),
        ]),
        egress: Some(Vec::new()),
    };
    let cases = [
        ("192.0.2.1", Protocol::Tcp, 8000, true),
        ("192.0.2.1", Protocol::Tcp, 8009, true),
        ("192.0.2.1", Protocol::Tcp, 8010, false),
        ("192.0.2.1", Protocol::Udp, 8000, false),
        ("192.0.2.2", Protocol::Udp, 1, true),
        ("192.0.2.3", Protocol::Udp, 1, false),
        ("10.9.9.9", Protocol::Tcp, 8000, true),
        ("::ffff:10.9.9.9", Protocol::Tcp, 8000, true),
        ("10.1.9.9", Protocol::Tcp, 8000, false),
        ("fd00::1", Protocol::Tcp, 8000, false),
    ];
    for (from, protocol, port, expected) in cases {
        let ip = from.parse().unwrap();
        assert_eq!(rules.let_in(ip, protocol, port), expected, "{from} {port}");
        assert!(!rules.let_out(ip, protocol, port));
        assert!(Rules::default().let_in(ip, protocol, port));
    }
}

#[test]
fn the_mesh_asks_both_ends_and_lo_nobody() {
    let world = World::new();
    let owner = world.container.owner();
    let (_socket, _listener) = world.listen("0.0.0.0:80");
    let mut far = super::super::TcpSocket::new(&world.second, owner, Family::V4).unwrap();
    far.bind(addr("0.0.0.0:8080")).unwrap();
    let _far = far.listen().unwrap();
    let by_service = "10.43.0.1:80";
    assert!(world.connect(by_service).is_ok());
    // In: the service's address means nothing, the pod's does.
    world.second.set_rules(Some(inward(Vec::new())));
    for to in [by_service, "10.64.0.2:8080"] {
        let refused = world.connect(to).err();
        assert_eq!(refused, Some(Error::ConnectionRefused), "{to}");
    }
    let first = these(&["10.64.0.1"], None);
    let right = Some(ports(Protocol::Tcp, 8080..=8080));
    world
        .second
        .set_rules(Some(inward(vec![rule(first.clone(), right.clone())])));
    assert!(world.connect(by_service).is_ok());
    let wrong = Some(ports(Protocol::Tcp, 80..=80));
    world
        .second
        .set_rules(Some(inward(vec![rule(first, wrong.clone())])));
    assert!(world.connect(by_service).is_err());
    world.second.set_rules(None);
    // Out, likewise.
    let second = these(&["10.64.0.2"], None);
    for (peers, ports, expected) in [
        (second.clone(), right, None),
        (second, wrong, Some(Error::AccessDenied)),
        (these(&["10.64.0.3"], None), None, Some(Error::AccessDenied)),
    ] {
        world
            .first
            .set_rules(Some(outward(vec![rule(peers, ports)])));
        assert_eq!(world.connect(by_service).err(), expected);
    }
    // Oneself is always there.
    world.first.set_rules(Some(Arc::new(Rules {
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
    })));
    for to in ["127.0.0.1:80", "10.64.0.1:80"] {
        assert!(world.connect(to).is_ok(), "{to}");
    }
    // And so is one's node, not whoever comes by it.
    assert!(world.first.dial(80).is_ok() && world.first.dial_inside(80).is_ok());
    assert!(world.first.dial_local(80).is_ok());
    let client = addr("192.0.2.9:4000");
    assert!(world.first.dial_from(client, 80).is_err());
    assert!(world.first.dial_from(addr("127.0.0.1:4000"), 80).is_err());
    let block = these(&[], Some(("192.0.2.0/24", &[])));
    world.first.set_rules(Some(inward(vec![rule(block, None)])));
    let conn = world.first.dial_from(client, 80).unwrap();
    drop(conn);
}

#[tokio::test]
async fn the_wire_and_the_outside_ask_on_the_way_out() {
    let world = World::new();
    assert!(connected(world.tcp(), "10.64.9.9:7").await.is_ok());
    world.first.set_rules(Some(outward(Vec::new())));
    for to in ["10.64.9.9:7", "198.51.100.1:80"] {
        let refused = connected(world.tcp(), to).await.err();
        assert_eq!(refused, Some(Error::AccessDenied), "{to}");
    }
    let elsewhere = these(&["10.64.9.9"], None);
    world
        .first
        .set_rules(Some(outward(vec![rule(elsewhere, None)])));
    assert!(connected(world.tcp(), "10.64.9.9:7").await.is_ok());
    let outside = Plane::Host(addr("198.51.100.1:80"));
    assert!(world.first.check_way_out(&outside).is_err());
    let block = Some(("198.51.100.0/24", &["198.51.100.128/25"][..]));
    world
        .first
        .set_rules(Some(outward(vec![rule(these(&[], block), None)])));
    assert!(world.first.check_way_out(&outside).is_ok());
    let hole = Plane::Host(addr("198.51.100.200:80"));
    assert!(world.first.check_way_out(&hole).is_err());
}

#[test]
fn answers_to_datagrams_pass_and_questions_do_not() {
    let world = World::new();
    let owner = world.container.owner();
    let closed = Some(Arc::new(Rules {
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
    }));
    let mut server = UdpSocket::new(&world.second, owner, Family::V4).unwrap();
    server.bind(addr("0.0.0.0:53")).unwrap();
    let mut client = world.udp();
    client.bind(addr("0.0.0.0:4000")).unwrap();
    let to = Some(addr("10.64.0.2:53"));
    // The client may ask, and nobody may ask it; the server may be asked, and may not ask.
    world.first.set_rules(Some(Arc::new(Rules {
        ingress: Some(Vec::new()),
        egress: Some(vec![rule(
            these(&["10.64.0.2"], None),
            Some(ports(Protocol::Udp, 53..=53)),
        )]),
    })));
    world.second.set_rules(Some(Arc::new(Rules {
        ingress: Some(vec![rule(these(&["10.64.0.1"], None), None)]),
        egress: Some(Vec::new()),
    })));
    assert_eq!(
        server.send(b"first".to_vec(), Some(addr("10.64.0.1:4000"))),
        Err(Error::AccessDenied)
    );
    client.send(b"ask".to_vec(), to).unwrap();
    let (_, from) = server.receive().unwrap();
    server.send(b"answer".to_vec(), Some(from)).unwrap();
    assert_eq!(client.receive().unwrap().0, b"answer");
    // Other ports, other protocols.
    let refused = client.send(b"ask".to_vec(), Some(addr("10.64.0.2:54")));
    assert_eq!(refused, Err(Error::AccessDenied));
    // A question is judged anew each time; the socket is told as if nobody were there.
    world.second.set_rules(closed.clone());
    client.connect(addr("10.64.0.2:53")).unwrap();
    client.send(b"ask".to_vec(), None).unwrap();
    assert_eq!(client.receive(), Err(Error::ConnectionRefused));
    assert_eq!(server.receive(), Err(Error::WouldBlock));
    // To oneself, always.
    world.first.set_rules(closed);
    client.disconnect().unwrap();
    client
        .send(b"self".to_vec(), Some(addr("10.64.0.1:4000")))
        .unwrap();
    assert_eq!(client.receive().unwrap().0, b"self");
}

#[tokio::test]
async fn whoever_waits_for_isolation_hears_of_it() {
    let world = World::new();
    assert!(!world.first.is_isolated());
    let waiting = world.first.isolated();
    let closing = async {
        world.first.set_rules(Some(outward(Vec::new())));
        tokio::task::yield_now().await;
        world.first.set_rules(Some(inward(Vec::new())));
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        tokio::join!(waiting, closing)
    })
    .await
    .unwrap();
}
