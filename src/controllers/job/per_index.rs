//! Failures counted for each index by itself (`backoffLimitPerIndex`). Pure.
//!
//! The count travels in annotations from a failed pod to the one that replaces it. The last failed
//! pod of an index is therefore held until its replacement is there, or until there will be none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use super::plan;
use super::pods::{self, End};
use super::policy::{Meaning, meaning};

/// On a pod: how many pods of its index had failed before it.
const COUNTED: &str = "batch.kubernetes.io/job-index-failure-count";
/// And how many of those that failed did not count.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// How often an index has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failures {
    pub(super) counted: i32,
    pub(super) ignored: i32,
}

impl Failures {
    /// Before this pod.
    fn before(pod: &Pod) -> Self {
        let annotations = pod.metadata.annotations.as_ref();
        let number = |key: &str| {
            let text = annotations.and_then(|annotations| annotations.get(key));
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        Self {
            counted: number(COUNTED),
            ignored: number(IGNORED),
        }
    }

    /// This failed pod counted.
    fn after(spec: &JobSpec, pod: &Pod) -> Self {
        let before = Self::before(pod);
        match meaning(spec, pod) {
            Meaning::Ignored => Self {
                ignored: before.ignored.saturating_add(1),
                ..before
            },
            Meaning::Counts | Meaning::FailsIndex | Meaning::FailsJob(_) => Self {
                counted: before.counted.saturating_add(1),
                ..before
            },
        }
    }

    fn all(self) -> i32 {
        self.counted.saturating_add(self.ignored)
    }

    /// Writes them on the pod that is made next.
    pub(super) fn note(self, pod: &mut Pod) {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(COUNTED.to_owned(), self.counted.to_string());
        if self.ignored > 0 {
            annotations.insert(IGNORED.to_owned(), self.ignored.to_string());
        }
    }
}

/// The indexes that have failed for good, and the last failed pods of those that will be tried again.
#[derive(Debug, Default)]
pub(super) struct PerIndex {
    pub(super) failed: Indexes,
    pub(super) held: BTreeMap<i32, Arc<Pod>>,
}

/// `None` where failures are counted for the whole job.
pub(super) fn look(
    spec: &JobSpec,
    old: &JobStatus,
    found: &[Arc<Pod>],
    completed: &Indexes,
) -> Option<PerIndex> {
    let limit = spec.backoff_limit_per_index?;
    let completions = spec.completions.unwrap_or(0);
    let waits = plan::waits(spec);
    let text = old.failed_indexes.as_deref().unwrap_or_default();
    let mut seen = PerIndex {
        failed: Indexes::parse(text, completions),
        held: BTreeMap::new(),
    };
    let of_index = |pod: &Arc<Pod>, wanted: End| {
        let index = pods::index(pod).filter(|index| *index < completions)?;
        (pods::end(pod, waits) == wanted).then_some(index)
    };
    let failed = || {
        let tracked = found.iter().filter(|pod| pods::is_tracked(pod));
        tracked.filter_map(|pod| Some((of_index(pod, End::Failed)?, pod)))
    };
    for (index, pod) in failed() {
        let is_last = match meaning(spec, pod) {
            Meaning::FailsIndex => true,
            Meaning::Ignored => false,
            Meaning::Counts | Meaning::FailsJob(_) => Failures::before(pod).counted >= limit,
        };
        if is_last {
            seen.failed.insert(index);
        }
    }
    let mut done = completed.clone();
    let running = found
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    running
        .filter_map(|pod| of_index(pod, End::Running))
        .for_each(|index| done.insert(index));
    let rank = |pod: &Pod| (Failures::before(pod).all(), pods::ended_at(pod));
    for (index, pod) in failed() {
        if done.contains(index) || seen.failed.contains(index) {
            continue;
        }
        let last = seen.held.entry(index).or_insert_with(|| Arc::clone(pod));
        if rank(pod) > rank(last) {
            *last = Arc::clone(pod);
        }
    }
    Some(seen)
}

impl PerIndex {
    /// Those of the indexes whose own back-off is over, and when the next one's will be.
    pub(super) fn ready(
        &self,
        spec: &JobSpec,
        indexes: Vec<i32>,
        now: Timestamp,
    ) -> (Vec<(i32, Failures)>, Option<Duration>) {
        let (mut ready, mut wait) = (Vec::new(), None::<Duration>);
        for index in indexes {
            let Some(last) = self.held.get(&index) else {
                ready.push((index, Failures::default()));
                continue;
            };
            let failures = Failures::after(spec, last);
            let ended = pods::ended_at(last).unwrap_or(now);
            match plan::left_of_backoff(failures.all(), ended, now) {
                Some(left) => wait = wait.into_iter().chain([left]).min(),
                None => ready.push((index, failures)),
            }
        }
        (ready, wait)
    }

    pub(super) fn holds(&self, pod: &Pod) -> bool {
        let mut held = self.held.values();
        held.any(|held| held.metadata.uid == pod.metadata.uid)
    }
}
