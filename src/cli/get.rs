//! `get`: one or many objects, as tables or in another form, now or as they change.

use futures::{AsyncBufReadExt as _, StreamExt as _};
use serde_json::Value;

use super::console;
use super::discovery::{Catalog, Resource};
use super::failure::{Failure, Result};
use super::output::{Output, as_list};
use super::session::{self, Session, query};
use super::table::{Grid, Layout};
use super::target;

const EXAMPLES: &str = "\
Examples:
  wasmorch get pods
  wasmorch get deploy/hello svc/hello -o yaml
  wasmorch get po,svc -A -l app=hello
  wasmorch get pods -o jsonpath='{.items[*].metadata.name}'
";

/// Show objects
#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// TYPE [NAME…], TYPE/NAME… or TYPE,TYPE
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    objects: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "")]
    selector: String,
    /// Only objects with these fields
    #[arg(long, value_name = "FIELDS", default_value = "")]
    field_selector: String,
    /// Go on showing changes
    #[arg(short, long)]
    watch: bool,
    /// Show changes only
    #[arg(long)]
    watch_only: bool,
    /// No headings
    #[arg(long)]
    no_headers: bool,
    /// A column with the labels
    #[arg(long)]
    show_labels: bool,
    /// Also who owns which field, in JSON and YAML
    #[arg(long)]
    show_managed_fields: bool,
    /// What is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
}

/// What to fetch: a type and the path of its objects, or of each one.
struct Request<'a> {
    resource: &'a Resource,
    paths: Vec<String>,
    is_list: bool,
}

pub(super) async fn run(session: &Session, args: Args) -> Result {
    let catalog = Catalog::read(session).await?;
    let requests = requests(session, &catalog, &args)?;
    let output = session.global.output();
    if args.watch || args.watch_only {
        let [request] = &requests[..] else {
            return Err(Failure::usage("only one type can be watched at a time"));
        };
        return watch(session, request, &args, &output).await;
    }
    if output.is_table() {
        tables(session, &requests, &args, &output).await
    } else {
        objects(session, &requests, &args, &output).await
    }
}

fn requests<'a>(session: &Session, catalog: &'a Catalog, args: &Args) -> Result<Vec<Request<'a>>> {
    let mut requests = Vec::new();
    for target in target::parse(&args.objects)? {
        for resource in catalog.resolve_all(&target.kind)? {
            let is_list = target.names.is_empty();
            if !is_list && session.global.all_namespaces {
                return Err(
                    Failure::usage("an object is named in one namespace, not in all")
                        .help("leave out -A, or the name"),
                );
            }
            let selectors = query(&[
                ("labelSelector", &args.selector),
                ("fieldSelector", &args.field_selector),
            ]);
            let paths = if is_list {
                vec![format!(
                    "{}{selectors}",
                    resource.collection(session.scope())
                )]
            } else {
                let names = target.names.iter();
                names
                    .map(|name| resource.path(session.namespace(), name))
                    .collect()
            };
            requests.push(Request {
                resource,
                paths,
                is_list,
            });
        }
    }
    Ok(requests)
}

impl Args {
    fn layout(&self, session: &Session, resource: &Resource, output: &Output) -> Layout {
        Layout {
            wide: *output == Output::Wide,
            namespaces: session.global.all_namespaces && resource.namespaced,
            labels: self.show_labels,
            headers: !self.no_headers,
        }
    }

    fn render(&self, output: &Output, object: &Value, name: &str) -> Result<String> {
        if self.show_managed_fields {
            output.whole(object, name)
        } else {
            output.object(object, name)
        }
    }

    /// Sorts an answer into what to show and what to tell at the end.
    fn sift(&self, answer: Result<Value>, failures: &mut Vec<Result>) -> Option<Value> {
        match answer {
            Ok(value) => Some(value),
            Err(failure) if failure.is_not_found() && self.ignore_not_found => None,
            Err(failure) => {
                failures.push(Err(failure));
                None
            }
        }
    }
}

