//! `logs`: of a pod, or of all pods behind something, now or as they come.
//!
//! `logs -f deploy/x` follows the workload, not the pods it has at the moment: a replacement's log
//! joins when it starts. Lines of several pods carry the pod's name; lines of one pod are its bytes
//! as they are, unless a person sees them ([`Screen`]).

mod screen;

use std::collections::HashSet;
use std::time::Duration;

use futures::{AsyncBufReadExt as _, AsyncReadExt as _};
use serde_json::Value;
use tokio::sync::mpsc;

use super::console;
use super::discovery::{Catalog, Resource};
use super::failure::{Failure, Result};
use super::session::{Session, query};
use super::target;
use crate::tasks::TaskGroup;
use screen::Screen;

const EXAMPLES: &str = "\
Examples:
  wasmorch logs hello-x2k4
  wasmorch logs -f deploy/hello
  wasmorch logs -l app=hello --tail 20 --prefix
  wasmorch logs hello-x2k4 -c server --previous
";

/// Lines that may wait for the terminal; a pod that writes faster waits with its connection.
const LINES: usize = 256;

/// The longest piece of a line that is printed at once.
const LINE: u64 = 64 << 10;

/// How often a followed workload is looked at for new pods, when nothing else says so.
const LOOK: Duration = Duration::from_secs(1);

/// Show what pods have written
#[derive(clap::Args, Clone, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// POD, or TYPE/NAME of what has pods
    #[arg(value_name = "POD")]
    objects: Vec<String>,
    /// Of all pods with these labels
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "")]
    selector: String,
    /// Which container; the first by default
    #[arg(short, long, value_name = "NAME", default_value = "")]
    container: String,
    /// Go on as more is written
    #[arg(short, long)]
    follow: bool,
    /// Of the container's run before this one
    #[arg(short, long)]
    previous: bool,
    /// Only so many lines from the end
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Only what is newer (30s, 5m, 2h)
    #[arg(long, value_name = "TIME", value_parser = crate::app::flags::duration)]
    since: Option<Duration>,
    /// Each line with its time
    #[arg(long)]
    timestamps: bool,
    /// Each line with its pod's name
    #[arg(long)]
    prefix: bool,
}

/// Whose logs: one pod, or whatever pods have some labels.
enum Source {
    Pod(String),
    Labels(String),
}

pub(super) async fn run(session: &Session, args: Args) -> Result {
    let catalog = Catalog::read(session).await?;
    let pods = catalog.resolve("pods")?;
    match source(session, &catalog, &args).await? {
        Source::Pod(name) if !args.prefix => one(session, pods, &name, &args).await,
        Source::Pod(name) => {
            let mut followed = Followed::new(session, pods, args.clone());
            followed.start(&name);
            followed.finish().await
        }
        Source::Labels(selector) => many(session, pods, &selector, &args).await,
    }
}

async fn source(session: &Session, catalog: &Catalog, args: &Args) -> Result<Source> {
    let words = &args.objects[..];
    match words {
        [] if args.selector.is_empty() => Err(Failure::usage("whose logs?")
            .help("name a pod, TYPE/NAME of what has pods, or -l LABELS")),
        [] => Ok(Source::Labels(args.selector.clone())),
        _ if !args.selector.is_empty() => Err(Failure::usage("a name or -l, not both")),
        [pod] if !pod.contains('/') => Ok(Source::Pod(pod.clone())),
        words => {
            let (kind, name) = target::one(words)?;
            let resource = catalog.resolve(&kind)?;
            if resource.plural == "pods" {
                return Ok(Source::Pod(name));
            }
            let object = session
                .get(&resource.path(session.namespace(), &name))
                .await?;
            match selector(&object["spec"]["selector"]) {
                Some(labels) => Ok(Source::Labels(labels)),
                None => Err(Failure::usage(format!(
                    "{} has no pods",
                    resource.display(&name)
                ))),
            }
        }
    }
}

/// The text of a selector: of a workload (`matchLabels`) or of a service (a plain map).
pub(super) fn selector(selector: &Value) -> Option<String> {
    let labels = match selector.get("matchLabels") {
        Some(labels) => labels,
        None if selector.get("matchExpressions").is_some() => &Value::Null,
        None => selector,
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = labels.as_object().into_iter().flatten();
    let mut parts: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = text(&expression["key"]);
        let values: Vec<String> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key,
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

impl Args {
    fn query(&self) -> String {
        let flag = |set: bool| if set { "true" } else { "" };
        let tail = self.tail.map(|lines| lines.to_string()).unwrap_or_default();
        let since = self
            .since
            .map(|since| since.as_secs().max(1).to_string())
            .unwrap_or_default();
        query(&[
            ("container", &self.container),
            ("follow", flag(self.follow)),
            ("previous", flag(self.previous)),
            ("timestamps", flag(self.timestamps)),
            ("tailLines", &tail),
            ("sinceSeconds", &since),
        ])
    }
}

/// The bytes of one pod's log.
async fn one(session: &Session, pods: &Resource, name: &str, args: &Args) -> Result {
    let path = format!(
        "{}/log{}",
        pods.path(session.namespace(), name),
        args.query()
    );
    let mut stream = session.stream(&path, "*/*").await?;
    let mut buffer = vec![0; 16 << 10];
    let mut screen = Screen::new();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => screen.print(&buffer[..read])?,
            Err(error) => return Err(session.explain(kube::Error::ReadEvents(error))),
        }
    }
}

