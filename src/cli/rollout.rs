//! `rollout`: the life of a workload's template: status, history, undo, restart, pause, resume.
//!
//! As in kubectl, `undo` is computed here: the wanted revision's ReplicaSet or ControllerRevision
//! still has the template, and putting that back into the workload is an update like any other.

mod progress;
mod revision;

use std::time::Duration;

use serde_json::{Value, json};

use super::console;
use super::discovery::{Catalog, Resource};
use super::failure::{Failure, Result};
use super::session::{Session, query};
use super::table::Grid;
use super::{logs, target, wait};
use crate::api::annotations::RESTARTED_AT;
use crate::api::object::prune_nulls;
use crate::clock::Clock;

pub(super) use progress::{Progress, progress};

use revision::{Keeper, Revision, find};

const EXAMPLES: &str = "\
Examples:
  wasmorch rollout status deploy/hello
  wasmorch rollout history deploy/hello
  wasmorch rollout undo deploy/hello --to-revision 2
  wasmorch rollout restart sts/db
";

/// Follow and steer the rollout of a Deployment, StatefulSet or DaemonSet
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
    workloads: &'a Resource,
    keeper: Keeper,
    /// The kind that keeps the revisions.
    kept: &'a Resource,
    name: String,
}

impl<'a> Rollout<'a> {
    fn new(session: &'a Session, catalog: &'a Catalog, which: &Which) -> Result<Self> {
        let (kind, name) = target::one(&which.object)?;
        let resource = catalog.resolve(&kind)?;
        let keeper = match &*resource.full_name() {
            "deployments.apps" => Keeper::ReplicaSets,
            "statefulsets.apps" | "daemonsets.apps" => Keeper::ControllerRevisions,
            _ => {
                return Err(Failure::usage(format!(
                    "{} have no rollout, only deployments, statefulsets and daemonsets",
                    resource.plural
                )));
            }
        };
        Ok(Self {
            session,
            workloads: resource,
            keeper,
            kept: catalog.resolve(keeper.resource())?,
            name,
        })
    }

    fn path(&self) -> String {
        self.workloads.path(self.session.namespace(), &self.name)
    }

    /// `statefulset/db`: what a message names and what the next command takes.
    fn place(&self) -> String {
        format!("{}/{}", self.workloads.singular, self.name)
    }

    fn tell(&self, word: &str) -> Result {
        console::print(&format!("{} {word}\n", self.workloads.display(&self.name)))
    }

    async fn status(&self, args: &StatusArgs) -> Result {
        if !args.watch {
            let workload = self.session.get(&self.path()).await?;
            return match progress(&workload)? {
                Progress::Waiting(text) | Progress::Done(text) => {
                    console::print(&format!("{text}\n"))
                }
            };
        }
        let mut last = String::new();
        let done = |workload: Option<&Value>| {
            let Some(workload) = workload else {
                return Err(Failure::failed(
                    "NotFound",
                    format!("{} does not exist", self.place()),
                ));
            };
            match progress(workload)? {
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
        match wait::until(self.session, self.workloads, place, timeout, done).await? {
            Some(text) => console::print(&format!("{text}\n")),
            None => Err(Failure::failed(
                "Timeout",
                format!("the rollout of {} is not done", self.place()),
            )
            .help(format!("wasmorch describe {}", self.place()))),
        }
    }

    async fn history(&self, revision: Option<u64>) -> Result {
        let workload = self.session.get(&self.path()).await?;
        let revisions = self.revisions(&workload).await?;
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
        console::print(&format!("{}\n", self.workloads.display_full(&self.name)))?;
        console::print(&grid.render(true))
    }

    async fn undo(&self, to: Option<u64>) -> Result {
        let workload = self.session.get(&self.path()).await?;
        self.must_go_on(&workload)?;
        let revisions = self.revisions(&workload).await?;
        let wanted = find(&revisions, to)?;
        let mut current = workload["spec"]["template"].clone();
        prune_nulls(&mut current);
        if current == wanted.template {
            return self.tell(&format!(
                "skipped rollback (revision {} is what is there)",
                wanted.number
            ));
        }
        let question = format!(
            "Roll {} back to revision {}, in context {:?}?",
            self.workloads.display(&self.name),
            wanted.number,
            self.session.place.context
        );
        console::confirm(&question, self.session.global.yes)?;
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": wanted.template}]);
        self.session.json_patch(&self.path(), &patch).await?;
        self.tell("rolled back")
    }

    async fn restart(&self) -> Result {
        let workload = self.session.get(&self.path()).await?;
        self.must_go_on(&workload)?;
        // Whole seconds, as kubectl writes them.
        let now = Clock::system().now();
        let now = format!("{}Z", &now.to_string()[..19]);
        let annotations = json!({RESTARTED_AT: now});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.session.merge(&self.path(), &patch).await?;
        self.tell("restarted")
    }

    async fn set_paused(&self, paused: bool) -> Result {
        if self.keeper != Keeper::ReplicaSets {
            return Err(Failure::usage(format!(
                "{} cannot be paused, only deployments",
                self.workloads.plural
            )));
        }
        let workload = self.session.get(&self.path()).await?;
        let word = if paused { "paused" } else { "resumed" };
        if is_paused(&workload) == paused {
            return Err(Failure::failed(
                "Unchanged",
                format!("{} is {word} already", self.place()),
            ));
        }
        let value = if paused { json!(true) } else { Value::Null };
        self.session
            .merge(&self.path(), &json!({"spec": {"paused": value}}))
            .await?;
        self.tell(word)
    }

    /// A paused rollout takes no new template: nothing would come of it until it goes on.
    fn must_go_on(&self, workload: &Value) -> Result {
        if !is_paused(workload) {
            return Ok(());
        }
        Err(
            Failure::failed("Paused", format!("{} is paused", self.place()))
                .help(format!("wasmorch rollout resume {}", self.place())),
        )
    }

    async fn revisions(&self, workload: &Value) -> Result<Vec<Revision>> {
        let selector = logs::selector(&workload["spec"]["selector"]).unwrap_or_default();
        let collection = self.kept.collection(Some(self.session.namespace()));
        let path = format!("{collection}{}", query(&[("labelSelector", &selector)]));
        let list = self.session.get(&path).await?;
        let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(self.keeper.revisions(items, &workload["metadata"]["uid"]))
    }
}

fn is_paused(workload: &Value) -> bool {
    workload["spec"]["paused"].as_bool().unwrap_or(false)
}

#[cfg(test)]
mod tests;
