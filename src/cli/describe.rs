//! `describe`: an object for a reader, with the reason first if it is not well, and its events last.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::console;
use super::discovery::{Catalog, Resource};
use super::failure::{Failure, Result};
use super::merge::LAST_APPLIED;
use super::session::{Session, query};
use super::table::Grid;
use super::target;
use crate::api::table::age;
use crate::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  wasmorch describe pod hello-x2k4
  wasmorch describe deploy/hello
  wasmorch describe nodes
";

/// Conditions whose absence says that something is wrong.
const WANTED: [&str; 6] = [
    "Ready",
    "ContainersReady",
    "Initialized",
    "PodScheduled",
    "Available",
    "Progressing",
];

/// Show an object in detail, with its events
#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// TYPE [NAME…] or TYPE/NAME…
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    objects: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "")]
    selector: String,
}

pub(super) async fn run(session: &Session, args: Args) -> Result {
    let catalog = Catalog::read(session).await?;
    let mut objects: Vec<(&Resource, Value)> = Vec::new();
    let mut failures = Vec::new();
    for target in target::parse(&args.objects)? {
        for resource in catalog.resolve_all(&target.kind)? {
            if target.names.is_empty() {
                let selector = query(&[("labelSelector", &args.selector)]);
                let path = format!("{}{selector}", resource.collection(session.scope()));
                let mut list = session.get(&path).await?;
                if let Value::Array(items) = list["items"].take() {
                    objects.extend(items.into_iter().map(|item| (resource, item)));
                }
            }
            for name in &target.names {
                match session.get(&resource.path(session.namespace(), name)).await {
                    Ok(object) => objects.push((resource, object)),
                    Err(failure) => failures.push(Err(failure)),
                }
            }
        }
    }
    let mut texts = Vec::new();
    for (resource, object) in &objects {
        let events = events(session, &catalog, object).await?;
        texts.push(describe(resource, object, &events)?);
    }
    console::print(&texts.join("\n\n"))?;
    if objects.is_empty() && failures.is_empty() {
        console::note("No resources found");
    }
    super::report_all(failures)
}

/// The events about an object, oldest first.
async fn events(session: &Session, catalog: &Catalog, object: &Value) -> Result<Vec<Value>> {
    let Ok(resource) = catalog.resolve("events") else {
        return Ok(Vec::new());
    };
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    // The events of what has no namespace are in `default`.
    let namespace = match text("namespace") {
        "" => "default",
        namespace => namespace,
    };
    let field = format!(
        "involvedObject.name={},involvedObject.uid={}",
        text("name"),
        text("uid")
    );
    let selector = query(&[("fieldSelector", &field)]);
    let path = format!("{}{selector}", resource.collection(Some(namespace)));
    let mut list = session.get(&path).await?;
    let Value::Array(mut events) = list["items"].take() else {
        return Ok(Vec::new());
    };
    events.sort_by_key(|event| seen_at(event).map(str::to_owned));
    Ok(events)
}

fn seen_at(event: &Value) -> Option<&str> {
    let series = &event["series"]["lastObservedTime"];
    [
        &event["lastTimestamp"],
        series,
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ]
    .into_iter()
    .find_map(Value::as_str)
}

fn describe(resource: &Resource, object: &Value, events: &[Value]) -> Result<String> {
    let metadata = &object["metadata"];
    let mut text = String::new();
    for reason in reasons(object) {
        line(&mut text, "Why:", &reason);
    }
    line(
        &mut text,
        "Name:",
        metadata["name"].as_str().unwrap_or_default(),
    );
    if let Some(namespace) = metadata["namespace"].as_str() {
        line(&mut text, "Namespace:", namespace);
    }
    pairs(&mut text, "Labels:", &metadata["labels"]);
    pairs(&mut text, "Annotations:", &metadata["annotations"]);
    line(
        &mut text,
        "Created:",
        metadata["creationTimestamp"]
            .as_str()
            .unwrap_or("<unknown>"),
    );
    if let Some(since) = metadata["deletionTimestamp"].as_str() {
        line(&mut text, "Terminating:", since);
    }
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        let part = |field: &str| owner[field].as_str().unwrap_or_default();
        line(
            &mut text,
            "Owner:",
            &format!("{}/{}", part("kind"), part("name")),
        );
    }
    for (name, value) in sections(object) {
        text += &section(resource, name, value)?;
    }
    text += &event_table(events);
    Ok(text)
}

/// The fields beside metadata; what is observed comes after what is wanted.
fn sections(object: &Value) -> Vec<(&str, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    let is_section = |name: &str| !matches!(name, "apiVersion" | "kind" | "metadata");
    let mut sections: Vec<_> = fields
        .map(|(name, value)| (&**name, value))
        .filter(|(name, _)| is_section(name))
        .collect();
    sections.sort_by_key(|(name, _)| *name == "status");
    sections
}

fn section(resource: &Resource, name: &str, value: &Value) -> Result<String> {
    let secret = resource.plural == "secrets" && matches!(name, "data" | "stringData");
    let shown = if secret { sizes(value) } else { value.clone() };
    let yaml = serde_saphyr::to_string(&shown)
        .map_err(|error| Failure::failed("Output", format!("encode {name}: {error}")))?;
    let mut text = format!("{}:\n", title(name));
    for row in yaml.lines().filter(|row| *row != "---") {
        let _ = writeln!(text, "  {row}");
    }
    Ok(text)
}

/// A secret is described by the size of its values.
fn sizes(data: &Value) -> Value {
    let size = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
        format!("{} bytes", text.len() / 4 * 3 - padding.min(2))
    };
    let fields = data.as_object().into_iter().flatten();
    fields
        .map(|(name, value)| (name.clone(), size(value).into()))
        .collect::<Map<_, Value>>()
        .into()
}

