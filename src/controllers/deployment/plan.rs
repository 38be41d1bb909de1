//! What a Deployment does next. Pure: one step from what was seen, never two.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};

use super::rolling::{self, Fences, Size};
use super::status::{self, Facts};
use super::template;
use crate::api::annotations::REVISION;
use crate::controllers::events::Notice;
use crate::controllers::{Error, path};

/// What was read.
pub(super) struct Observed {
    pub(super) replica_sets: Vec<Arc<ReplicaSet>>,
    /// Uids of ReplicaSets with pods that may still run; read for `Recreate` only.
    pub(super) living_pods_of: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Write {
    Create(Box<ReplicaSet>),
    Update(Box<ReplicaSet>),
    Delete(Arc<ReplicaSet>),
}

pub(super) struct Plan {
    pub(super) writes: Vec<Write>,
    pub(super) notices: Vec<Notice>,
    /// The Deployment's revision annotation, if it must change.
    pub(super) revision: Option<String>,
    pub(super) status: DeploymentStatus,
    pub(super) look_again: Option<Duration>,
}

pub(super) fn plan(
    deployment: &Deployment,
    observed: &Observed,
    now: Timestamp,
) -> Result<Plan, Error> {
    let spec = deployment.spec.as_ref().ok_or_else(|| Error::NoSpec {
        object: path(&deployment.metadata),
    })?;
    let mut step = Step::new(deployment, spec, observed);
    let paused = spec.paused.unwrap_or(false);
    let dying = deployment.metadata.deletion_timestamp.is_some();
    let rolled = !dying && !paused && !step.is_scaling();
    if dying {
        // Its ReplicaSets are the garbage collector's; only the status is kept true.
    } else if !rolled {
        step.find_new(false)?;
        step.scale();
        if paused {
            step.clean_up();
        }
    } else if rolling::is_recreate(spec) {
        step.recreate(&observed.living_pods_of)?;
    } else {
        step.roll()?;
    }
    Ok(step.finish(rolled, now))
}

/// A ReplicaSet as it is, and as it shall be.
pub(super) struct Set {
    was: Option<Arc<ReplicaSet>>,
    pub(super) becomes: ReplicaSet,
}

impl Set {
    pub(super) fn replicas(&self) -> i32 {
        self.becomes
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    }

    pub(super) fn size(&self) -> Size {
        Size {
            replicas: self.replicas(),
            available: status::available_replicas(&self.becomes),
        }
    }

    fn name(&self) -> &str {
        self.becomes.metadata.name.as_deref().unwrap_or_default()
    }
}

/// One pass in the making.
pub(super) struct Step<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) desired: i32,
    pub(super) fences: Fences,
    pub(super) new: Option<Set>,
    /// From the oldest.
    pub(super) old: Vec<Set>,
    deleted: Vec<Arc<ReplicaSet>>,
    pub(super) notices: Vec<Notice>,
    revision: Option<String>,
}

