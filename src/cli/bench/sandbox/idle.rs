//! What pods cost that nobody asks anything of: memory and CPU of a whole process that holds them.
//!
//! The process is a child that holds a runtime and nothing else of a worker (no API client, no
//! watches). Memory is its proportional share (PSS) with all pods up, less what it had with one of
//! them, which is code, engines and threads: what a further pod takes. A handler's pod is a sandbox
//! that listens and has no instance; a command's pod has one, which sleeps.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anstream::println;
use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::bare::{Command, Reach};
use super::figure::{Better, OURS, Section, What};
use super::pods::{Pods, Wasm, Words, container};
use super::requests::serve;
use crate::cli::bench::cpu;
use crate::runtime::{Artifact, PodSandbox};
use crate::tasks::TaskGroup;

/// How long the pods may take to come to rest.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);
const PEER: &str = "bare wasmtime";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Handlers,
    Commands,
    Bare,
}

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli::bench) struct ChildArgs {
    kind: Kind,
    count: u32,
    /// How long the idle process is watched.
    seconds: u64,
}

/// What a child tells.
#[derive(Serialize, Deserialize)]
struct Told {
    kib_with_one: u64,
    kib: u64,
    seconds_to_start: f64,
    /// Of one core.
    percent: f64,
}

pub(super) async fn section(
    handlers: &[u32],
    commands: &[u32],
    seconds: u64,
) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "Idle pods",
        "PSS of a process with a runtime alone, for each further pod, and its CPU (G15, G17)",
    );
    for (kind, counts) in [(Kind::Handlers, handlers), (Kind::Commands, commands)] {
        for count in counts {
            let ours = start(kind, *count, seconds).await?;
            let peer = match kind {
                Kind::Commands => Some(start(Kind::Bare, *count, seconds).await?),
                Kind::Handlers | Kind::Bare => None,
            };
            add(&mut section, kind, *count, OURS, &ours);
            if let Some(peer) = peer {
                add(&mut section, kind, *count, PEER, &peer);
            }
        }
    }
    Ok(section)
}

fn add(section: &mut Section, kind: Kind, count: u32, side: &'static str, told: &Told) {
    let kind = match kind {
        Kind::Handlers => "handler pods",
        Kind::Commands | Kind::Bare => "command pods",
    };
    let others = f64::from(count.saturating_sub(1).max(1));
    let kib = told.kib.saturating_sub(told.kib_with_one) as f64 / others;
    let figures = [
        (" each", "KiB", kib, Better::Less),
        (" in all", "MiB", told.kib as f64 / 1024.0, Better::Less),
        (" idle CPU", "% of a core", told.percent, Better::Less),
        (
            " started",
            "/s",
            others / told.seconds_to_start,
            Better::More,
        ),
    ];
    for (what, unit, value, better) in figures {
        let name = format!("{count} {kind}{what}");
        section.add(
            What {
                name: &name,
                unit,
                better,
            },
            side,
            value,
        );
    }
}

async fn start(kind: Kind, count: u32, seconds: u64) -> anyhow::Result<Told> {
    let program = std::env::current_exe().context("find this program")?;
    let name = match kind {
        Kind::Handlers => "handlers",
        Kind::Commands => "commands",
        Kind::Bare => "bare",
    };
    let output = tokio::process::Command::new(program)
        .args(["bench", "idle-pods", name])
        .args([count.to_string(), seconds.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("start the process that holds the pods")?;
    anyhow::ensure!(
        output.status.success(),
        "{count} idle {name}: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("read what the process told")
}

/// Who holds what is idle.
enum Holder {
    Ours {
        pods: Pods,
        artifact: Arc<Artifact>,
        is_handler: bool,
        held: Vec<Arc<PodSandbox>>,
    },
    Bare {
        command: Arc<Command>,
        tasks: TaskGroup,
    },
}

impl Holder {
    async fn new(kind: Kind, directory: &Path) -> anyhow::Result<Self> {
        let is_handler = kind == Kind::Handlers;
        let guest = if is_handler { "hello-http" } else { "meter" };
        let wasm = Wasm::of(guest, directory)?;
        if kind == Kind::Bare {
            return Ok(Self::Bare {
                command: Arc::new(Command::compile(&wasm.bytes)?),
                tasks: TaskGroup::new(),
            });
        }
        let pods = Pods::new(&directory.join("cache"))?;
        Ok(Self::Ours {
            artifact: pods.load(&wasm).await?,
            pods,
            is_handler,
            held: Vec::new(),
        })
    }

    fn hold_one_more(&mut self) -> anyhow::Result<()> {
        let args = ["idle".to_owned()];
        match self {
            Self::Ours {
                pods,
                artifact,
                is_handler,
                held,
            } => {
                let pod = pods.pod()?;
                if *is_handler {
                    serve(&pod, artifact)?;
                } else {
                    let log = Arc::new(Words::default());
                    pod.start(container("meter", &args), Arc::clone(artifact), log)?;
                }
                held.push(pod);
            }
            Self::Bare { command, tasks } => {
                let command = Arc::clone(command);
                tasks.spawn("idle instance", async move {
                    if let Err(error) = command.run(&args, Reach::Nothing).await {
                        tracing::warn!("an idle instance: {error:#}");
                    }
                });
            }
        }
        Ok(())
    }

    /// Fails if some of it does not live.
    fn check(&self) -> anyhow::Result<()> {
        let Self::Ours {
            held,
            is_handler: false,
            ..
        } = self
        else {
            return Ok(());
        };
        for pod in held {
            anyhow::ensure!(pod.stats().memory_bytes > 0, "an idle pod has ended");
        }
        Ok(())
    }
}

/// The life of the child.
pub(in crate::cli::bench) async fn child(args: ChildArgs) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut holder = Holder::new(args.kind, directory.path()).await?;
    holder.hold_one_more()?;
    come_to_rest().await?;
    let kib_with_one = cpu::memory_kib(std::process::id())?;
    let since = Instant::now();
    for _ in 1..args.count.max(2) {
        holder.hold_one_more()?;
    }
    let seconds_to_start = come_to_rest().await?.duration_since(since).as_secs_f64();
    holder.check()?;
    let kib = cpu::memory_kib(std::process::id())?;
    let (since, before) = (Instant::now(), spent());
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let busy = spent().saturating_sub(before);
    let told = Told {
        kib_with_one,
        kib,
        seconds_to_start,
        percent: busy.as_secs_f64() / since.elapsed().as_secs_f64() * 100.0,
    };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

/// Waits until this process does next to nothing; gives when that began.
async fn come_to_rest() -> anyhow::Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (since, before) = (Instant::now(), spent());
        tokio::time::sleep(POLL).await;
        if spent().saturating_sub(before) < POLL / 10 {
            return Ok(since);
        }
        anyhow::ensure!(since < deadline, "the idle pods do not come to rest");
    }
}

/// The CPU time of this process, to the nanosecond.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
