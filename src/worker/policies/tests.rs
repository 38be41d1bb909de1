//! The copy and what becomes of it: what is open, what is closed, and when.

use std::net::SocketAddr;

use futures::future::BoxFuture;
use kube::runtime::watcher::Error;
use serde_json::{Value, json};

use super::*;
use crate::runtime::budget::Budget;
use crate::runtime::net::{ClusterNetwork, Duplex, Fabric, FabricConfig, PodNetConfig, Route};
use crate::runtime::spec::Protocol;

/// No other worker, no service.
struct Alone;

impl ClusterNetwork for Alone {
    fn resolve(&self, _namespace: &str, _name: &str) -> Option<Vec<std::net::IpAddr>> {
        None
    }

    fn route(&self, _from: std::net::IpAddr, _to: SocketAddr, _protocol: Protocol) -> Route {
        Route::Refused
    }

    fn dial_pod(
        &self,
        _from: SocketAddr,
        _to: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        Box::pin(async { Err(std::io::ErrorKind::Unsupported.into()) })
    }
}

fn net(ip: &str) -> Arc<PodNet> {
    let fabric = Fabric::new(FabricConfig::new(Arc::new(Alone), TaskGroup::new()));
    let config = PodNetConfig {
        namespace: "shop".to_owned(),
        hostname: "db".to_owned(),
        ip: ip.parse().unwrap(),
        egress: false,
        max_sockets: 10,
        budget: Budget::new(1 << 20),
    };
    fabric.create_pod(config).unwrap()
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, app: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": version,
            "labels": {"app": app}},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Running", "podIP": "10.64.0.7"}})
}

/// Who is called `web` may reach who is called `db`.
fn policy() -> NetworkPolicy {
    object(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "db", "namespace": "shop", "resourceVersion": "1"},
        "spec": {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}}),
    )
}

/// The watches' events, without watches.
#[derive(Default)]
struct Bench {
    policies: Policies,
    seen: Mirror<NetworkPolicy>,
}

impl Bench {
    fn policy(&mut self, event: Watched<NetworkPolicy>) {
        self.policies.lock().policies(&mut self.seen, event);
    }

    fn pod(&self, event: Event<PeerPod>) -> bool {
        follow(
            &mut self.policies.lock().pods,
            Ok(event),
            PeerPod::is_same_peer,
        )
    }

    fn list(&self, pods: &[Value]) {
        self.pod(Event::Init);
        for pod in pods {
            self.pod(Event::InitApply(object(pod.clone())));
        }
        self.pod(Event::InitDone);
        let namespaces = &mut self.policies.lock().namespaces;
        for event in [Event::Init, Event::InitDone] {
            follow(namespaces, Ok(event), |_: &Namespace, _| false);
        }
    }

    fn publish(&self) -> bool {
        self.policies.publish(self.seen.is_synced());
        self.policies.is_synced()
    }
}

#[test]
fn nothing_is_open_before_it_is_known_and_nothing_closes_by_an_error() {
    let mut bench = Bench::default();
    let (web, early) = ("10.64.0.7".parse().unwrap(), net("10.64.0.1"));
    let lets_in = |net: &Arc<PodNet>| net.lets_in(web, 80);
    let attach = |bench: &Bench, name: &str, net: &Arc<PodNet>| {
        let pod: Pod = object(pod(name, "db", "1"));
        bench.policies.attach(&pod, net);
    };
    attach(&bench, "early", &early);
    assert!(!bench.publish(), "policies have not been listed");
    bench.policy(Ok(Event::Init));
    bench.policy(Ok(Event::InitApply(policy())));
    assert!(!bench.publish());
    bench.policy(Ok(Event::InitDone));
    assert!(!bench.publish(), "nor have those whom they name");
    // A pod that comes now has rules, which know nobody yet.
    let late = net("10.64.0.2");
    attach(&bench, "late", &late);
    assert!(!lets_in(&late));
    bench.list(&[]);
    assert!(bench.publish());
    assert!(!lets_in(&early) && !lets_in(&late));
    // Somebody comes who may.
    assert!(bench.pod(Event::Apply(object(pod("web", "web", "2")))));
    bench.publish();
    assert!(lets_in(&early) && lets_in(&late));
    // What no policy asks about is no news.
    assert!(!bench.pod(Event::Apply(object(pod("web", "web", "3")))));
    bench.policy(Err(Error::NoResourceVersion));
    let pods = &mut bench.policies.lock().pods;
    let lost = follow(pods, Err(Error::NoResourceVersion), PeerPod::is_same_peer);
    assert!(!lost && pods.objects().count() == 1);
}

#[test]
fn labels_and_policies_change_and_pods_go() {
    let mut bench = Bench::default();
    let (web, net) = ("10.64.0.7".parse().unwrap(), net("10.64.0.1"));
    for event in [Event::Init, Event::InitApply(policy()), Event::InitDone] {
        bench.policy(Ok(event));
    }
    let here: Pod = object(pod("here", "other", "1"));
    bench.policies.attach(&here, &net);
    bench.list(&[]);
    assert!(bench.publish());
    assert!(!net.is_isolated(), "no policy selects it");
    bench.pod(Event::Apply(object(pod("here", "db", "2"))));
    bench.publish();
    assert!(net.is_isolated() && !net.lets_in(web, 80));
    // Another pod of that name is another pod.
    let mut other = pod("here", "other", "3");
    other["metadata"]["uid"] = "another".into();
    bench.pod(Event::Apply(object(other)));
    bench.publish();
    assert!(net.is_isolated());
    // The last policy goes, and with it what was followed for its sake.
    bench.policy(Ok(Event::Delete(policy())));
    bench.policies.lock().forget_peers();
    assert!(bench.publish() && !net.is_isolated());
    drop(net);
    bench.publish();
    assert!(bench.policies.lock().locals.is_empty());
}
