//! `debug`: puts a container into a running pod to look into it, and connects to it.

use std::time::Duration;

use futures::AsyncReadExt as _;
use http::Method;
use serde_json::{Value, json};

use super::console;
use super::exec::attach_to;
use super::failure::{Failure, Result};
use super::remote::{self, Streams};
use super::session::{Session, query};
use crate::ids;

const EXAMPLES: &str = "\
Examples:
  wasmorch debug -it hello-x2k4                        # a shell of the built-in toolbox
  wasmorch debug hello-x2k4 -- netstat
  wasmorch debug -it hello-x2k4 --image inspector:v1   # a module of yours
";

const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// How long a debug container may take to start.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(100);

/// Put a debug container into a running pod
#[derive(clap::Args, Clone, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// POD, or TYPE/NAME of what has pods
    #[arg(value_name = "POD")]
    pod: String,
    /// A module, or the built-in toolbox
    #[arg(long, value_name = "MODULE", default_value = "toolbox")]
    image: String,
    /// The name of the new container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// The container that it looks at
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Be a terminal to it
    #[arg(short, long)]
    tty: bool,
    /// What it runs instead of the module's own
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    fn patch(&self, name: &str) -> Value {
        let mut container = json!({
            "name": name,
            "image": self.image,
            "stdin": self.stdin,
            // What comes from a pipe ends; who types may leave and come back.
            "stdinOnce": self.stdin && !self.tty,
            "tty": self.tty,
        });
        if let Some(target) = &self.target {
            container["targetContainerName"] = json!(target);
        }
        if !self.command.is_empty() {
            container["command"] = json!(self.command);
        }
        json!({"spec": {"ephemeralContainers": [container]}})
    }
}

pub(super) async fn run(session: &Session, args: Args) -> Result {
    let pod = remote::pod(session, &args.pod).await?;
    let name = match &args.container {
        Some(name) => name.clone(),
        None => format!("debugger-{}", ids::name_suffix()),
    };
    let path = remote::pod_path(session, &pod);
    let patch = args.patch(&name).to_string().into_bytes();
    let subresource = format!("{path}/ephemeralcontainers");
    session
        .change(Method::PATCH, &subresource, STRATEGIC, patch)
        .await?;
    console::note(&format!("debug container {name} in pod {pod}"));
    let state = started(session, &path, &name).await?;
    let streams = Streams {
        stdin: args.stdin,
        tty: args.tty,
    };
    if args.stdin && state["terminated"].is_null() {
        return remote::end(attach_to(session, &pod, &name, streams).await?);
    }
    follow(session, &path, &name).await?;
    let state = ended(session, &path, &name).await?;
    let code = state["terminated"]["exitCode"].as_u64().unwrap_or(1);
    remote::end(u8::try_from(code).unwrap_or(1))
}

/// Waits until the container runs or has ended.
async fn started(session: &Session, path: &str, name: &str) -> Result<Value> {
    let has_begun = |state: &Value| !(state["running"].is_null() && state["terminated"].is_null());
    until(session, path, name, has_begun).await
}

async fn ended(session: &Session, path: &str, name: &str) -> Result<Value> {
    until(session, path, name, |state| !state["terminated"].is_null()).await
}

async fn until(
    session: &Session,
    path: &str,
    name: &str,
    is_reached: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut look = tokio::time::interval(LOOK);
    let mut waiting = Value::Null;
    let looking = async {
        loop {
            look.tick().await;
            let pod = session.get(path).await?;
            let state = state(&pod, name);
            if is_reached(&state) {
                return Ok(state);
            }
            waiting = state;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, looking).await;
    reached.unwrap_or_else(|_| {
        let waiting = &waiting["waiting"];
        let reason = waiting["reason"].as_str().unwrap_or("no status yet");
        let message = waiting["message"].as_str().unwrap_or_default();
        Err(Failure::failed(
            "Debug",
            format!("container {name} did not get so far: {reason}"),
        )
        .because(message.to_owned()))
    })
}

fn state(pod: &Value, name: &str) -> Value {
    let statuses = pod["status"]["ephemeralContainerStatuses"].as_array();
    let mut statuses = statuses.into_iter().flatten();
    let status = statuses.find(|status| status["name"] == name);
    status.map_or(Value::Null, |status| status["state"].clone())
}

/// What it writes, to its end.
async fn follow(session: &Session, path: &str, name: &str) -> Result {
    let path = format!(
        "{path}/log{}",
        query(&[("container", name), ("follow", "true")])
    );
    let mut stream = session.stream(&path, "*/*").await?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => console::print_raw(&buffer[..read])?,
            Err(error) => return Err(session.explain(kube::Error::ReadEvents(error))),
        }
    }
}
