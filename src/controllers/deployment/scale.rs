//! Following a change of `spec.replicas` while no rollout may go on: during a pause, or for the one
//! pass in which the change is seen. Pure.

use super::plan::{Set, Step, resize};
use super::proportional::{self, Share};
use super::rolling::{self, Size};
use super::template;

impl Step<'_> {
    /// Sizes follow the Deployment's, the rollout stands still.
    pub(super) fn scale(&mut self) {
        let active: Vec<usize> = (0..self.old.len())
            .filter(|&index| self.old[index].replicas() > 0)
            .collect();
        let new_active = self.new.as_ref().is_some_and(|new| new.replicas() > 0);
        match (active.as_slice(), new_active) {
            ([], _) if self.new.is_some() => self.resize_new(self.desired),
            ([], _) => {
                // Scaling a Deployment whose newest template has not been rolled out yet.
                if let Some(latest) = self.old.len().checked_sub(1) {
                    self.resize_one_old(latest, self.desired);
                }
            }
            ([only], false) => self.resize_one_old(*only, self.desired),
            _ if self.is_saturated() => self.resize_old(&vec![0; self.old.len()]),
            _ if rolling::is_recreate(self.spec) => self.record_sizes(),
            _ => self.scale_proportionally(),
        }
    }

    /// Two active templates under `Recreate` (the strategy was changed during a rollout): the next
    /// pass takes the old one down, if this one no longer looks like a scaling.
    fn record_sizes(&mut self) {
        for set in self.old.iter_mut().chain(&mut self.new) {
            template::record_sizes(&mut set.becomes, self.desired, self.desired);
        }
    }

    /// Whether the new ReplicaSet has all that the Deployment wants.
    fn is_saturated(&self) -> bool {
        self.new.as_ref().is_some_and(|new| {
            template::recorded_sizes(&new.becomes).0 == Some(self.desired)
                && new.size()
                    == Size {
                        replicas: self.desired,
                        available: self.desired,
                    }
        })
    }

    fn scale_proportionally(&mut self) {
        let max_now = self.desired + self.fences.surge;
        let allowed = if self.desired > 0 { max_now } else { 0 };
        let reported = self.deployment.status.as_ref();
        let reported = reported.and_then(|status| status.replicas).unwrap_or(0);
        let mut active: Vec<&mut Set> = self
            .old
            .iter_mut()
            .chain(&mut self.new)
            .filter(|set| set.replicas() > 0)
            .collect();
        let shares: Vec<Share> = active
            .iter()
            .map(|set| Share {
                replicas: set.replicas(),
                max_before: template::recorded_sizes(&set.becomes).1,
            })
            .collect();
        let sizes = proportional::sizes(&shares, allowed, self.desired, max_now, reported);
        for (set, size) in active.iter_mut().zip(sizes) {
            resize(set, size, self.desired, max_now, &mut self.notices);
        }
    }
}
