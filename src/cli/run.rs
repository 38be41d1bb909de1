//! `run`: from a wasm file to something that answers, in one command.
//!
//! push + Deployment + Service (+ Ingress), each by `apply`, so running it again with a new file is
//! a rolling update. The image is pinned to the digest just pushed: a moved tag alone would change
//! nothing in the Deployment and start nothing.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::apply::{Outcome, apply_object};
use super::console;
use super::describe::reasons;
use super::discovery::Catalog;
use super::failure::{Exit, Failure, Result};
use super::push::{Pushed, push};
use super::rollout::{Progress, progress};
use super::session::{Session, query};
use super::wait;
use crate::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  wasmorch run hello hello.wasm
  wasmorch run hello hello.wasm --replicas 3 --ingress /hello
  wasmorch run echo echo.wasm --port 7 --env LOG=debug
";

/// Where an HTTP handler listens when nobody says otherwise.
const HANDLER_PORT: u16 = 8080;

/// Push a wasm file, deploy it and give it a service
#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// What it is called
    name: String,
    /// The module or component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How many pods
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: u32,
    /// The port it listens on
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Environment of the guest; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Path under which the front door answers for it
    #[arg(long, value_name = "PATH")]
    ingress: Option<String>,
    /// The tag to move to it
    #[arg(short, long, value_name = "TAG", default_value = "latest")]
    tag: String,
    /// Files that the image brings, read-only beside the program: a directory (or a file) and where it
    /// is in the image, `/` if not given; may be repeated
    #[arg(long, value_name = "DIR[:PATH]")]
    files: Vec<String>,
    /// Wait until it is ready
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    wait: bool,
    /// At most so long (30s, 5m)
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = crate::app::flags::duration)]
    timeout: Duration,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("an environment variable is NAME=VALUE".to_owned()),
    }
}

pub(super) async fn run(session: &Session, args: Args) -> Result {
    let clock = Clock::system();
    let catalog = Catalog::read(session).await?;
    let pushed = push(session, (&args.file, &args.files), &args.name, &args.tag).await?;
    console::print(&pushed.line())?;
    let start = clock.monotonic();
    for object in objects(&args, &pushed)? {
        let (resource, outcome, _) = apply_object(session, &catalog, object, false).await?;
        if !(outcome == Outcome::Unchanged && resource.kind != "Deployment") {
            console::print(&format!(
                "{} {}\n",
                resource.display(&args.name),
                outcome.word()
            ))?;
        }
    }
    if args.wait {
        until_ready(session, &catalog, &args).await?;
        let nodes = nodes(session, &catalog, &args.name).await?;
        let seconds = (clock.monotonic() - start).as_secs_f64();
        console::note(&format!(
            "{0} of {0} ready in {seconds:.1} s   ({1})",
            args.replicas,
            nodes.join(", ")
        ));
    }
    if console::is_interactive() {
        console::note(&format!("try:  wasmorch logs -f deploy/{}", args.name));
    }
    Ok(())
}

/// What is applied, in order.
fn objects(args: &Args, pushed: &Pushed) -> Result<Vec<Value>> {
    let is_handler = pushed.version.role == "Handler";
    let port = args.port.or(is_handler.then_some(HANDLER_PORT));
    let mut objects = vec![deployment(args, &pushed.image(), port)];
    match port {
        Some(port) => objects.push(service(args, port, is_handler)),
        None if args.ingress.is_some() => {
            return Err(Failure::usage("--ingress needs a port to lead to")
                .because(format!("{} is no HTTP handler", args.file.display()))
                .help("--port PORT: where it listens"));
        }
        None => console::note("no service: it is no HTTP handler and no --port is given"),
    }
    if let Some(path) = &args.ingress {
        objects.push(ingress(&args.name, path));
    }
    Ok(objects)
}

fn deployment(args: &Args, image: &str, port: Option<u16>) -> Value {
    let mut container = json!({"name": args.name, "image": image});
    if let Some(port) = port {
        container["ports"] = json!([{"containerPort": port}]);
    }
    container["env"] = environment(&args.env);
    let labels = json!({"app": args.name});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": args.name, "labels": labels},
        "spec": {
            "replicas": args.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })
}

/// What the user sets, after what lets a program say where it runs.
fn environment(set: &[(String, String)]) -> Value {
    let own = [
        ("POD_NAME", "metadata.name"),
        ("NODE_NAME", "spec.nodeName"),
    ];
    let own = own
        .iter()
        .filter(|(name, _)| set.iter().all(|(taken, _)| taken != name));
    let own = own
        .map(|(name, path)| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    own.chain(
        set.iter()
            .map(|(name, value)| json!({"name": name, "value": value})),
    )
    .collect()
}

/// A handler is served on port 80; anything else on the port it listens on.
fn service(args: &Args, port: u16, is_handler: bool) -> Value {
    let is_http = is_handler || args.ingress.is_some();
    let mut entry = json!({"port": if is_http { 80 } else { port }, "targetPort": port});
    if is_http {
        entry["name"] = "http".into();
        entry["appProtocol"] = "http".into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": args.name, "labels": {"app": args.name}},
        "spec": {"selector": {"app": args.name}, "ports": [entry]},
    })
}

