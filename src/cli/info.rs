//! The commands that change nothing and show no object: versions, types, files, completion.

use std::fmt::Write as _;

use clap_complete::Shell;

use super::config;
use super::console;
use super::discovery::Catalog;
use super::failure::{Failure, Result};
use super::global::Global;
use super::output::Output;
use super::session::Session;
use super::table::Grid;

const VERSION_EXAMPLES: &str = "\
Examples:
  wasmorch version
  wasmorch version --client -o json
";

const RESOURCES_EXAMPLES: &str = "\
Examples:
  wasmorch api-resources
  wasmorch api-resources -o name
";

const CONFIG_EXAMPLES: &str = "\
Examples:
  wasmorch config path
  export KUBECONFIG=$(wasmorch config path)      # kubectl, k9s and Headlamp work too
";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  source <(wasmorch completion bash)
  wasmorch completion fish > ~/.config/fish/completions/wasmorch.fish
";

/// Show the versions of client and server
#[derive(clap::Args, Debug)]
#[command(before_help = VERSION_EXAMPLES)]
pub(super) struct VersionArgs {
    /// The client's only; asks no server
    #[arg(long)]
    client: bool,
}

/// Show the types that the server has
#[derive(clap::Args, Debug)]
#[command(before_help = RESOURCES_EXAMPLES)]
pub(super) struct ApiResourcesArgs {
    /// No headings
    #[arg(long)]
    no_headers: bool,
}

/// Show where the configuration is
#[derive(clap::Subcommand, Debug)]
#[command(before_help = CONFIG_EXAMPLES)]
pub(super) enum ConfigVerb {
    /// Print the path of the config file in use
    Path,
    /// Print the bearer token of the context in use, for curl and the dashboard
    Token,
}

/// Print a completion script for a shell
#[derive(clap::Args, Debug)]
#[command(before_help = COMPLETION_EXAMPLES)]
pub(super) struct CompletionArgs {
    shell: Shell,
}

pub(super) async fn version(global: &Global, args: &VersionArgs) -> Result {
    let mut versions =
        serde_json::json!({"clientVersion": {"gitVersion": env!("CARGO_PKG_VERSION")}});
    let mut text = format!("Client Version: {}\n", env!("CARGO_PKG_VERSION"));
    if !args.client {
        let server = Session::open(global).await?.get("/version").await?;
        let version = server["gitVersion"].as_str().unwrap_or_default();
        let _ = writeln!(text, "Server Version: {version}");
        versions["serverVersion"] = server;
    }
    match global.output() {
        Output::Table | Output::Wide | Output::Name => console::print(&text),
        output => console::print(&output.object(&versions, "")?),
    }
}

pub(super) async fn api_resources(session: &Session, args: &ApiResourcesArgs) -> Result {
    let catalog = Catalog::read(session).await?;
    if session.global.output() == Output::Name {
        let names = catalog.0.iter().map(|resource| resource.full_name() + "\n");
        return console::print(&names.collect::<String>());
    }
    let mut grid = Grid::new(&["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]);
    for resource in &catalog.0 {
        grid.row(vec![
            resource.plural.clone(),
            resource.short_names.join(","),
            resource.api_version(),
            resource.namespaced.to_string(),
            resource.kind.clone(),
        ]);
    }
    console::print(&grid.render(!args.no_headers))
}

pub(super) fn config(global: &Global, verb: &ConfigVerb) -> Result {
    match verb {
        ConfigVerb::Path => {
            let (place, _) = config::find(global)?;
            // Absolute, because it is going to be used from elsewhere.
            let path = std::path::absolute(&place.file).unwrap_or(place.file);
            console::print(&format!("{}\n", path.display()))
        }
        ConfigVerb::Token => {
            let (place, kubeconfig) = config::find(global)?;
            match config::token(&place, &kubeconfig) {
                Some(token) => console::print(&format!("{token}\n")),
                None => Err(Failure::failed(
                    "Config",
                    format!("{} holds no token", place.describe()),
                )),
            }
        }
    }
}

pub(super) fn completion(args: &CompletionArgs, command: &mut clap::Command) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "wasmorch", &mut script);
    match String::from_utf8(script) {
        Ok(script) => console::print(&script),
        Err(_) => Err(Failure::failed(
            "Output",
            "the completion script is no text",
        )),
    }
}
