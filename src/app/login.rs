//! How a worker or a router is told which cluster it belongs to, and who it is there.

use std::path::PathBuf;

use crate::client::Login;

/// A kubeconfig, or a URL and a join token.
#[derive(clap::Args, Clone, Debug)]
pub struct LoginArgs {
    /// Kubeconfig of the cluster (instead of --server and --token); for a router the server writes
    /// `router.kubeconfig` into its data directory
    #[arg(long, env = "WASMORCH_KUBECONFIG", conflicts_with_all = ["server", "token"])]
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server, like https://127.0.0.1:6443
    #[arg(long, env = "WASMORCH_SERVER", requires = "token")]
    pub server: Option<String>,
    /// Join token (wo1.…) of the cluster; better in the environment than on the command line
    #[arg(long, env = "WASMORCH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// No flag says how.
#[derive(Debug, thiserror::Error)]
#[error("say how to reach the cluster: --kubeconfig, or --server with --token")]
pub struct NoLogin;

impl LoginArgs {
    /// The login; `node` is the node that joins, if one does.
    pub fn login(&self, node: Option<&str>) -> Result<Login, NoLogin> {
        match (&self.kubeconfig, &self.server, &self.token) {
            (Some(path), _, _) => Ok(Login::Kubeconfig(path.clone())),
            (None, Some(server), Some(token)) => Ok(Login::Join {
                server: server.clone(),
                token: token.clone(),
                node: node.map(str::to_owned),
            }),
            (None, Some(_) | None, _) => Err(NoLogin),
        }
    }
}
