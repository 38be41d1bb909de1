//! The command line: kubectl's verbs and flags, and wasmorch's own `run` and `push`.
//!
//! Every command is a client of the public API. Types, short names and columns come from the server,
//! so no kind is named here except where the verb itself does (`rollout`, `cordon`, `run`). What is
//! not implemented is not parsed.
//!
//! Shape of a command: its file has the clap `Args` (help begins with examples), an async `run`
//! that talks, and pure functions that decide; those have the tests.

mod apply;
mod bench;
mod config;
mod console;
mod cordon;
mod debug;
mod delete;
mod describe;
mod discovery;
mod exec;
mod failure;
mod get;
mod global;
mod image_files;
mod info;
mod label;
mod logs;
mod manifest;
mod merge;
pub mod operator;
mod output;
mod port_forward;
mod push;
mod remote;
mod rollout;
mod run;
mod scale;
mod session;
mod style;
mod table;
mod take_over;
mod target;
mod terminal;
mod wait;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::app::Role;
use crate::runtime::compile;
use failure::{Exit, Failure, Result};
use global::Global;
use session::Session;

const EXAMPLES: &str = "\
Examples:
  wasmorch dev                                  # a cluster on this machine
  wasmorch run hello hello.wasm --replicas 3    # push, deploy and serve a module
  wasmorch get pods -A -o wide
  wasmorch logs -f deploy/hello
";

/// Kubernetes for WASI in one binary
#[derive(Parser, Debug)]
#[command(name = "wasmorch", version, propagate_version = false, before_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(flatten)]
    Role(Role),
    Run(run::Args),
    Push(push::Args),
    Apply(apply::ApplyArgs),
    Create(apply::CreateArgs),
    Get(get::Args),
    Describe(describe::Args),
    Delete(delete::Args),
    Scale(scale::Args),
    Logs(logs::Args),
    Exec(exec::ExecArgs),
    Attach(exec::AttachArgs),
    PortForward(port_forward::Args),
    Debug(debug::Args),
    #[command(subcommand)]
    Rollout(rollout::Verb),
    Cordon(cordon::Args),
    Uncordon(cordon::Args),
    Label(label::Args),
    Annotate(label::Args),
    ApiResources(info::ApiResourcesArgs),
    Version(info::VersionArgs),
    #[command(subcommand)]
    Config(info::ConfigVerb),
    Completion(info::CompletionArgs),
    Bench(bench::BenchArgs),
}

/// How long threads that still do something may hold the end of the process.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// Parses the command line and does what it says; the whole of `main`.
pub fn main() -> ExitCode {
    // The compiler's child process: written and read by `runtime::compile`, not for people.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "compile") {
        return compile::child_main(words);
    }
    let cli = Cli::parse();
    // Two providers may be linked in; the first to be installed wins, and a second is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::failed("Runtime", format!("start the runtime: {error}"));
            return end(Err(failure));
        }
    };
    let result = runtime.block_on(cli.run());
    // What is left has been drained or given up; a call that blocks a thread must not hold the exit.
    runtime.shutdown_timeout(LAST_MOMENT);
    end(result)
}

fn end(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console::progress("");
            console::note(failure.render().trim_end());
            failure.exit.into()
        }
    }
}

