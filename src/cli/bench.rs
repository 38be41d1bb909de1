//! `wasmorch bench`: the costs that decide the architecture, measured beside a peer in one run.
//!
//! Runs A B A B …, so that a slow minute of the machine meets both; the median of the ratios is the
//! result, and its lower quartile is printed beside it. Peers that are not installed are left out and
//! said so. Everything is bounded in count and time and talks to loopback only.

mod api;
mod cpu;
mod etcd;
mod grpc;
mod guest;
mod hostile;
mod http;
mod idle;
mod peers;
mod pods;
mod raw;
mod rest;
mod sandbox;
mod stats;

use std::time::Duration;

use super::output::Output;

/// Measures this machine, side by side with a peer where one is installed.
#[derive(Debug, Clone, clap::Args)]
#[command(before_help = "Examples:
  wasmorch bench api                          writes, reads, lists and watches beside etcd's
  wasmorch bench api --only watch             one part of it
  wasmorch bench guest                        a wasm handler beside wasmtime serve and HAProxy
  wasmorch bench sandbox                      the host's own cost beside bare wasmtime and the kernel
  wasmorch bench http http://127.0.0.1:8080/hello --peer http://127.0.0.1:9000/
  wasmorch bench start --count 200            API create to the first 200 through the router
  wasmorch bench scale --replicas 100,1000    time until a Deployment's pods are all ready
  wasmorch bench hostile                      a handler's p99 beside loops, bombs and floods
  wasmorch bench idle                         memory and CPU of the cluster as it is")]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Durable creates, reads, lists and watches over HTTP, beside the same asked of etcd.
    Api(api::Args),
    /// A wasm handler through the router and on its worker, beside what a user could assemble.
    Guest(guest::Args),
    /// What the sandbox costs beside bare wasmtime, the kernel's loopback and tmpfs; needs no cluster.
    Sandbox(sandbox::Args),
    /// Holds idle pods and tells what the process takes: a child of `sandbox`.
    #[command(hide = true)]
    IdlePods(sandbox::ChildArgs),
    /// A handler beside guests that take all they can get, on the same worker.
    Hostile(hostile::Args),
    /// Requests per second and latency of one URL, beside another.
    Http(http::Args),
    /// From the API's create to the first 200 through the router.
    Start(pods::StartArgs),
    /// From a scale to all replicas ready.
    Scale(pods::ScaleArgs),
    /// Memory and CPU of every process of the cluster while nothing is asked of it.
    Idle(idle::Args),
}

/// How to reach the cluster that is measured: the addresses that `wasmorch dev` wrote.
#[derive(Debug, Clone, clap::Args)]
struct Target {
    /// The dev cluster's directory.
    #[arg(long, default_value = ".wasmorch", env = "WASMORCH_DIR")]
    dir: std::path::PathBuf,
}

/// A cluster under test.
struct Cluster {
    api: std::net::SocketAddr,
    ingress: std::net::SocketAddr,
    token: String,
    /// Its processes, by name.
    processes: Vec<(String, u32)>,
}

impl Target {
    fn open(&self) -> anyhow::Result<Cluster> {
        use anyhow::Context as _;
        let path = self.dir.join("dev.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("read {}: start `wasmorch dev` there first", path.display())
        })?;
        let state: serde_json::Value = serde_json::from_str(&text).context("parse dev.json")?;
        let address = |field: &str| -> anyhow::Result<std::net::SocketAddr> {
            let url = state[field]
                .as_str()
                .with_context(|| format!("dev.json names no {field}"))?;
            url.trim_start_matches("http://")
                .parse()
                .with_context(|| format!("parse {url}"))
        };
        let token = crate::client::token_in(&self.dir.join("kubeconfig"))?;
        let token = token.context("the kubeconfig holds no token")?;
        let processes = state["processes"].as_object();
        let processes = processes.context("dev.json names no processes")?;
        let processes = processes.iter().map(|(name, process)| {
            let process = process.as_u64().unwrap_or_default();
            (name.clone(), process as u32)
        });
        Ok(Cluster {
            api: address("http")?,
            ingress: address("ingress")?,
            token,
            processes: processes.collect(),
        })
    }
}

impl Cluster {
    /// The ids of the processes with such names.
    fn processes(&self, is_meant: impl Fn(&str) -> bool) -> Vec<u32> {
        let meant = self.processes.iter().filter(|(name, _)| is_meant(name));
        meant.map(|(_, process)| *process).collect()
    }
}

/// Runs one of the measurements.
pub(super) async fn run(args: BenchArgs, output: &Output) -> anyhow::Result<()> {
    match args.command {
        Command::Api(args) => api::run(args).await,
        Command::Guest(args) => guest::run(args).await,
        Command::Sandbox(args) => sandbox::run(args, output).await,
        Command::IdlePods(args) => sandbox::child(args).await,
        Command::Hostile(args) => hostile::run(args).await,
        Command::Http(args) => http::run(args).await,
        Command::Start(args) => pods::start(args).await,
        Command::Scale(args) => pods::scale(args).await,
        Command::Idle(args) => idle::run(args).await,
    }
}

/// One side of one pair.
struct Sample {
    rate: f64,
    p50: Duration,
    p99: Duration,
    failed: u64,
    /// CPU time of the servers for each request, where it is known which they are.
    cpu: Option<Duration>,
}

impl Sample {
    fn new(mut latencies: Vec<Duration>, elapsed: Duration, failed: u64) -> Self {
        Self {
            rate: latencies.len() as f64 / elapsed.as_secs_f64(),
            p50: stats::percentile(&mut latencies, 0.5),
            p99: stats::percentile(&mut latencies, 0.99),
            failed,
            cpu: None,
        }
    }

    /// Adds what the servers spent on each answer.
    fn with_cpu(mut self, meter: &cpu::Meter, elapsed: Duration) -> anyhow::Result<Self> {
        let answered = (self.rate * elapsed.as_secs_f64()).max(1.0);
        self.cpu = meter.spent()?.map(|spent| spent.div_f64(answered));
        Ok(self)
    }
}
