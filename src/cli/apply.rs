//! `apply` and `create`: objects from files to the server.

use serde_json::Value;

use super::console;
use super::discovery::{Catalog, Resource};
use super::failure::{Failure, Result};
use super::manifest::Files;
use super::merge;
use super::output::Output;
use super::session::{Session, query};
use super::take_over::{self, take_over};

const APPLY_EXAMPLES: &str = "\
Examples:
  wasmorch apply -f app.yaml
  wasmorch apply -f manifests/ -R
  cat app.yaml | wasmorch apply -f - --dry-run=server
  wasmorch apply --server-side -f app.yaml
";

const CREATE_EXAMPLES: &str = "\
Examples:
  wasmorch create -f app.yaml
  wasmorch create -f job.yaml -o name       # with metadata.generateName: the name it got
";

/// Bring objects to what files say: create them, or change what differs
#[derive(clap::Args, Debug)]
#[command(before_help = APPLY_EXAMPLES)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    files: Files,
    /// `server` checks everything and keeps nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, default_missing_value = "server")]
    dry_run: Option<DryRun>,
    /// Let the server do it, which knows who owns which field
    #[arg(long)]
    server_side: bool,
    /// Take fields from other managers
    #[arg(long, requires = "server_side")]
    force_conflicts: bool,
    /// In whose name fields are owned
    #[arg(
        long,
        value_name = "NAME",
        requires = "server_side",
        default_value = take_over::SERVER_SIDE
    )]
    field_manager: String,
}

/// Create objects from files; what exists already is an error
#[derive(clap::Args, Debug)]
#[command(before_help = CREATE_EXAMPLES)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    files: Files,
    /// `server` checks everything and keeps nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, default_missing_value = "server")]
    dry_run: Option<DryRun>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DryRun {
    None,
    Server,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

pub(super) async fn apply(session: &Session, args: ApplyArgs) -> Result {
    let objects = args.files.read()?;
    let catalog = Catalog::read(session).await?;
    let dry_run = args.dry_run == Some(DryRun::Server);
    let mut results = Vec::new();
    for object in objects {
        if args.server_side {
            results.push(apply_on_server(session, &catalog, &object, &args).await);
            continue;
        }
        let applied = apply_object(session, &catalog, object, dry_run).await;
        results.push(applied.and_then(|(resource, outcome, object)| {
            tell(session, resource, &object, outcome.word(), dry_run)
        }));
    }
    super::report_all(results)
}

pub(super) async fn create(session: &Session, args: CreateArgs) -> Result {
    let objects = args.files.read()?;
    let catalog = Catalog::read(session).await?;
    let dry_run = args.dry_run == Some(DryRun::Server);
    let mut results = Vec::new();
    for object in objects {
        results.push(create_object(session, &catalog, &object, dry_run).await);
    }
    super::report_all(results)
}

async fn create_object(
    session: &Session,
    catalog: &Catalog,
    object: &Value,
    dry_run: bool,
) -> Result {
    let resource = catalog.of_object(object)?;
    let namespace = namespace_of(session, resource, object)?;
    let path = format!(
        "{}{}",
        resource.collection(Some(&namespace)),
        options(dry_run)
    );
    let created = session.create(&path, object).await?;
    tell(session, resource, &created, "created", dry_run)
}

/// One object of `apply`: what became of it, and how it is now.
pub(super) async fn apply_object<'a>(
    session: &Session,
    catalog: &'a Catalog,
    mut object: Value,
    dry_run: bool,
) -> Result<(&'a Resource, Outcome, Value)> {
    let resource = catalog.of_object(&object)?;
    let namespace = namespace_of(session, resource, &object)?;
    let name = name_of(&object)?.to_owned();
    let path = resource.path(&namespace, &name);
    let live = session.find(&path).await?;
    let last = live.as_ref().and_then(merge::last_applied);
    merge::remember(&mut object);
    let Some(live) = live else {
        let path = format!(
            "{}{}",
            resource.collection(Some(&namespace)),
            options(dry_run)
        );
        let created = session.create(&path, &object).await?;
        return Ok((resource, Outcome::Created, created));
    };
    match merge::three_way(last.as_ref(), &object, &live) {
        None => Ok((resource, Outcome::Unchanged, live)),
        Some(patch) => {
            let path = format!("{path}{}", options(dry_run));
            let changed = session.merge(&path, &patch).await?;
            Ok((resource, Outcome::Configured, changed))
        }
    }
}

/// One object by server-side apply.
async fn apply_on_server(
    session: &Session,
    catalog: &Catalog,
    object: &Value,
    args: &ApplyArgs,
) -> Result {
    let resource = catalog.of_object(object)?;
    let namespace = namespace_of(session, resource, object)?;
    let dry_run = args.dry_run == Some(DryRun::Server);
    let path = resource.path(&namespace, name_of(object)?);
    let options = query(&[
        ("dryRun", if dry_run { "All" } else { "" }),
        ("fieldManager", &args.field_manager),
        ("force", if args.force_conflicts { "true" } else { "" }),
    ]);
    let target = format!("{path}{options}");
    let send = async || {
        let applied = session.apply(&target, object).await;
        applied.map_err(|failure| {
            if failure.is_conflict() {
                failure
                    .help("take the fields over: --force-conflicts; or leave them out of the file")
            } else {
                failure
            }
        })
    };
    let mut applied = send().await?;
    if !dry_run && take_over(session, &path, applied.clone(), &args.field_manager).await? {
        applied = send().await?;
    }
    tell(session, resource, &applied, "serverside-applied", dry_run)
}

fn name_of(object: &Value) -> Result<&str> {
    object["metadata"]["name"]
        .as_str()
        .ok_or_else(|| Failure::failed("Invalid", "apply needs a name; generateName is for create"))
}

fn options(dry_run: bool) -> String {
    query(&[
        ("dryRun", if dry_run { "All" } else { "" }),
        ("fieldManager", take_over::CLIENT_SIDE),
    ])
}

/// The namespace an object goes to; `-n` may not contradict the file.
fn namespace_of(session: &Session, resource: &Resource, object: &Value) -> Result<String> {
    let own = object["metadata"]["namespace"].as_str();
    match (own, &session.global.namespace) {
        (Some(own), Some(asked)) if resource.namespaced && own != asked => Err(Failure::usage(
            format!("the file says namespace {own:?}, -n says {asked:?}"),
        )),
        (Some(own), _) => Ok(own.to_owned()),
        (None, _) => Ok(session.namespace().to_owned()),
    }
}

fn tell(
    session: &Session,
    resource: &Resource,
    object: &Value,
    word: &str,
    dry_run: bool,
) -> Result {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let output = session.global.output();
    if matches!(output, Output::Table | Output::Wide) {
        let note = if dry_run { " (server dry run)" } else { "" };
        return console::print(&format!("{} {word}{note}\n", resource.display(name)));
    }
    console::print(&output.object(object, &resource.display_full(name))?)
}
