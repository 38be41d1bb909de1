//! The revisions of a template that are kept: a Deployment's in its ReplicaSets, those of the other
//! workloads in ControllerRevisions.

use serde_json::Value;

use crate::api::annotations::{POD_TEMPLATE_HASH, REVISION};
use crate::api::object::prune_nulls;
use crate::cli::failure::{Failure, Result};

const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// Where a workload's revisions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    ReplicaSets,
    ControllerRevisions,
}

/// A kept revision of a workload's template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) template: Value,
    pub(super) cause: Option<String>,
}

impl Keeper {
    pub(super) fn resource(self) -> &'static str {
        match self {
            Keeper::ReplicaSets => "replicasets.apps",
            Keeper::ControllerRevisions => "controllerrevisions.apps",
        }
    }

    /// Those that a workload controls, oldest first.
    pub(super) fn revisions(self, kept: &[Value], owner: &Value) -> Vec<Revision> {
        let mut revisions: Vec<Revision> = Vec::new();
        for object in kept {
            let metadata = &object["metadata"];
            let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
            let owned = owners
                .any(|reference| &reference["uid"] == owner && reference["controller"] == true);
            let annotation = |key: &str| metadata["annotations"][key].as_str();
            let (number, kept) = match self {
                Keeper::ReplicaSets => (
                    annotation(REVISION).and_then(|text| text.parse().ok()),
                    &object["spec"]["template"],
                ),
                Keeper::ControllerRevisions => (
                    object["revision"].as_u64(),
                    &object["data"]["spec"]["template"],
                ),
            };
            if let Some(number) = number.filter(|_| owned) {
                revisions.push(Revision {
                    number,
                    template: template(kept),
                    cause: annotation(CHANGE_CAUSE).map(str::to_owned),
                });
            }
        }
        revisions.sort_by_key(|revision| revision.number);
        revisions
    }
}

/// A kept template as the workload had it.
fn template(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(POD_TEMPLATE_HASH);
    }
    if let Some(template) = template.as_object_mut() {
        template.remove("$patch");
    }
    prune_nulls(&mut template);
    template
}

pub(super) fn find(revisions: &[Revision], number: Option<u64>) -> Result<&Revision> {
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
