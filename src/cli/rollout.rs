//! `rollout`: the life of a Deployment's template: status, history, undo, restart, pause, resume.
//!
//! As in kubectl, `undo` is computed here: the wanted revision's ReplicaSet still has the template,
//! and putting that back into the Deployment is an update like any other.

use std::time::Duration;

use serde_json::{Value, json};

use super::console;
use super::discovery::{Catalog, Resource};
use super::failure::{Failure, Result};
use super::session::{Session, query};
use super::table::Grid;
use super::{logs, target, wait};
use crate::api::annotations::{POD_TEMPLATE_HASH, RESTARTED_AT, REVISION};
use crate::api::object::prune_nulls;
use crate::clock::Clock;

const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

const EXAMPLES: &str = "\
Examples:
  wasmorch rollout status deploy/hello
  wasmorch rollout history deploy/hello
  wasmorch rollout undo deploy/hello --to-revision 2
  wasmorch rollout restart deploy/hello
";

/// Follow and steer the rollout of a Deployment
#[derive(clap::Subcommand, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) enum Verb {
    /// Wait until the rollout is done, or has failed
    Status(StatusArgs),
    /// Show the revisions that are kept
    History(HistoryArgs),
    /// Go back to an earlier revision
    Undo(UndoArgs),
    /// Replace all pods, a few at a time
    Restart(Which),
    /// Let changes of the template wait
    Pause(Which),
    /// Go on after a pause
    Resume(Which),
}

#[derive(clap::Args, Debug)]
pub(super) struct Which {
    /// TYPE/NAME or TYPE NAME
    #[arg(required = true, value_name = "TYPE/NAME")]
    object: Vec<String>,
}

#[derive(clap::Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    which: Which,
    /// Wait until it is done
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    watch: bool,
    /// At most so long (30s, 5m); no limit by default
    #[arg(long, value_name = "TIME", value_parser = crate::app::flags::duration)]
    timeout: Option<Duration>,
}

#[derive(clap::Args, Debug)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    which: Which,
    /// Show this revision's pod template
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
}

#[derive(clap::Args, Debug)]
pub(super) struct UndoArgs {
    #[command(flatten)]
    which: Which,
    /// The revision to go back to; the one before by default
    #[arg(long, value_name = "N")]
    to_revision: Option<u64>,
}

pub(super) async fn run(session: &Session, verb: Verb) -> Result {
    let catalog = Catalog::read(session).await?;
    let rollout = |which: &Which| Rollout::new(session, &catalog, which);
    match verb {
        Verb::Status(args) => rollout(&args.which)?.status(&args).await,
        Verb::History(args) => rollout(&args.which)?.history(args.revision).await,
        Verb::Undo(args) => rollout(&args.which)?.undo(args.to_revision).await,
        Verb::Restart(which) => rollout(&which)?.restart().await,
        Verb::Pause(which) => rollout(&which)?.set_paused(true).await,
        Verb::Resume(which) => rollout(&which)?.set_paused(false).await,
    }
}

struct Rollout<'a> {
    session: &'a Session,
    deployments: &'a Resource,
    replica_sets: &'a Resource,
    name: String,
}

/// A kept revision of a Deployment.
#[derive(Clone, Debug, PartialEq)]
struct Revision {
    number: u64,
    template: Value,
    cause: Option<String>,
}

impl<'a> Rollout<'a> {
    fn new(session: &'a Session, catalog: &'a Catalog, which: &Which) -> Result<Self> {
        let (kind, name) = target::one(&which.object)?;
        let resource = catalog.resolve(&kind)?;
        if resource.full_name() != "deployments.apps" {
            return Err(Failure::usage(format!(
                "{} have no rollout here, only deployments",
                resource.plural
            )));
        }
        Ok(Self {
            session,
            deployments: resource,
            replica_sets: catalog.resolve("replicasets.apps")?,
            name,
        })
    }

    fn path(&self) -> String {
        self.deployments.path(self.session.namespace(), &self.name)
    }

    fn tell(&self, word: &str) -> Result {
        console::print(&format!(
            "{} {word}\n",
            self.deployments.display(&self.name)
        ))
    }

