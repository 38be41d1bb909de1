//! The beginning of a pod's life on this worker: its lifecycle, from a past or from nothing.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::errors::chain;
use crate::worker::context::Context;
use crate::worker::lifecycle::{Effect, Lifecycle, Now, PodFailure, Saved};
use crate::worker::plan::PodPlan;

/// The machine, from a past or from nothing; a pod that cannot run here is refused.
pub(super) fn begin(
    pod: &Pod,
    context: &Context,
    saved: Option<&Saved>,
    now: Now,
) -> (Lifecycle, Vec<Effect>) {
    match PodPlan::of(pod) {
        Ok(plan) => {
            let plan = Arc::new(plan);
            match saved {
                Some(saved) => Lifecycle::restore(&plan, context.timing, saved, now),
                None => Lifecycle::new(plan, context.timing, now),
            }
        }
        Err(error) => {
            let failure = PodFailure {
                reason: "UnsupportedPod".to_owned(),
                message: chain(&error).to_string(),
            };
            let plan = Arc::new(PodPlan::nothing());
            (
                Lifecycle::refused(plan, context.timing, failure, now),
                Vec::new(),
            )
        }
    }
}
