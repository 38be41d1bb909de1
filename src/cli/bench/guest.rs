//! One wasm handler, four ways to it: through our router, straight to its worker's wire, through
//! `wasmtime serve`, and through HAProxy in front of that. The same component, the same client, the
//! same connections, an instance for each request everywhere, turn by turn.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anstream::println;
use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use super::peers::Peer;
use super::raw::{self, Until};
use super::rest::Rest;
use super::{Cluster, Sample, Target, pods, stats};
use crate::app::dev::demo;
use crate::router::tunnel::{Preamble, Source, WireProtocol};
use crate::tasks::TaskGroup;

const START: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Keep-alive connections.
    #[arg(short, long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    connections: u64,
    /// Seconds per measurement.
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds; every way is measured once in each.
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=50))]
    pairs: u64,
    /// Pods behind the router.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    replicas: u64,
    /// The wasmtime to compare with.
    #[arg(long, default_value = "wasmtime", env = "WASMTIME")]
    wasmtime: PathBuf,
}

const PODS: &str = "/api/v1/namespaces/default/pods?labelSelector=bench%3Dguest";

/// One way to the guest.
struct Way {
    name: &'static str,
    target: raw::Target,
    samples: Vec<Sample>,
}

impl Way {
    fn new(name: &'static str, target: raw::Target) -> Self {
        Self {
            name,
            target,
            samples: Vec::new(),
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let cluster = args.target.open()?;
    let tasks = TaskGroup::new();
    let mut api = Rest::api(&cluster, &tasks).await?;
    let mut ways = deploy(&cluster, &mut api, args.replicas).await?;
    let wasm = demo::guest("hello-http").context("this build holds no guests")?;
    let serve = Peer::wasmtime(&args.wasmtime, &wasm).await?;
    let haproxy = match &serve {
        Some(serve) => Peer::haproxy(serve.address).await?,
        None => None,
    };
    ways.extend(peers(serve.as_ref(), haproxy.as_ref()));
    let until = Until::Elapsed(Duration::from_secs(args.seconds));
    for _ in 0..args.pairs {
        for way in &mut ways {
            way.samples
                .push(way.target.load(args.connections, until).await?);
        }
    }
    println!(
        "GET of a wasm handler over {} connections, {} × {} s each, turn by turn",
        args.connections, args.pairs, args.seconds
    );
    report(&ways);
    api.forget(DEPLOYMENT).await?;
    api.forget(SERVICE).await
}

fn peers(serve: Option<&Peer>, haproxy: Option<&Peer>) -> Vec<Way> {
    let mut ways = Vec::new();
    let Some(serve) = serve else {
        println!("wasmtime is not installed (--wasmtime PATH): measured alone");
        return ways;
    };
    let way = |peer: &Peer, processes: Vec<Option<u32>>| {
        let mut target = raw::Target::get(peer.address, &peer.address.to_string(), "/");
        target.processes = processes.into_iter().flatten().collect();
        target
    };
    ways.push(Way::new(SERVE, way(serve, vec![serve.process()])));
    match haproxy {
        Some(haproxy) => ways.push(Way::new(
            HAPROXY,
            way(haproxy, vec![serve.process(), haproxy.process()]),
        )),
        None => println!("HAProxy is not installed: measured without it"),
    }
    ways
}

const ROUTER: &str = "router → worker";
const WIRE: &str = "worker's wire";
const SERVE: &str = "wasmtime serve";
const HAPROXY: &str = "HAProxy → wasmtime serve";

fn report(ways: &[Way]) {
    for way in ways {
        stats::print_side(way.name, &way.samples);
    }
    for (ours, peer) in [(WIRE, SERVE), (ROUTER, SERVE), (ROUTER, HAPROXY)] {
        let find = |name: &str| ways.iter().find(|way| way.name == name);
        if let (Some(ours), Some(peer)) = (find(ours), find(peer)) {
            let what = format!("{} to {}", ours.name, peer.name);
            stats::print_ratio(&what, &ours.samples, &peer.samples);
        }
    }
}

pub(super) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/bench-guest";
pub(super) const SERVICE: &str = "/api/v1/namespaces/default/services/bench-guest";

/// Brings one pod of the handler up; gives the way straight to it, and its node.
pub(super) async fn deploy_one(
    cluster: &Cluster,
    api: &mut Rest,
) -> anyhow::Result<(raw::Target, String)> {
    deploy(cluster, api, 1).await?;
    let node = api.get(PODS).await?;
    let node = text(&node["items"][0]["spec"]["nodeName"])?.to_owned();
    Ok((wire(cluster, api).await?, node))
}

/// Brings the handler up and gives our two ways to it.
async fn deploy(cluster: &Cluster, api: &mut Rest, replicas: u64) -> anyhow::Result<Vec<Way>> {
    api.push_hello().await?;
    api.forget(DEPLOYMENT).await?;
    api.forget(SERVICE).await?;
    pods::until_gone(api, DEPLOYMENT).await?;
    let labels = json!({"bench": "guest"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench-guest"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pods::pod_spec()},
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench-guest"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080, "name": "http"}]},
    });
    let collection = |path: &str| path.trim_end_matches("/bench-guest").to_owned();
    api.json(Method::POST, &collection(DEPLOYMENT), &deployment)
        .await?;
    api.json(Method::POST, &collection(SERVICE), &service)
        .await?;
    pods::until_ready(api, DEPLOYMENT, replicas).await?;
    let mut router = raw::Target::get(cluster.ingress, "bench-guest.default.localhost", "/");
    router.processes = cluster.processes(|name| name != "server");
    let deadline = Instant::now() + START;
    while !router.answers().await? {
        anyhow::ensure!(Instant::now() < deadline, "the router does not answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let wire = wire(cluster, api).await?;
    Ok(vec![Way::new(ROUTER, router), Way::new(WIRE, wire)])
}

/// The first pod's address on its worker's wire.
async fn wire(cluster: &Cluster, api: &mut Rest) -> anyhow::Result<raw::Target> {
    let pods = api.get(PODS).await?;
    let pod = &pods["items"][0];
    let node = text(&pod["spec"]["nodeName"])?;
    let ip = text(&pod["status"]["podIP"])?;
    let object = api.get(&format!("/api/v1/nodes/{node}")).await?;
    let address: SocketAddr =
        text(&object["metadata"]["annotations"]["wasmorch.dev/wire-address"])?.parse()?;
    let secret = api
        .get("/api/v1/namespaces/kube-system/secrets/wasmorch-wire")
        .await?;
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret)?;
    let secret = secret.data.and_then(|mut data| data.remove("secret"));
    let mut target = raw::Target::get(address, "bench-guest", "/");
    target.preamble = Some(Preamble {
        protocol: WireProtocol::Tcp,
        secret: secret.context("the wire secret is empty")?.0,
        target: SocketAddr::new(ip.parse()?, 8080),
        source: Source::Peer(SocketAddr::from(([127, 0, 0, 1], 0))),
    });
    target.processes = cluster.processes(|name| name == node);
    Ok(target)
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().context("the pod is not where it should be")
}