async fn tables(
    session: &Session,
    requests: &[Request<'_>],
    args: &Args,
    output: &Output,
) -> Result {
    let mut failures = Vec::new();
    let mut texts = Vec::new();
    for request in requests {
        let layout = args.layout(session, request.resource, output);
        let prefix = match requests.len() {
            1 => String::new(),
            _ => request.resource.display_full(""),
        };
        let mut grid = Grid::default();
        for path in &request.paths {
            if let Some(table) = args.sift(session.get_table(path).await, &mut failures) {
                add(&mut grid, &table, layout, &prefix);
            }
        }
        if !grid.is_empty() {
            texts.push(grid.render(layout.headers));
        }
    }
    console::print(&texts.join("\n"))?;
    if texts.is_empty() && failures.is_empty() && !args.ignore_not_found {
        console::note(&nothing(session, requests));
    }
    super::report_all(failures)
}

fn nothing(session: &Session, requests: &[Request<'_>]) -> String {
    let namespaced = requests.iter().any(|request| request.resource.namespaced);
    match session.scope() {
        Some(namespace) if namespaced => {
            format!("No resources found in {namespace} namespace.")
        }
        _ => "No resources found".to_owned(),
    }
}

/// Adds a table, or makes one of what a server without tables has sent.
fn add(grid: &mut Grid, answer: &Value, layout: Layout, prefix: &str) {
    if answer["kind"] == "Table" {
        grid.add(answer, layout, prefix);
        return;
    }
    let items = match answer["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![answer.clone()],
    };
    let row = |item: &Value| {
        serde_json::json!({"cells": [item["metadata"]["name"], item["metadata"]["creationTimestamp"]],
            "object": {"metadata": item["metadata"]}})
    };
    let rows: Vec<Value> = items.iter().map(row).collect();
    let table = serde_json::json!({
        "columnDefinitions": [{"name": "Name"}, {"name": "Created"}], "rows": rows});
    grid.add(&table, layout, prefix);
}

async fn objects(
    session: &Session,
    requests: &[Request<'_>],
    args: &Args,
    output: &Output,
) -> Result {
    let mut failures = Vec::new();
    let mut found: Vec<(&Resource, Value)> = Vec::new();
    for request in requests {
        for path in &request.paths {
            if let Some(answer) = args.sift(session.get(path).await, &mut failures) {
                let items = if request.is_list {
                    items(request.resource, answer)
                } else {
                    vec![answer]
                };
                found.extend(items.into_iter().map(|item| (request.resource, item)));
            }
        }
    }
    let is_single = matches!(requests, [request] if !request.is_list && request.paths.len() == 1);
    let text = match (&found[..], output) {
        (found, Output::Name) => {
            let names = found.iter();
            names
                .map(|(resource, item)| full_name(resource, item) + "\n")
                .collect()
        }
        ([(resource, only)], output) if is_single => {
            args.render(output, only, &full_name(resource, only))?
        }
        ([], _) if is_single => String::new(),
        (found, output) => {
            let items: Vec<Value> = found.iter().map(|(_, item)| item.clone()).collect();
            args.render(output, &as_list(&items), "")?
        }
    };
    console::print(&text)?;
    super::report_all(failures)
}

/// The items of a list, which on the wire do not repeat what they are.
fn items(resource: &Resource, list: Value) -> Vec<Value> {
    let Value::Object(mut fields) = list else {
        return Vec::new();
    };
    let Some(Value::Array(mut items)) = fields.remove("items") else {
        return Vec::new();
    };
    for item in &mut items {
        if let Some(fields) = item.as_object_mut() {
            fields
                .entry("apiVersion")
                .or_insert_with(|| resource.api_version().into());
            fields
                .entry("kind")
                .or_insert_with(|| resource.kind.clone().into());
        }
    }
    items
}

fn full_name(resource: &Resource, item: &Value) -> String {
    resource.display_full(item["metadata"]["name"].as_str().unwrap_or_default())
}

async fn watch(session: &Session, request: &Request<'_>, args: &Args, output: &Output) -> Result {
    let name = match &request.paths[..] {
        [_] if request.is_list => None,
        [path] => path.rsplit('/').next(),
        _ => {
            return Err(Failure::usage(
                "only one object can be watched by name, or all of a type",
            ));
        }
    };
    let field = match name {
        Some(name) => format!("metadata.name={name}"),
        None => args.field_selector.clone(),
    };
    let collection = request.resource.collection(session.scope());
    let pairs = [
        ("labelSelector", &*args.selector),
        ("fieldSelector", &*field),
    ];
    let mut shown = Shown {
        args,
        layout: args.layout(session, request.resource, output),
        grid: Grid::default(),
        output,
        resource: request.resource,
        first: !args.no_headers,
    };
    let listed = session
        .get_table(&format!("{collection}{}", query(&pairs)))
        .await?;
    if !args.watch_only {
        shown
            .list(session, &listed, &format!("{collection}{}", query(&pairs)))
            .await?;
    }
    let since = listed["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let [labels, fields] = pairs;
    let query = query(&[("watch", "1"), ("resourceVersion", since), labels, fields]);
    let accept = if output.is_table() {
        session::TABLE
    } else {
        session::JSON
    };
    let stream = session
        .stream(&format!("{collection}{query}"), accept)
        .await?;
    let mut lines = stream.lines();
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| session.explain(kube::Error::ReadEvents(error)))?;
        let mut event: Value = serde_json::from_str(&line)
            .map_err(|error| Failure::failed("Watch", format!("an event is no JSON: {error}")))?;
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED" | "DELETED") => shown.show(&event["object"])?,
            Some("BOOKMARK") => {}
            _ => return Err(session::event_failure(event["object"].take())),
        }
    }
    Ok(())
}

/// What a watch has shown so far: the headings once, and the widths.
struct Shown<'a> {
    args: &'a Args,
    layout: Layout,
    grid: Grid,
    output: &'a Output,
    resource: &'a Resource,
    first: bool,
}

impl Shown<'_> {
    async fn list(&mut self, session: &Session, table: &Value, path: &str) -> Result {
        if self.output.is_table() {
            return self.show(table);
        }
        let list = session.get(path).await?;
        items(self.resource, list)
            .iter()
            .try_for_each(|item| self.show(item))
    }

    fn show(&mut self, object: &Value) -> Result {
        if !self.output.is_table() {
            let name = full_name(self.resource, object);
            return console::print(&self.args.render(self.output, object, &name)?);
        }
        add(&mut self.grid, object, self.layout, "");
        if self.grid.is_empty() {
            return Ok(());
        }
        let headers = std::mem::replace(&mut self.first, false);
        console::print(&self.grid.render(headers))
    }
}
