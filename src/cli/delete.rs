//! `delete`: objects by name, by label, or as files say; waits until they are gone.

use std::time::Duration;

use serde_json::{Value, json};

use super::console;
use super::discovery::{Catalog, Resource};
use super::failure::{Failure, Result};
use super::manifest::Files;
use super::session::{Session, query};
use super::{target, wait};

const EXAMPLES: &str = "\
Examples:
  wasmorch delete pod hello-x2k4
  wasmorch delete deploy/hello svc/hello
  wasmorch delete pods -l app=hello --wait=false
  wasmorch delete -f app.yaml
";

/// Delete objects
#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// TYPE NAME…, TYPE/NAME…
    #[arg(value_name = "TYPE[/NAME]")]
    objects: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// All objects with these labels
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "")]
    selector: String,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// Wait until they are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    wait: bool,
    /// At most so long (30s, 5m)
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::app::flags::duration)]
    timeout: Duration,
    /// Seconds for a graceful end
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// The same as --grace-period 1
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,
    /// What happens to what the object owns
    #[arg(long, value_enum, default_value = "background")]
    cascade: Cascade,
    /// What is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Cascade {
    Background,
    Foreground,
    Orphan,
}

/// An object to delete.
struct Doomed<'a> {
    resource: &'a Resource,
    namespace: String,
    name: String,
}

pub(super) async fn run(session: &Session, args: Args) -> Result {
    let catalog = Catalog::read(session).await?;
    let doomed = if args.files.files.is_empty() {
        named(session, &catalog, &args).await?
    } else {
        from_files(session, &catalog, &args)?
    };
    if let Some(question) = question(session, &doomed, args.all) {
        console::confirm(&question, session.global.yes)?;
    }
    if doomed.is_empty() {
        console::note("No resources found");
    }
    let mut results = Vec::new();
    let mut waiting = Vec::new();
    for object in doomed {
        match delete(session, &object, &args).await {
            Ok(Some(uid)) => waiting.push((object, uid)),
            Ok(None) => {}
            Err(failure) => results.push(Err(failure)),
        }
    }
    if args.wait {
        for (object, uid) in waiting {
            results.push(until_gone(session, &object, &uid, args.timeout).await);
        }
    }
    super::report_all(results)
}

async fn named<'a>(
    session: &Session,
    catalog: &'a Catalog,
    args: &Args,
) -> Result<Vec<Doomed<'a>>> {
    let mut doomed = Vec::new();
    for target in target::parse(&args.objects)? {
        for resource in catalog.resolve_all(&target.kind)? {
            let mut add = |namespace: &str, name: &str| {
                doomed.push(Doomed {
                    resource,
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                });
            };
            if !target.names.is_empty() {
                target
                    .names
                    .iter()
                    .for_each(|name| add(session.namespace(), name));
                continue;
            }
            if args.selector.is_empty() && !args.all {
                return Err(Failure::usage(format!("which {}?", resource.plural))
                    .help("name them, or -l LABELS, or --all"));
            }
            let selector = query(&[("labelSelector", &args.selector)]);
            let path = format!("{}{selector}", resource.collection(session.scope()));
            let list = session.get(&path).await?;
            for item in list["items"].as_array().into_iter().flatten() {
                let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default();
                add(text("namespace"), text("name"));
            }
        }
    }
    Ok(doomed)
}

fn from_files<'a>(session: &Session, catalog: &'a Catalog, args: &Args) -> Result<Vec<Doomed<'a>>> {
    if !args.objects.is_empty() || args.all || !args.selector.is_empty() {
        return Err(Failure::usage("-f names the objects; nothing else may"));
    }
    let objects = args.files.read()?;
    let doomed = |object: &Value| {
        let text = |field: &str| object["metadata"][field].as_str();
        Ok(Doomed {
            resource: catalog.of_object(object)?,
            namespace: text("namespace").unwrap_or(session.namespace()).to_owned(),
            name: text("name").unwrap_or_default().to_owned(),
        })
    };
    objects.iter().map(doomed).collect()
}

/// What takes more with it than it says is asked about first.
fn question(session: &Session, doomed: &[Doomed<'_>], all: bool) -> Option<String> {
    let context = &session.place.context;
    let is_namespace = |object: &&Doomed<'_>| object.resource.plural == "namespaces";
    if let Some(namespace) = doomed.iter().find(is_namespace) {
        return Some(format!(
            "Delete namespace {:?} and everything in it, in context {context:?}?",
            namespace.name
        ));
    }
    (all && !doomed.is_empty()).then(|| {
        format!(
            "Delete all {} objects, in context {context:?}?",
            doomed.len()
        )
    })
}

/// Returns the uid of what is on its way out.
async fn delete(session: &Session, object: &Doomed<'_>, args: &Args) -> Result<Option<String>> {
    let policy = match args.cascade {
        Cascade::Background => "Background",
        Cascade::Foreground => "Foreground",
        Cascade::Orphan => "Orphan",
    };
    let mut options =
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
    if let Some(seconds) = args.grace_period.or(args.now.then_some(1)) {
        options["gracePeriodSeconds"] = seconds.into();
    }
    let path = object.resource.path(&object.namespace, &object.name);
    let answer = match session.delete(&path, &options).await {
        Ok(answer) => answer,
        Err(failure) if failure.is_not_found() && args.ignore_not_found => return Ok(None),
        Err(failure) => return Err(failure),
    };
    console::print(&format!(
        "{} deleted\n",
        object.resource.display(&object.name)
    ))?;
    let uid = match answer["kind"].as_str() {
        Some("Status") => &answer["details"]["uid"],
        _ => &answer["metadata"]["uid"],
    };
    Ok(uid.as_str().map(str::to_owned))
}

async fn until_gone(
    session: &Session,
    object: &Doomed<'_>,
    uid: &str,
    timeout: Duration,
) -> Result {
    let place = (&*object.namespace, &*object.name);
    let is_gone = |live: Option<&Value>| {
        let remains = live.is_some_and(|live| live["metadata"]["uid"] == uid);
        Ok((!remains).then_some(()))
    };
    match wait::until(session, object.resource, place, timeout, is_gone).await? {
        Some(()) => Ok(()),
        None => Err(Failure::failed(
            "Timeout",
            format!(
                "{} is still there after {} s",
                object.resource.display(&object.name),
                timeout.as_secs()
            ),
        )
        .because("something holds it: a finalizer, or a pod that does not end")
        .help(format!(
            "wasmorch describe {}",
            object.resource.display(&object.name)
        ))),
    }
}
