//! The binary: parses the command line and calls the library; nothing else lives here.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Parser;
use wasmorch::app::Role;
use wasmorch::app::server::ControlPlane;
use wasmorch::clock::Clock;
use wasmorch::tasks::TaskGroup;

#[derive(Parser)]
#[command(version, about = "Kubernetes for WASI in one binary")]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(run(cli.role))
}

async fn run(role: Role) -> anyhow::Result<()> {
    let tasks = TaskGroup::new();
    let signal = tasks.clone();
    tasks.spawn("signals", async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            signal.cancel();
        }
    });
    match role {
        Role::Server(args) => {
            let plane = ControlPlane::build(args, Clock::system(), &tasks).await?;
            let addresses = plane.addresses();
            let mut out = std::io::stdout();
            writeln!(out, "ready https={}", addresses.https)?;
            if let Some(http) = addresses.http {
                writeln!(out, "ready http={http}")?;
            }
            plane.run().await?;
        }
    }
    Ok(())
}
