//! The composition roots: one per long-running role, each `Config → build → run → drain`.
//!
//! The command line parses into [`Role`] and calls [`Role::run`]; nothing here knows the command
//! line beyond that.

pub mod dev;
pub mod router;
pub mod server;
pub mod worker;

/// What a process can be, beside a command that ends.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Role {
    /// Run the control plane
    Server(server::Args),
    /// Run a node
    Worker(worker::Args),
    /// Run the front door
    Router(router::Args),
    /// Run a whole cluster on this machine
    Dev(dev::Args),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The role's composition root is not in this build.
    #[error("this build cannot run as {0}")]
    Absent(&'static str),
}

impl Role {
    /// Runs until the role has ended.
    pub async fn run(self) -> Result<(), Error> {
        match self {
            Self::Server(args) => server::run(args).await,
            Self::Worker(args) => worker::run(args).await,
            Self::Router(args) => router::run(args).await,
            Self::Dev(args) => dev::run(args).await,
        }
    }
}