    async fn status(&self, args: &StatusArgs) -> Result {
        if !args.watch {
            let deployment = self.session.get(&self.path()).await?;
            return match progress(&deployment)? {
                Progress::Waiting(text) | Progress::Done(text) => {
                    console::print(&format!("{text}\n"))
                }
            };
        }
        let mut last = String::new();
        let done = |deployment: Option<&Value>| {
            let Some(deployment) = deployment else {
                return Err(Failure::failed(
                    "NotFound",
                    format!("deployment {:?} does not exist", self.name),
                ));
            };
            match progress(deployment)? {
                Progress::Done(text) => Ok(Some(text)),
                Progress::Waiting(text) => {
                    if text != last {
                        console::print(&format!("{text}\n"))?;
                        last = text;
                    }
                    Ok(None)
                }
            }
        };
        let timeout = args.timeout.unwrap_or(Duration::MAX);
        let place = (self.session.namespace(), &*self.name);
        match wait::until(self.session, self.deployments, place, timeout, done).await? {
            Some(text) => console::print(&format!("{text}\n")),
            None => Err(Failure::failed(
                "Timeout",
                format!("the rollout of {} is not done", self.name),
            )
            .help(format!("wasmorch describe deploy/{}", self.name))),
        }
    }

    async fn history(&self, revision: Option<u64>) -> Result {
        let deployment = self.session.get(&self.path()).await?;
        let revisions = self.revisions(&deployment).await?;
        if let Some(number) = revision {
            let found = find(&revisions, Some(number))?;
            let yaml = serde_saphyr::to_string(&found.template).map_err(|error| {
                Failure::failed("Output", format!("encode the template: {error}"))
            })?;
            return console::print(&yaml);
        }
        if revisions.is_empty() {
            console::note("No rollout history found.");
            return Ok(());
        }
        let mut grid = Grid::new(&["REVISION", "CHANGE-CAUSE"]);
        for revision in &revisions {
            let cause = revision
                .cause
                .clone()
                .unwrap_or_else(|| "<none>".to_owned());
            grid.row(vec![revision.number.to_string(), cause]);
        }
        console::print(&format!("{}\n", self.deployments.display_full(&self.name)))?;
        console::print(&grid.render(true))
    }

    async fn undo(&self, to: Option<u64>) -> Result {
        let deployment = self.session.get(&self.path()).await?;
        if is_paused(&deployment) {
            return Err(
                Failure::failed("Paused", format!("deployment {:?} is paused", self.name))
                    .help(format!("wasmorch rollout resume deploy/{}", self.name)),
            );
        }
        let revisions = self.revisions(&deployment).await?;
        let wanted = find(&revisions, to)?;
        let mut current = deployment["spec"]["template"].clone();
        prune_nulls(&mut current);
        if current == wanted.template {
            return self.tell(&format!(
                "skipped rollback (revision {} is what is there)",
                wanted.number
            ));
        }
        let question = format!(
            "Roll {} back to revision {}, in context {:?}?",
            self.deployments.display(&self.name),
            wanted.number,
            self.session.place.context
        );
        console::confirm(&question, self.session.global.yes)?;
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": wanted.template}]);
        self.session.json_patch(&self.path(), &patch).await?;
        self.tell("rolled back")
    }

    async fn restart(&self) -> Result {
        let deployment = self.session.get(&self.path()).await?;
        if is_paused(&deployment) {
            return Err(
                Failure::failed("Paused", format!("deployment {:?} is paused", self.name))
                    .help(format!("wasmorch rollout resume deploy/{}", self.name)),
            );
        }
        // Whole seconds, as kubectl writes them.
        let now = Clock::system().now();
        let now = format!("{}Z", &now.to_string()[..19]);
        let annotations = json!({RESTARTED_AT: now});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.session.merge(&self.path(), &patch).await?;
        self.tell("restarted")
    }

    async fn set_paused(&self, paused: bool) -> Result {
        let deployment = self.session.get(&self.path()).await?;
        let word = if paused { "paused" } else { "resumed" };
        if is_paused(&deployment) == paused {
            return Err(Failure::failed(
                "Unchanged",
                format!("deployment {:?} is {word} already", self.name),
            ));
        }
        let value = if paused { json!(true) } else { Value::Null };
        self.session
            .merge(&self.path(), &json!({"spec": {"paused": value}}))
            .await?;
        self.tell(word)
    }