fn ingress(name: &str, path: &str) -> Value {
    let backend = json!({"service": {"name": name, "port": {"name": "http"}}});
    let rule = json!({"path": path, "pathType": "Prefix", "backend": backend});
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"rules": [{"http": {"paths": [rule]}}]},
    })
}

async fn until_ready(session: &Session, catalog: &Catalog, args: &Args) -> Result {
    let deployments = catalog.resolve("deployments.apps")?;
    let done = |deployment: Option<&Value>| match deployment.map(progress).transpose()? {
        Some(Progress::Done(_)) => Ok(Some(())),
        Some(Progress::Waiting(_)) | None => {
            let ready =
                deployment.and_then(|deployment| deployment["status"]["readyReplicas"].as_u64());
            let ready = ready.unwrap_or(0);
            console::progress(&format!("waiting: {ready} of {} ready", args.replicas));
            Ok(None)
        }
    };
    let place = (session.namespace(), &*args.name);
    let ready = wait::until(session, deployments, place, args.timeout, done).await;
    console::progress("");
    match ready? {
        Some(()) => Ok(()),
        None => Err(not_ready(args, &pods(session, catalog, &args.name).await?)),
    }
}

/// Why it is not ready, from the pods; a pod that fits nowhere has an exit code of its own.
fn not_ready(args: &Args, pods: &[Value]) -> Failure {
    let unplaced = |pod: &Value| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .any(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")
    };
    let exit = if pods.iter().any(unplaced) {
        Exit::Unplaceable
    } else {
        Exit::Failed
    };
    let what = format!(
        "{} is not ready after {} s",
        args.name,
        args.timeout.as_secs()
    );
    let mut failure = Failure::new(exit, "NotReady", what);
    for pod in pods.iter().take(3) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(reason) = reasons(pod).first() {
            failure = failure.because(format!("{name}: {reason}"));
        }
    }
    failure.help(format!(
        "wasmorch describe pods -l app={}      (it goes on trying)",
        args.name
    ))
}

async fn nodes(session: &Session, catalog: &Catalog, name: &str) -> Result<Vec<String>> {
    let pods = pods(session, catalog, name).await?;
    let nodes = pods
        .iter()
        .filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned));
    let mut nodes: Vec<String> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

async fn pods(session: &Session, catalog: &Catalog, name: &str) -> Result<Vec<Value>> {
    let collection = catalog
        .resolve("pods")?
        .collection(Some(session.namespace()));
    let selector = query(&[("labelSelector", &format!("app={name}"))]);
    let mut list = session.get(&format!("{collection}{selector}")).await?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::api::module::ModuleVersion;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn objects_of(line: &str, role: &str) -> Result<Vec<Value>> {
        let args = Line::parse_from(line.split_whitespace()).args;
        let pushed = Pushed {
            name: args.name.clone(),
            version: ModuleVersion {
                digest: "sha256:d".to_owned(),
                role: role.to_owned(),
                ..ModuleVersion::default()
            },
        };
        objects(&args, &pushed)
    }

    #[test]
    fn a_handler_gets_a_service_on_port_80() {
        let objects =
            objects_of("run hello hello.wasm --replicas 3 --env A=b=c", "Handler").unwrap();
        let [deployment, service] = &objects[..] else {
            panic!("two objects")
        };
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(deployment["spec"]["replicas"], 3);
        assert_eq!(container["image"], "hello@sha256:d");
        assert_eq!(container["env"][2], json!({"name": "A", "value": "b=c"}));
        assert_eq!(container["env"][0]["name"], "POD_NAME");
        assert_eq!(container["ports"], json!([{"containerPort": 8080}]));
        assert_eq!(
            service["spec"]["ports"],
            json!([{"name": "http", "appProtocol": "http", "port": 80, "targetPort": 8080}])
        );
    }

    #[test]
    fn a_command_gets_what_is_asked_for() {
        assert_eq!(objects_of("run job job.wasm", "Command").unwrap().len(), 1);
        let objects = objects_of("run echo echo.wasm --port 7", "Command").unwrap();
        assert_eq!(
            objects[1]["spec"]["ports"],
            json!([{"port": 7, "targetPort": 7}])
        );
        let objects = objects_of("run echo echo.wasm --port 7 --ingress /e", "Command").unwrap();
        assert_eq!(
            objects[2]["spec"]["rules"][0]["http"]["paths"][0]["path"],
            "/e"
        );
        assert!(objects_of("run echo echo.wasm --ingress /e", "Command").is_err());
    }

    #[test]
    fn a_pod_that_fits_nowhere_has_its_own_exit_code() {
        let args = Line::parse_from("run a a.wasm".split_whitespace()).args;
        let pod = json!({"metadata": {"name": "a-1"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}});
        let failure = not_ready(&args, &[pod]);
        assert_eq!(failure.exit, Exit::Unplaceable);
        assert!(
            failure
                .render()
                .contains("a-1: not PodScheduled: Unschedulable: 0/3 nodes")
        );
        assert_eq!(not_ready(&args, &[]).exit, Exit::Failed);
    }
}
