//! What the API is told of a pod: its status, when that changes or is contradicted, and what its sandbox
//! refused.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};

use super::volumes::{full, limited};
use super::{Done, PodWorker};
use crate::api::pod::{NODE_LOST, Phase};
use crate::worker::lifecycle::Stage;
use crate::worker::status::{Observation, pod_status};
use crate::worker::status_sender::{Update, Urgency};

/// How long the word that a pod is lost stands before its worker says otherwise.
const CONTRADICTION: Duration = Duration::from_secs(1);

impl PodWorker {
    /// Tells what was refused before the sandbox of an ended pod is gone, and its word with it.
    pub(super) fn say_last_words(&mut self) {
        if let Some(message) = full(self.sandbox.as_ref(), self.storage_told).now_or_never() {
            self.say_full(message);
        }
        if let Some(message) = limited(self.sandbox.as_ref(), self.limit_told).now_or_never() {
            self.say_limited(message);
        }
    }

    pub(super) fn say_full(&mut self, message: String) {
        self.storage_told = Some(self.context.clock.monotonic());
        self.record(true, "StorageFull", message, None);
    }

    pub(super) fn say_limited(&mut self, message: String) {
        self.limit_told = Some(self.context.clock.monotonic());
        self.record(true, "LimitReached", message, None);
    }

    /// Says the status again, in a moment, when the API has the pod for lost: the node was silent for a
    /// while. Not at once, since whoever says so may not know yet that the node is back.
    pub(super) fn contradict(&mut self) {
        let conditions = crate::api::pod::conditions(&self.pod);
        let is_lost = |condition: &PodCondition| condition.reason.as_deref() == Some(NODE_LOST);
        if !self.is_contradicted && conditions.iter().any(is_lost) {
            self.is_contradicted = true;
            let later = tokio::time::sleep(CONTRADICTION).map(|()| Done::Contradicted);
            self.work.push(later.boxed());
        }
    }

    /// Sends the status if it is not what was said last.
    pub(super) fn say(&mut self) {
        let stage = self.lifecycle.stage();
        if matches!(stage, Stage::Gone) || self.is_forgotten {
            return;
        }
        let status = Arc::new(self.status());
        if self.said.as_ref() == Some(&status) {
            return;
        }
        let is_pending = status.phase.as_deref() == Some(Phase::Pending.as_str());
        let has_failed = matches!(stage, Stage::Preparing { message, .. } if !message.is_empty());
        let urgency = if is_pending && !has_failed && self.granted.is_none() {
            Urgency::Soon
        } else {
            Urgency::Now
        };
        let update = Update {
            namespace: self.id.namespace.clone(),
            name: self.id.name.clone(),
            uid: self.id.uid.clone(),
            status: Arc::clone(&status),
        };
        self.context.statuses.send(update, urgency);
        self.said = Some(status);
        self.publish_view();
    }

    pub(super) fn status(&self) -> PodStatus {
        let observed = Observation {
            pod: &self.pod,
            lifecycle: &self.lifecycle,
            prior: self.said.as_deref(),
            pod_ip: self.ip,
            host_ip: self.context.host_ip,
            is_leaving: self.is_leaving,
        };
        pod_status(&observed, self.context.clock.now())
    }
}