    async fn revisions(&self, deployment: &Value) -> Result<Vec<Revision>> {
        let selector = logs::selector(&deployment["spec"]["selector"]).unwrap_or_default();
        let collection = self.replica_sets.collection(Some(self.session.namespace()));
        let path = format!("{collection}{}", query(&[("labelSelector", &selector)]));
        let list = self.session.get(&path).await?;
        let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(revisions(items, &deployment["metadata"]["uid"]))
    }
}

fn is_paused(deployment: &Value) -> bool {
    deployment["spec"]["paused"].as_bool().unwrap_or(false)
}

/// The revisions of the ReplicaSets that a Deployment controls, oldest first.
fn revisions(replica_sets: &[Value], owner: &Value) -> Vec<Revision> {
    let mut revisions: Vec<Revision> = Vec::new();
    for replica_set in replica_sets {
        let metadata = &replica_set["metadata"];
        let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let owned =
            owners.any(|reference| &reference["uid"] == owner && reference["controller"] == true);
        let annotation = |key: &str| metadata["annotations"][key].as_str();
        let number = annotation(REVISION).and_then(|text| text.parse().ok());
        if let Some(number) = number.filter(|_| owned) {
            revisions.push(Revision {
                number,
                template: template(&replica_set["spec"]["template"]),
                cause: annotation(CHANGE_CAUSE).map(str::to_owned),
            });
        }
    }
    revisions.sort_by_key(|revision| revision.number);
    revisions
}

/// A ReplicaSet's template as the Deployment had it.
fn template(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(POD_TEMPLATE_HASH);
    }
    prune_nulls(&mut template);
    template
}

fn find(revisions: &[Revision], number: Option<u64>) -> Result<&Revision> {
    let found = match number.filter(|number| *number != 0) {
        Some(number) => revisions.iter().find(|revision| revision.number == number),
        None => revisions.iter().rev().nth(1),
    };
    found.ok_or_else(|| match number {
        Some(number) => {
            let known: Vec<String> = revisions
                .iter()
                .map(|known| known.number.to_string())
                .collect();
            let failure = Failure::failed("NotFound", format!("revision {number} is not kept"));
            if known.is_empty() {
                failure
            } else {
                failure.help(format!("kept: {}", known.join(", ")))
            }
        }
        None => Failure::failed("NotFound", "there is no revision before this one"),
    })
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting(String),
    Done(String),
}

/// How far a Deployment's rollout is, in kubectl's words; an error if it has given up.
pub(super) fn progress(deployment: &Value) -> Result<Progress> {
    let name = deployment["metadata"]["name"].as_str().unwrap_or_default();
    let status = &deployment["status"];
    let count = |field: &str| status[field].as_u64().unwrap_or(0);
    let generation = deployment["metadata"]["generation"].as_u64().unwrap_or(0);
    if generation > count("observedGeneration") {
        return Ok(Progress::Waiting(
            "Waiting for deployment spec update to be observed...".to_owned(),
        ));
    }
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    if conditions.any(|condition| condition["reason"] == "ProgressDeadlineExceeded") {
        return Err(Failure::failed(
            "DeadlineExceeded",
            format!("deployment {name:?} exceeded its progress deadline"),
        )
        .help(format!("wasmorch describe deploy/{name}")));
    }
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let (updated, all, available) = (
        count("updatedReplicas"),
        count("replicas"),
        count("availableReplicas"),
    );
    let waiting = |what: String| {
        Ok(Progress::Waiting(format!(
            "Waiting for deployment {name:?} rollout to finish: {what}..."
        )))
    };
    if updated < wanted {
        return waiting(format!(
            "{updated} out of {wanted} new replicas have been updated"
        ));
    }
    if all > updated {
        return waiting(format!(
            "{} old replicas are pending termination",
            all - updated
        ));
    }
    if available < updated {
        return waiting(format!(
            "{available} of {updated} updated replicas are available"
        ));
    }
    Ok(Progress::Done(format!(
        "deployment {name:?} successfully rolled out"
    )))
}

#[cfg(test)]
mod tests;
