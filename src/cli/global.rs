//! The flags that every command of the cluster takes; each has an environment variable.

use std::path::PathBuf;

use clap::Args;

use super::output::Output;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Namespace; the context's own by default
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        env = "WASMORCH_NAMESPACE"
    )]
    pub(super) namespace: Option<String>,

    /// All namespaces
    #[arg(short = 'A', long, global = true)]
    pub(super) all_namespaces: bool,

    /// table, wide, json, yaml, name or jsonpath=TEMPLATE
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        env = "WASMORCH_OUTPUT"
    )]
    pub(super) output: Option<Output>,

    /// Context of the config file to use
    #[arg(long, global = true, value_name = "NAME", env = "WASMORCH_CONTEXT")]
    pub(super) context: Option<String>,

    /// Config file: else ./.wasmorch/kubeconfig, else ~/.config/wasmorch/config.yaml
    #[arg(long, global = true, value_name = "FILE", env = "WASMORCH_CONFIG")]
    pub(super) kubeconfig: Option<PathBuf>,

    /// Change things also on a server that is not wasmorch
    #[arg(long, global = true, env = "WASMORCH_ANY_SERVER")]
    pub(super) any_server: bool,

    /// Do not ask before what cannot be undone
    #[arg(short, long, global = true, env = "WASMORCH_YES")]
    pub(super) yes: bool,
}

impl Global {
    pub(super) fn output(&self) -> Output {
        self.output.clone().unwrap_or_default()
    }
}
