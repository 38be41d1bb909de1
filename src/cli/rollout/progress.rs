//! How far a rollout is, read from a workload's status in the order in which kubectl reads it.

use serde_json::Value;

use crate::cli::failure::{Failure, Result};

#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Progress {
    Waiting(String),
    Done(String),
}

/// How far a workload's rollout is, in kubectl's words; an error if it has given up.
pub(in crate::cli) fn progress(workload: &Value) -> Result<Progress> {
    let generation = workload["metadata"]["generation"].as_u64().unwrap_or(0);
    let observed = workload["status"]["observedGeneration"].as_u64();
    let kind = workload["kind"].as_str().unwrap_or_default();
    if generation > observed.unwrap_or(0) {
        let kind = kind.to_lowercase();
        return Ok(Progress::Waiting(format!(
            "Waiting for {kind} spec update to be observed..."
        )));
    }
    match kind {
        "StatefulSet" => stateful_set(workload),
        "DaemonSet" => daemon_set(workload),
        _ => deployment(workload),
    }
}

fn deployment(deployment: &Value) -> Result<Progress> {
    let name = deployment["metadata"]["name"].as_str().unwrap_or_default();
    let status = &deployment["status"];
    let count = |field: &str| status[field].as_u64().unwrap_or(0);
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

fn stateful_set(set: &Value) -> Result<Progress> {
    let name = rolling(set)?;
    let status = &set["status"];
    let count = |field: &str| status[field].as_u64().unwrap_or(0);
    let wanted = set["spec"]["replicas"].as_u64().unwrap_or(1);
    let waiting = |what: String| {
        Ok(Progress::Waiting(format!(
            "Waiting for statefulset {name:?} rollout to finish: {what}..."
        )))
    };
    let (ready, updated) = (count("readyReplicas"), count("updatedReplicas"));
    if ready < wanted {
        return waiting(format!("{ready} of {wanted} pods are ready"));
    }
    // Pods below the partition keep their revision.
    let partition = &set["spec"]["updateStrategy"]["rollingUpdate"]["partition"];
    let new = wanted.saturating_sub(partition.as_u64().unwrap_or(0));
    if updated < new && status["updateRevision"] != status["currentRevision"] {
        return waiting(format!("{updated} out of {new} new pods have been updated"));
    }
    Ok(Progress::Done(format!(
        "statefulset {name:?} successfully rolled out"
    )))
}

fn daemon_set(set: &Value) -> Result<Progress> {
    let name = rolling(set)?;
    let count = |field: &str| set["status"][field].as_u64().unwrap_or(0);
    let wanted = count("desiredNumberScheduled");
    let waiting = |what: String| {
        Ok(Progress::Waiting(format!(
            "Waiting for daemonset {name:?} rollout to finish: {what}..."
        )))
    };
    let (updated, available) = (count("updatedNumberScheduled"), count("numberAvailable"));
    if updated < wanted {
        return waiting(format!(
            "{updated} out of {wanted} new pods have been updated"
        ));
    }
    if available < wanted {
        return waiting(format!(
            "{available} of {wanted} updated pods are available"
        ));
    }
    Ok(Progress::Done(format!(
        "daemonset {name:?} successfully rolled out"
    )))
}

/// The name; with `OnDelete` whoever deletes the pods decides, so nothing is waited for.
fn rolling(set: &Value) -> Result<&str> {
    if set["spec"]["updateStrategy"]["type"] == "OnDelete" {
        return Err(Failure::failed(
            "Unsupported",
            "with the update strategy OnDelete there is no rollout to wait for",
        ));
    }
    Ok(set["metadata"]["name"].as_str().unwrap_or_default())
}