fn title(name: &str) -> String {
    let mut characters = name.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

fn line(text: &mut String, heading: &str, value: &str) {
    let _ = writeln!(text, "{heading:<14}{value}");
}

fn pairs(text: &mut String, heading: &str, map: &Value) {
    let shown = map.as_object().into_iter().flatten();
    let mut shown = shown.filter(|(key, _)| *key != LAST_APPLIED).peekable();
    if shown.peek().is_none() {
        line(text, heading, "<none>");
    }
    for (index, (key, value)) in shown.enumerate() {
        let heading = if index == 0 { heading } else { "" };
        line(
            text,
            heading,
            &format!("{key}={}", value.as_str().unwrap_or_default()),
        );
    }
}

/// Why an object is not well; nothing if it is.
pub(super) fn reasons(object: &Value) -> Vec<String> {
    let status = &object["status"];
    let mut reasons = Vec::new();
    for list in ["initContainerStatuses", "containerStatuses"] {
        for container in status[list].as_array().into_iter().flatten() {
            reasons.extend(container_reason(container));
        }
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let wanted = WANTED.contains(&text("type"));
        // A pod that has come to its end is not ready, and well.
        if wanted
            && matches!(text("status"), "False" | "Unknown")
            && text("reason") != "PodCompleted"
        {
            let detail = [text("reason"), text("message")];
            let detail: Vec<&str> = detail.into_iter().filter(|part| !part.is_empty()).collect();
            let separator = if detail.is_empty() { "" } else { ": " };
            let kind = text("type");
            reasons.push(format!("not {kind}{separator}{}", detail.join(": ")));
        }
    }
    reasons
}

fn container_reason(container: &Value) -> Option<String> {
    let name = container["name"].as_str().unwrap_or_default();
    let waiting = &container["state"]["waiting"];
    let reason = waiting["reason"].as_str()?;
    if matches!(reason, "ContainerCreating" | "PodInitializing") {
        return None;
    }
    let mut text = format!("container {name} waits: {reason}");
    if let Some(message) = waiting["message"].as_str() {
        let _ = write!(text, ": {message}");
    }
    let last = &container["lastState"]["terminated"];
    if let Some(reason) = last["reason"].as_str() {
        let _ = write!(
            text,
            " (last end: {reason}, exit code {})",
            last["exitCode"]
        );
    }
    Some(text)
}

fn event_table(events: &[Value]) -> String {
    if events.is_empty() {
        return "Events:       <none>\n".to_owned();
    }
    let now = Clock::system().now();
    let mut grid = Grid::new(&["  TYPE", "REASON", "AGE", "FROM", "MESSAGE"]);
    for event in events {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let since = seen_at(event).and_then(|time| time.parse().ok());
        let count = event["count"].as_u64().filter(|count| *count > 1);
        let times = count.map_or_else(String::new, |count| format!(" (x{count})"));
        let source = [&event["reportingComponent"], &event["source"]["component"]];
        let source = source
            .into_iter()
            .filter_map(Value::as_str)
            .find(|name| !name.is_empty());
        grid.row(vec![
            format!("  {}", text(&event["type"])),
            text(&event["reason"]),
            format!("{}{times}", age(since, now)),
            source.unwrap_or_default().to_owned(),
            text(&event["message"]).replace('\n', " "),
        ]);
    }
    format!("Events:\n{}", grid.render(true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sick_object_says_why_first() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "shop", "labels": {"app": "x"},
                "annotations": {LAST_APPLIED: "{}"}, "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"kind": "ReplicaSet", "name": "rs"}]},
            "spec": {"nodeName": "dev-1"},
            "status": {
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "no"},
                    {"type": "PodScheduled", "status": "True"},
                    {"type": "DiskPressure", "status": "False"}],
                "containerStatuses": [{"name": "c",
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                    "lastState": {"terminated": {"reason": "Error", "exitCode": 3}}}]}
        });
        let event = json!({"type": "Warning", "reason": "BackOff", "message": "again\nand again",
            "source": {"component": "worker"}, "count": 3});
        let resource = Resource {
            plural: "pods".to_owned(),
            ..Resource::default()
        };
        let text = describe(&resource, &pod, &[event]).unwrap();
        let text = anstream::adapter::strip_str(&text).to_string();
        insta::assert_snapshot!(text, @r#"
        Why:          container c waits: CrashLoopBackOff: back-off 10s (last end: Error, exit code 3)
        Why:          not Ready: ContainersNotReady: no
        Name:         a
        Namespace:    shop
        Labels:       app=x
        Annotations:  <none>
        Created:      2026-01-01T00:00:00Z
        Owner:        ReplicaSet/rs
        Spec:
          nodeName: dev-1
        Status:
          conditions:
          - message: "no"
            reason: ContainersNotReady
            status: "False"
            type: Ready
          - status: "True"
            type: PodScheduled
          - status: "False"
            type: DiskPressure
          containerStatuses:
          - lastState:
              terminated:
                exitCode: 3
                reason: Error
            name: c
            state:
              waiting:
                message: back-off 10s
                reason: CrashLoopBackOff
        Events:
          TYPE      REASON    AGE              FROM     MESSAGE
          Warning   BackOff   <unknown> (x3)   worker   again and again
        "#);
    }

    #[test]
    fn a_secret_keeps_its_values() {
        let secret = json!({"metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}});
        let resource = Resource {
            plural: "secrets".to_owned(),
            ..Resource::default()
        };
        let text = describe(&resource, &secret, &[]).unwrap();
        assert!(text.contains("password: 7 bytes"), "{text}");
        assert!(!text.contains("aHVud"), "{text}");
    }
}
