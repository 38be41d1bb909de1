//! The front door, put together: a login, bound sockets, then lanes until the group is cancelled.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::flags;
use super::login::{LoginArgs, NoLogin};
use crate::client;
use crate::router::{self, Config, Limits, Router};
use crate::tasks::TaskGroup;

/// `wasmorch router`.
#[derive(clap::Args, Clone, Debug)]
pub struct RouterArgs {
    #[command(flatten)]
    pub login: LoginArgs,
    /// Address of the front door; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// Loopback address of metrics and health
    #[arg(long, default_value = "127.0.0.1:0")]
    pub admin: SocketAddr,
    /// Address that node ports are opened on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub node_port_address: IpAddr,
    /// Threads that serve clients; the machine's cores by default
    #[arg(long)]
    pub threads: Option<usize>,
    /// The longest wait for a pod's answer; it begins anew while the request's body still comes
    #[arg(long, default_value = "60s", value_parser = flags::duration)]
    pub response_timeout: Duration,
    /// Where the last routing table is kept, for a start without the server
    #[arg(long, env = "WASMORCH_DATA", default_value = "./wasmorch-router")]
    pub data_dir: PathBuf,
}

/// Why the router does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    NoLogin(#[from] NoLogin),
    #[error("create `{path}`")]
    CreateDirectory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Router(#[from] router::Error),
}

/// Builds the router and runs it until `tasks` is cancelled.
pub async fn run(args: RouterArgs, tasks: &TaskGroup) -> Result<(), Error> {
    let login = args.login.login(None)?;
    let failed = |source| Error::CreateDirectory {
        path: args.data_dir.clone(),
        source,
    };
    std::fs::create_dir_all(&args.data_dir).map_err(failed)?;
    let defaults = Config::default();
    let router = Router::bind(Config {
        http: args.bind,
        admin: args.admin,
        node_port_ip: args.node_port_address,
        lanes: args.threads.unwrap_or(defaults.lanes).max(1),
        data_dir: Some(args.data_dir.clone()),
        limits: Limits {
            response_timeout: args.response_timeout,
            ..defaults.limits
        },
        ..defaults
    })?;
    let client = client::connect(&login).await?;
    tracing::info!(http = %router.http_address(), admin = %router.admin_address(), "router listens");
    Ok(router.run(Some(client), tasks).await?)
}
