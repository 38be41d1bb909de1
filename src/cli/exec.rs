//! `exec` and `attach`: another command beside a container's program, or that program itself.

use super::failure::Result;
use super::remote::{self, Streams};
use super::session::Session;

const EXEC_EXAMPLES: &str = "\
Examples:
  wasmorch exec hello-x2k4 -- ls -l /tmp
  wasmorch exec -it hello-x2k4 -- sh                  # look around with the built-in toolbox
  wasmorch exec deploy/hello -c server -- http localhost:8080/
  echo '{}' | wasmorch exec -i hello-x2k4 -- tee /tmp/config.json
";

const ATTACH_EXAMPLES: &str = "\
Examples:
  wasmorch attach hello-x2k4
  wasmorch attach -i hello-x2k4 -c shell
";

/// Run a command in a pod: of the toolbox, a wasm file of the pod, or the container's own program
#[derive(clap::Args, Clone, Debug)]
#[command(before_help = EXEC_EXAMPLES)]
pub(super) struct ExecArgs {
    /// POD, or TYPE/NAME of what has pods
    #[arg(value_name = "POD")]
    pod: String,
    /// Beside which container; the only one by default
    #[arg(short, long, value_name = "NAME", default_value = "")]
    container: String,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Be a terminal to it
    #[arg(short, long)]
    tty: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Show what a container's program writes from now on, and pass standard input to it
#[derive(clap::Args, Clone, Debug)]
#[command(before_help = ATTACH_EXAMPLES)]
pub(super) struct AttachArgs {
    /// POD, or TYPE/NAME of what has pods
    #[arg(value_name = "POD")]
    pod: String,
    /// Which container; the only one by default
    #[arg(short, long, value_name = "NAME", default_value = "")]
    container: String,
    /// Pass standard input on; the container must have been made with `stdin: true`
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Be a terminal to it; the container must have been made with `tty: true`
    #[arg(short, long)]
    tty: bool,
}

pub(super) async fn exec(session: &Session, args: ExecArgs) -> Result {
    let pod = remote::pod(session, &args.pod).await?;
    let streams = Streams {
        stdin: args.stdin,
        tty: args.tty,
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    for word in &args.command {
        query.append_pair("command", word);
    }
    append(&mut query, &args.container, streams);
    let path = remote::pod_path(session, &pod);
    let path = format!("{path}/exec?{}", query.finish());
    remote::end(remote::run(session, &path, streams).await?)
}

pub(super) async fn attach(session: &Session, args: AttachArgs) -> Result {
    let pod = remote::pod(session, &args.pod).await?;
    let streams = Streams {
        stdin: args.stdin,
        tty: args.tty,
    };
    remote::end(attach_to(session, &pod, &args.container, streams).await?)
}

/// Attaches to a container of a pod; its exit code.
pub(super) async fn attach_to(
    session: &Session,
    pod: &str,
    container: &str,
    streams: Streams,
) -> Result<u8> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    append(&mut query, container, streams);
    let path = remote::pod_path(session, pod);
    let path = format!("{path}/attach?{}", query.finish());
    remote::run(session, &path, streams).await
}

fn append(query: &mut form_urlencoded::Serializer<'_, String>, container: &str, streams: Streams) {
    let container = [("container", container)].into_iter();
    for (name, value) in container.chain(streams.pairs()) {
        if !value.is_empty() {
            query.append_pair(name, value);
        }
    }
}
