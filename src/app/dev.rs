//! `wasmorch dev`: a whole cluster on this machine, our Minikube.
//!
//! One server, N workers and one router, each a real child process of the same binary, so that a
//! `kill -9` of one shows what the others do. This process owns no part of the cluster: it chooses
//! ports, starts the children, restarts what dies (and says so), and ends them all together.

pub mod apply;
pub mod banner;
pub mod child;
pub mod chronicle;
pub mod demo;
pub mod layout;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use self::child::{Child, Supervised};
use self::chronicle::{Chronicle, Pids};
use self::layout::{Layout, Ports};
use crate::clock::Clock;
use crate::tasks::TaskGroup;

/// How long the children have to end after Ctrl-C, all together.
const DRAIN: Duration = Duration::from_secs(4);
/// How long the next ones in order wait for those before them. Below the time after which the
/// server takes a silent worker for dead: the end of a cluster must not look like its workers' death.
const TURN: Duration = Duration::from_millis(1500);
/// How long the control plane and the nodes have to become ready.
const START: Duration = Duration::from_mins(1);

/// Starts a local cluster: one server, several workers and a router, as processes of their own.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  wasmorch dev                       three workers, kept in ./.wasmorch
  wasmorch dev --demo                with the demo shop under light load
  wasmorch dev --nodes 5 -f app.yaml apply a manifest once the cluster is up")]
pub struct DevArgs {
    /// Worker processes to start.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50), env = "WASMORCH_NODES")]
    nodes: u16,
    /// Push and apply the demo shop.
    #[arg(long)]
    demo: bool,
    /// Manifests to apply once the cluster is up.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    filenames: Vec<PathBuf>,
    /// Where the cluster lives; kept between runs.
    #[arg(long, default_value = ".wasmorch", env = "WASMORCH_DIR")]
    dir: PathBuf,
    /// Start from nothing: the directory's old contents are deleted.
    #[arg(long)]
    fresh: bool,
    /// Address for everything that listens; loopback only.
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// Port of the API and the dashboard over plain http; the next free one if taken, 0 for any.
    #[arg(long, default_value_t = 7070)]
    port: u16,
    /// Port of the API over https.
    #[arg(long, default_value_t = 6443)]
    https_port: u16,
    /// Port of the front door.
    #[arg(long, default_value_t = 8080)]
    ingress_port: u16,
    /// The workers' CPU capacity in cores (each); the machine's by default.
    #[arg(long)]
    node_cpu: Option<String>,
    /// The workers' memory capacity (each), like 2Gi; the machine's by default.
    #[arg(long)]
    node_memory: Option<String>,
    /// Directory that pods may mount by hostPath, on every worker; may be repeated.
    #[arg(long, value_name = "DIR")]
    allow_host_path: Vec<PathBuf>,
    /// More of the children's logs: their standard error goes to this terminal too.
    #[arg(short, long)]
    verbose: bool,
}

/// Runs the cluster until Ctrl-C.
pub async fn run(args: DevArgs, tasks: &TaskGroup) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.address.is_loopback(),
        "--address {} is not a loopback address; use `wasmorch server`, `worker` and `router` for a real cluster",
        args.address
    );
    let (layout, _lock) = Layout::open(&args.dir, args.fresh)?;
    let ports = Ports::choose(&args)?;
    let (events, reports) = mpsc::channel(64);
    let (pids, running) = watch::channel(Pids::new());
    let chronicle = Chronicle {
        layout: &layout,
        ports: &ports,
        pids,
    };
    let mut cluster = Cluster {
        args: &args,
        layout: &layout,
        ports: &ports,
        tasks,
        events,
        running,
        children: Vec::new(),
    };
    let outcome = tokio::select! {
        outcome = cluster.up() => outcome,
        outcome = chronicle.keep(reports) => outcome,
        () = tasks.cancelled().cancelled_owned() => Ok(()),
    };
    banner::stopping(cluster.children.len());
    cluster.down().await;
    banner::stopped(&args.dir);
    outcome
}

struct Cluster<'a> {
    args: &'a DevArgs,
    layout: &'a Layout,
    ports: &'a Ports,
    tasks: &'a TaskGroup,
    events: mpsc::Sender<child::Report>,
    running: watch::Receiver<Pids>,
    children: Vec<Supervised>,
}

impl Cluster<'_> {
    /// Brings everything up; then it is for the children to run and for the chronicle to tell.
    async fn up(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let since = Clock::system().now();
        banner::title(&self.args.dir, self.ports);
        self.launch(self.layout.server(self.args, self.ports));
        let client = apply::Client::wait(&self.layout.kubeconfig(), self.ports.http, START)
            .await
            .with_context(|| {
                format!(
                    "the control plane did not start; see {}",
                    self.layout.log("server").display()
                )
            })?;
        banner::done("control plane", &format!("http://{}", self.ports.http));
        self.launch(self.layout.router(self.args, self.ports));
        let nodes: Vec<String> = (1..=self.args.nodes)
            .map(|index| format!("dev-{index}"))
            .collect();
        for node in &nodes {
            self.launch(self.layout.worker(self.args, self.ports, node)?);
        }
        client.wait_for_nodes(&nodes, &self.running, START).await?;
        banner::done("nodes", &nodes.join("  "));
        banner::done("ingress", &format!("http://{}", self.ports.ingress));
        if self.args.demo {
            let pods = demo::install(&client, since, START).await?;
            banner::done(
                "demo",
                &format!(
                    "{pods} pods ready {:.2} s after start",
                    started.elapsed().as_secs_f64()
                ),
            );
        }
        for filename in &self.args.filenames {
            let applied = client.apply_file(filename).await?;
            banner::done(
                "applied",
                &format!("{}: {}", filename.display(), applied.join(", ")),
            );
        }
        banner::addresses(
            self.ports,
            &self.layout.admin_token()?,
            &self.layout.kubeconfig(),
            self.args.demo,
        );
        std::future::pending().await
    }

    fn launch(&mut self, child: Child) {
        self.children
            .push(child::supervise(child, self.events.clone(), self.tasks));
    }

    /// The front door first, so that nobody new comes in; then the workers, which still report what
    /// they do; the server last. Who does not end in time is killed, and that is said.
    async fn down(self) {
        let deadline = Instant::now() + DRAIN;
        let rank = |child: &Supervised| match child.name() {
            "router" => 0,
            "server" => 2,
            _ => 1,
        };
        let mut children = self.children;
        children.sort_by_key(rank);
        for group in children.chunk_by_mut(|one, other| rank(one) == rank(other)) {
            let turn = deadline.min(Instant::now() + TURN);
            for child in &*group {
                child.stop();
            }
            for child in group {
                child.ended(turn).await;
            }
        }
        for child in &mut children {
            if !child.ended(deadline).await {
                banner::killed(child.name());
                child.kill().await;
            }
        }
    }
}