async fn many(session: &Session, pods: &Resource, selector: &str, args: &Args) -> Result {
    let listed = started_pods(session, pods, selector).await?;
    if listed.is_empty() && !args.follow {
        console::note(&format!(
            "no pod with {selector} has started in {}",
            session.namespace()
        ));
        return Ok(());
    }
    let mut followed = Followed::new(session, pods, args.clone());
    for name in &listed {
        followed.start(name);
    }
    if !args.follow {
        return followed.finish().await;
    }
    let mut screen = Screen::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            Some(line) = followed.lines.recv() => screen.print(&line)?,
            _ = look.tick() => {
                match started_pods(session, pods, selector).await {
                    Ok(names) => names.iter().for_each(|name| followed.start(name)),
                    // The server may be on its way back; the logs that run go on meanwhile.
                    Err(failure) if failure.is_unreachable() => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
}

async fn started_pods(session: &Session, pods: &Resource, selector: &str) -> Result<Vec<String>> {
    let collection = pods.collection(Some(session.namespace()));
    let list = session
        .get(&format!(
            "{collection}{}",
            query(&[("labelSelector", selector)])
        ))
        .await?;
    let items = list["items"].as_array().into_iter().flatten();
    let started = items.filter(|pod| has_started(pod));
    Ok(started
        .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
        .collect())
}

/// Whether there can be a log.
fn has_started(pod: &Value) -> bool {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let mut containers = lists
        .iter()
        .flat_map(|list| pod["status"][*list].as_array().into_iter().flatten());
    containers.any(|container| {
        let state = &container["state"];
        state.get("running").is_some()
            || state.get("terminated").is_some()
            || container["lastState"].get("terminated").is_some()
    })
}

/// Several logs at once, each in a task of its own, their lines in one queue.
struct Followed {
    tasks: TaskGroup,
    client: kube::Client,
    pods: Resource,
    namespace: String,
    args: Args,
    known: HashSet<String>,
    sender: mpsc::Sender<Vec<u8>>,
    lines: mpsc::Receiver<Vec<u8>>,
}

impl Followed {
    fn new(session: &Session, pods: &Resource, args: Args) -> Self {
        let (sender, lines) = mpsc::channel(LINES);
        Self {
            tasks: TaskGroup::new(),
            client: session.client.clone(),
            pods: pods.clone(),
            namespace: session.namespace().to_owned(),
            args,
            known: HashSet::new(),
            sender,
            lines,
        }
    }

    /// Begins with a pod, once.
    fn start(&mut self, name: &str) {
        if !self.known.insert(name.to_owned()) {
            return;
        }
        let path = format!(
            "{}/log{}",
            self.pods.path(&self.namespace, name),
            self.args.query()
        );
        let (client, sender, name) = (self.client.clone(), self.sender.clone(), name.to_owned());
        self.tasks.spawn_contained("log", async move {
            if let Err(error) = copy(&client, &path, &name, &sender).await {
                console::note(&format!("{name}: {}", crate::errors::chain(&error)));
            }
        });
    }

    /// Prints until all logs have ended.
    async fn finish(self) -> Result {
        drop(self.sender);
        let mut lines = self.lines;
        let mut screen = Screen::new();
        while let Some(line) = lines.recv().await {
            screen.print(&line)?;
        }
        Ok(())
    }
}

async fn copy(
    client: &kube::Client,
    path: &str,
    name: &str,
    lines: &mpsc::Sender<Vec<u8>>,
) -> std::result::Result<(), kube::Error> {
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let mut stream = std::pin::pin!(client.request_stream(request).await?);
    loop {
        let mut line = format!("[{name}] ").into_bytes();
        // A line without an end comes in pieces instead of filling the memory.
        let mut piece = (&mut stream).take(LINE);
        let read = piece.read_until(b'\n', &mut line).await;
        if read.map_err(kube::Error::ReadEvents)? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        if lines.send(line).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_become_text() {
        let check =
            |value: Value, text: Option<&str>| assert_eq!(selector(&value).as_deref(), text);
        check(
            json!({"matchLabels": {"a": "1", "b": "2"}}),
            Some("a=1,b=2"),
        );
        check(json!({"a": "1"}), Some("a=1"));
        check(
            json!({"matchLabels": {"a": "1"}, "matchExpressions": [
                {"key": "b", "operator": "In", "values": ["x", "y"]},
                {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"}]}),
            Some("a=1,b in (x,y),c,!d"),
        );
        check(
            json!({"matchExpressions": [{"key": "b", "operator": "Exists"}]}),
            Some("b"),
        );
        check(json!({}), None);
        check(Value::Null, None);
    }
}