impl<'a> Step<'a> {
    fn new(deployment: &'a Deployment, spec: &'a DeploymentSpec, observed: &Observed) -> Self {
        let desired = spec.replicas.unwrap_or(1).max(0);
        let mut sets: Vec<Set> = observed
            .replica_sets
            .iter()
            .map(|set| Set {
                was: Some(Arc::clone(set)),
                becomes: set.as_ref().clone(),
            })
            .collect();
        sets.sort_by(|a, b| age(&a.becomes).cmp(&age(&b.becomes)));
        let is_new = |set: &Set| {
            let spec_of_set = set.becomes.spec.as_ref();
            template::is_same(
                &spec.template,
                spec_of_set.and_then(|spec| spec.template.as_ref()),
            )
        };
        // Of several with the same template the oldest is the new one, so that all agree.
        let new = sets.iter().position(is_new).map(|index| sets.remove(index));
        Self {
            deployment,
            spec,
            desired,
            fences: rolling::fences(spec, desired),
            new,
            old: sets,
            deleted: Vec::new(),
            notices: Vec::new(),
            revision: None,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    fn total(&self) -> i32 {
        self.all().map(Set::replicas).sum()
    }

    /// Whether the replicas were changed since the ReplicaSets were last sized.
    fn is_scaling(&self) -> bool {
        self.all()
            .filter(|set| set.replicas() > 0)
            .filter_map(|set| template::recorded_sizes(&set.becomes).0)
            .any(|desired| desired != self.desired)
    }

    /// Brings the new ReplicaSet's annotations up to date; makes it if `create` and there is none.
    fn find_new(&mut self, create: bool) -> Result<(), Error> {
        let newest_old = self
            .old
            .iter()
            .map(|set| template::revision(&set.becomes))
            .max();
        let next = newest_old.unwrap_or(0) + 1;
        let meta = &self.deployment.metadata;
        if let Some(new) = &mut self.new {
            template::annotate(&mut new.becomes, meta, next);
            if let Some(spec) = &mut new.becomes.spec {
                spec.min_ready_seconds = self.spec.min_ready_seconds;
            }
        } else if create {
            let mut becomes = template::replica_set(self.deployment, self.spec)?;
            template::annotate(&mut becomes, meta, next);
            self.new = Some(Set { was: None, becomes });
        }
        if let Some(new) = &self.new {
            let revision = template::revision(&new.becomes).to_string();
            let annotations = meta.annotations.as_ref();
            if annotations.and_then(|annotations| annotations.get(REVISION)) != Some(&revision) {
                self.revision = Some(revision);
            }
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), Error> {
        self.find_new(true)?;
        let total = self.total();
        let Some(new) = &self.new else { return Ok(()) };
        let grown = rolling::new_size(self.desired, self.fences, new.replicas(), total);
        if grown != new.replicas() || new.was.is_none() {
            self.resize_new(grown);
            return Ok(());
        }
        let old: Vec<Size> = self.old.iter().map(Set::size).collect();
        let sizes = rolling::old_sizes(self.desired, self.fences, new.size(), &old);
        self.resize_old(&sizes);
        self.clean_up_if_complete();
        Ok(())
    }

    /// First all old pods away, then the new ones.
    fn recreate(&mut self, living_pods_of: &[String]) -> Result<(), Error> {
        self.find_new(false)?;
        if self.old.iter().any(|set| set.replicas() > 0) {
            self.resize_old(&vec![0; self.old.len()]);
            return Ok(());
        }
        let lives = |set: &Set| {
            let uid = set.becomes.metadata.uid.as_ref();
            let reported = set
                .becomes
                .status
                .as_ref()
                .map_or(0, |status| status.replicas);
            reported > 0 || uid.is_some_and(|uid| living_pods_of.contains(uid))
        };
        if self.old.iter().any(lives) {
            return Ok(());
        }
        self.find_new(true)?;
        self.resize_new(self.desired);
        self.clean_up_if_complete();
        Ok(())
    }

    pub(super) fn resize_new(&mut self, size: i32) {
        let max = self.desired + self.fences.surge;
        if let Some(new) = &mut self.new {
            resize(new, size, self.desired, max, &mut self.notices);
        }
    }

    pub(super) fn resize_one_old(&mut self, index: usize, size: i32) {
        let max = self.desired + self.fences.surge;
        resize(
            &mut self.old[index],
            size,
            self.desired,
            max,
            &mut self.notices,
        );
    }

    pub(super) fn resize_old(&mut self, sizes: &[i32]) {
        for (index, size) in sizes.iter().enumerate() {
            if self.old[index].replicas() != *size {
                self.resize_one_old(index, *size);
            }
        }
    }

    fn clean_up_if_complete(&mut self) {
        let complete = self.new.as_ref().is_some_and(|new| {
            let reported = new
                .becomes
                .status
                .as_ref()
                .map_or(0, |status| status.replicas);
            reported == self.desired && new.size().available == self.desired
        });
        if complete {
            self.clean_up();
        }
    }

    /// Removes the oldest revisions beyond the history limit; only what has no pods.
    fn clean_up(&mut self) {
        let limit = self.spec.revision_history_limit.unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or(0);
        let living = |set: &&Set| set.becomes.metadata.deletion_timestamp.is_none();
        let mut history: Vec<&Set> = self.old.iter().filter(living).collect();
        history.sort_by_key(|set| template::revision(&set.becomes));
        let surplus = history.len().saturating_sub(limit);
        self.deleted = history
            .into_iter()
            .take(surplus)
            .filter(|set| set.replicas() == 0 && is_settled_at_zero(&set.becomes))
            .filter_map(|set| set.was.clone())
            .collect();
    }

    fn finish(self, rolled: bool, now: Timestamp) -> Plan {
        let facts = Facts {
            deployment: self.deployment,
            spec: self.spec,
            desired: self.desired,
            max_unavailable: self.fences.unavailable,
            new: self.new.as_ref().map(|set| &set.becomes),
            old: self.old.iter().map(|set| &set.becomes).collect(),
            created: self.new.as_ref().is_some_and(|set| set.was.is_none()),
            rolled,
            now,
        };
        let status = status::status(&facts);
        let look_again = status::look_again(&facts, &status);
        let deletions = self.deleted.iter().cloned().map(Write::Delete);
        let kept = self.old.into_iter().chain(self.new).filter(|set| {
            !set.was
                .as_ref()
                .is_some_and(|was| self.deleted.iter().any(|gone| Arc::ptr_eq(gone, was)))
        });
        let writes = kept.filter_map(|set| match &set.was {
            None => Some(Write::Create(Box::new(set.becomes))),
            Some(was) if **was == set.becomes => None,
            Some(_) => Some(Write::Update(Box::new(set.becomes))),
        });
        Plan {
            writes: writes.chain(deletions).collect(),
            notices: self.notices,
            revision: self.revision,
            status,
            look_again,
        }
    }
}

pub(super) fn resize(set: &mut Set, size: i32, desired: i32, max: i32, notices: &mut Vec<Notice>) {
    let before = set.replicas();
    template::record_sizes(&mut set.becomes, desired, max);
    if let Some(spec) = &mut set.becomes.spec {
        spec.replicas = Some(size);
    }
    let way = if size > before { "up" } else { "down" };
    if size != before {
        let message = format!(
            "Scaled {way} replica set {} from {before} to {size}",
            set.name()
        );
        notices.push(Notice::normal("ScalingReplicaSet", message));
    }
}

/// The ReplicaSet's own controller has seen the zero and reports no pods.
fn is_settled_at_zero(set: &ReplicaSet) -> bool {
    let observed = set
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    let reported = set.status.as_ref().map_or(0, |status| status.replicas);
    reported == 0 && set.metadata.generation <= observed
}

fn age(set: &ReplicaSet) -> (Option<Timestamp>, i64, Option<&str>) {
    let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        created,
        template::revision(set),
        set.metadata.name.as_deref(),
    )
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
#[path = "plan_tests.rs"]
mod tests;
