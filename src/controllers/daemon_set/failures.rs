//! How long a pod that failed stays before the node gets another: a second, twice that the next time,
//! up to a quarter of an hour. Forgotten when a node has been without failures for twice as long.
//!
//! Kept in memory alone, as in Kubernetes: after a restart each node's next replacement comes at once.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::placement;
use super::plan::Plan;
use crate::api::pod::{self, Phase};
use crate::backoff::Backoff;
use crate::controllers::revision::POD_LABEL;

const LONGEST: Duration = Duration::from_mins(15);
const CURVE: Backoff = Backoff::new(Duration::from_secs(1), LONGEST);

/// By the set's uid and the node.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<(String, String), Failed>);

#[derive(Debug)]
struct Failed {
    count: u32,
    last: Timestamp,
}

impl Failures {
    /// Leaves failed pods of the current template where they are until their node's time has come; one
    /// of an older template has a better successor at once.
    pub(super) fn hold_back(&mut self, plan: &mut Plan, uid: &str, hash: &str, now: Timestamp) {
        self.0.retain(|_, failed| failed.since(now) < 2 * LONGEST);
        let mut kept = Vec::new();
        let look_again = &mut plan.look_again;
        plan.delete.retain(|pod| {
            let labels = pod.metadata.labels.as_ref();
            let of = labels.and_then(|labels| labels.get(POD_LABEL));
            if pod::phase(pod) != Phase::Failed || of.map(String::as_str) != Some(hash) {
                return true;
            }
            let node = placement::target(pod).unwrap_or_default();
            let Some(wait) = self.wait(uid, node, now) else {
                return true;
            };
            *look_again = Some(look_again.map_or(wait, |other| other.min(wait)));
            kept.extend(pod.metadata.name.clone());
            false
        });
        plan.notices.retain(|notice| {
            let is_of = |name: &String| notice.message.contains(&format!(" pod {name} on "));
            notice.reason != "FailedDaemonPod" || !kept.iter().any(is_of)
        });
    }

    /// `None` if the failed pod may be replaced now, which is one failure more.
    fn wait(&mut self, uid: &str, node: &str, now: Timestamp) -> Option<Duration> {
        let key = (uid.to_owned(), node.to_owned());
        let failed = self.0.entry(key).or_insert(Failed {
            count: 0,
            last: now,
        });
        let left = CURVE.delay(failed.count).checked_sub(failed.since(now));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Some(left);
        }
        failed.count += 1;
        failed.last = now;
        None
    }
}

impl Failed {
    fn since(&self, now: Timestamp) -> Duration {
        let since: SignedDuration = now.duration_since(self.last);
        Duration::try_from(since).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::events::Notice;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;
    use std::sync::Arc;

    fn planned(hash: &str) -> Plan {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {POD_LABEL: hash}},
            "spec": {"nodeName": "a", "containers": []}, "status": {"phase": "Failed"}}))
        .unwrap();
        Plan {
            delete: vec![Arc::new(pod)],
            notices: vec![Notice::warning(
                "FailedDaemonPod",
                "Found failed daemon pod p on node a, will try to kill it",
            )],
            ..Plan::default()
        }
    }

    #[test]
    fn a_node_that_fails_again_and_again_waits_longer_each_time() {
        let mut failures = Failures::default();
        let mut at = |second: i64, hash: &str| {
            let now = Timestamp::from_second(second).unwrap();
            let mut plan = planned(hash);
            failures.hold_back(&mut plan, "u", "new", now);
            assert_eq!(plan.delete.len(), plan.notices.len());
            (
                plan.delete.len(),
                plan.look_again.map(|wait| wait.as_secs()),
            )
        };
        assert_eq!(at(0, "new"), (1, None));
        assert_eq!(at(0, "new"), (0, Some(1)));
        assert_eq!(at(1, "new"), (1, None));
        assert_eq!(at(2, "new"), (0, Some(1)));
        assert_eq!(at(2, "old"), (1, None), "a new template may be better");
        assert_eq!(at(3, "new"), (1, None));
        assert_eq!(at(4, "new"), (0, Some(3)));
        // Long after, all is forgotten.
        assert_eq!(at(4000, "new"), (1, None));
        assert_eq!(at(4000, "new"), (0, Some(1)));
    }
}