impl Cli {
    async fn run(self) -> Result {
        let global = &self.global;
        match self.command {
            Command::Role(role) => role
                .run()
                .await
                .map_err(|error| Failure::new(Exit::Failed, "Role", format!("{error:#}"))),
            Command::Run(args) => run::run(&Session::open(global).await?, args).await,
            Command::Push(args) => push::run(&Session::open(global).await?, args).await,
            Command::Apply(args) => apply::apply(&Session::open(global).await?, args).await,
            Command::Create(args) => apply::create(&Session::open(global).await?, args).await,
            Command::Get(args) => get::run(&Session::open(global).await?, args).await,
            Command::Describe(args) => describe::run(&Session::open(global).await?, args).await,
            Command::Delete(args) => delete::run(&Session::open(global).await?, args).await,
            Command::Scale(args) => scale::run(&Session::open(global).await?, args).await,
            Command::Logs(args) => logs::run(&Session::open(global).await?, args).await,
            Command::Exec(args) => exec::exec(&Session::open(global).await?, args).await,
            Command::Attach(args) => exec::attach(&Session::open(global).await?, args).await,
            Command::PortForward(args) => {
                port_forward::run(Session::open(global).await?, args).await
            }
            Command::Debug(args) => debug::run(&Session::open(global).await?, args).await,
            Command::Rollout(verb) => rollout::run(&Session::open(global).await?, verb).await,
            Command::Cordon(args) => cordon::run(&Session::open(global).await?, args, true).await,
            Command::Uncordon(args) => {
                cordon::run(&Session::open(global).await?, args, false).await
            }
            Command::Label(args) => {
                label::run(&Session::open(global).await?, args, label::LABELS).await
            }
            Command::Annotate(args) => {
                label::run(&Session::open(global).await?, args, label::ANNOTATIONS).await
            }
            Command::ApiResources(args) => {
                info::api_resources(&Session::open(global).await?, &args).await
            }
            Command::Version(args) => info::version(global, &args).await,
            Command::Config(verb) => info::config(global, &verb),
            Command::Bench(args) => bench::run(args, &global.output())
                .await
                .map_err(|error| Failure::failed("Bench", format!("{error:#}"))),
            Command::Completion(args) => info::completion(&args, &mut Self::command()),
        }
    }
}

/// Does something to each of several things: one failure does not stop the rest, all are told, and
/// the last decides the exit code.
fn report_all(results: Vec<Result>) -> Result {
    let mut last = Ok(());
    for failure in results.into_iter().filter_map(Result::err) {
        if let Err(earlier) = std::mem::replace(&mut last, Err(failure)) {
            console::note(earlier.render().trim_end());
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_consistent() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn check(line: &str, accepted: bool) {
        let parsed = Cli::try_parse_from(line.split_whitespace());
        assert_eq!(parsed.is_ok(), accepted, "{line}");
    }

    #[test]
    fn lines_are_parsed_like_kubectls() {
        check("wasmorch get pods -n shop -o wide", true);
        check("wasmorch -n shop get pods", true);
        check(
            "wasmorch get po,svc -A -l app=x --show-labels --no-headers",
            true,
        );
        check(
            "wasmorch get pods -o jsonpath={.items[*].metadata.name}",
            true,
        );
        check("wasmorch get pods -w", true);
        check("wasmorch get", false);
        check("wasmorch get pods -o xml", false);
        check("wasmorch apply -f a.yaml -f b.yaml", true);
        check("wasmorch delete pod a --wait=false", true);
        check("wasmorch delete pods --all --yes", true);
        check("wasmorch scale deploy/a --replicas 3", true);
        check("wasmorch scale deploy/a --replicas=-1", false);
        check("wasmorch scale deploy/a", false);
        check("wasmorch logs -f deploy/a --tail 10 --since 5m", true);
        check("wasmorch logs a --since soon", false);
        check("wasmorch exec -it a -c b -- ls -l", true);
        check("wasmorch exec a", false);
        check("wasmorch attach -it a", true);
        check(
            "wasmorch debug -it a --image toolbox --target b -- sh",
            true,
        );
        check("wasmorch debug a", true);
        check("wasmorch rollout undo deploy/a --to-revision 2", true);
        check("wasmorch rollout status deployment a", true);
        check(
            "wasmorch run hello a.wasm --replicas 3 --port 80 --env A=b --env C=d",
            true,
        );
        check("wasmorch run hello a.wasm --env A", false);
        check("wasmorch push a.wasm -t v2 --name hello", true);
        check("wasmorch cordon dev-1", true);
        check("wasmorch label pods a x=y z-", true);
        check("wasmorch completion bash", true);
        check("wasmorch config path", true);
        check("wasmorch dev", true);
        check("wasmorch frobnicate", false);
    }

    #[test]
    fn every_help_begins_with_examples() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            if matches!(&*name, "server" | "worker" | "router" | "dev" | "help") {
                continue;
            }
            let help = command.render_long_help().to_string();
            assert!(help.starts_with("Examples:"), "{name}:\n{help}");
        }
    }
}
