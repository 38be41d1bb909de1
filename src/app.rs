//! The composition roots: one role of the binary each, `Config → build → run → drain`.
//!
//! A role is plain data (`…Args`, read by the command line), built into something that holds bound
//! sockets and loaded state, and run until its task group is cancelled. Nothing below imports this
//! module; everything that must be wired together is wired here, in reading order.

pub mod config;
mod descriptors;
pub mod dev;
pub mod flags;
pub mod login;
pub mod router;
pub mod server;
pub mod shutdown;
pub mod worker;

use tracing_subscriber::EnvFilter;

use crate::clock::Clock;
use crate::tasks::TaskGroup;

pub use config::ServerArgs;

/// The long-running roles; the command line flattens them beside its own commands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Role {
    /// Run the control plane: API server, store, scheduler, controllers, dashboard
    Server(ServerArgs),
    /// Run a node: pods, their network and their logs
    Worker(worker::WorkerArgs),
    /// Run the front door: ingress, services by name, node ports
    Router(router::RouterArgs),
    /// Run a whole cluster on this machine
    Dev(dev::DevArgs),
}

impl Role {
    /// Runs until the role has ended: after a signal, or when the process that started it is gone.
    pub async fn run(self) -> anyhow::Result<()> {
        log_to_stderr();
        descriptors::raise_limit();
        let tasks = TaskGroup::new();
        let stop = tasks.clone();
        tasks.spawn("shutdown", async move {
            shutdown::requested().await;
            stop.cancel();
        });
        match self {
            Self::Server(args) => {
                let plane = server::ControlPlane::build(args, Clock::system(), &tasks).await?;
                let addresses = plane.addresses();
                tracing::info!(https = %addresses.https, http = ?addresses.http, "ready");
                anyhow::ensure!(
                    plane.run().await?,
                    "the control plane did not drain in time"
                );
                Ok(())
            }
            Self::Dev(args) => dev::run(args, &tasks).await,
            Self::Router(args) => Ok(router::run(args, &tasks).await?),
            Self::Worker(args) => Ok(worker::run(args, tasks).await?),
        }
    }
}

/// `RUST_LOG` says what is logged; the roles' own progress by default.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=error"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second role in one process (tests) keeps the first one's subscriber.
    let _ = subscriber.try_init();
}
