//! A worker writes about itself only: its Node, its Lease, the status of the pods bound to it, the
//! end of those pods, the end of volumes on its disk, and events.
//!
//! This keeps mistakes apart, not enemies: which node a worker is, it says itself, beside the one join
//! secret that all workers have (`apiserver::auth`). Whoever takes a worker over and reads that secret
//! can be any node. What he cannot become is a user: the rights of nodes are a table in the code.

use super::super::error::Error;
use super::super::kinds::ResourceInfo;
use super::super::options::Caller;
use super::super::strategy::{self, Draft};
use super::super::update::Part;
use crate::api::{pod, storage};

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};

const GROUP: &str = "system:nodes";
const USER: &str = "system:node:";

/// The node that the caller is, if it is one. A member of the group without a node's name is a
/// node that may write nothing.
fn node_of(caller: &Caller) -> Option<&str> {
    let is_node = caller.groups.iter().any(|group| group == GROUP);
    is_node.then(|| caller.user.strip_prefix(USER).unwrap_or_default())
}

pub(crate) fn admit_create(
    caller: &Caller,
    res: &ResourceInfo,
    draft: &dyn Draft,
) -> Result<(), Error> {
    let Some(node) = node_of(caller) else {
        return Ok(());
    };
    match res.storage {
        "nodes" | "leases.coordination.k8s.io" => own(res, node, draft),
        "events" => Ok(()),
        _ => Err(refused(res, node, draft, "create")),
    }
}

pub(crate) fn admit_update(
    caller: &Caller,
    res: &ResourceInfo,
    part: Part,
    old: &dyn Draft,
) -> Result<(), Error> {
    let Some(node) = node_of(caller) else {
        return Ok(());
    };
    match (res.storage, part) {
        ("nodes" | "leases.coordination.k8s.io", _) => own(res, node, old),
        ("events", _) => Ok(()),
        ("pods", Part::Status) => bound(res, node, old),
        ("persistentvolumes", Part::Main) => removed(res, node, old),
        _ => Err(refused(res, node, old, "update")),
    }
}

pub(crate) fn admit_delete(
    caller: &Caller,
    res: &ResourceInfo,
    old: &dyn Draft,
) -> Result<(), Error> {
    let Some(node) = node_of(caller) else {
        return Ok(());
    };
    match res.storage {
        "nodes" | "leases.coordination.k8s.io" => own(res, node, old),
        "pods" => bound(res, node, old),
        _ => Err(refused(res, node, old, "delete")),
    }
}

/// The object that has the node's own name.
fn own(res: &ResourceInfo, node: &str, draft: &dyn Draft) -> Result<(), Error> {
    if !node.is_empty() && draft.meta().name.as_deref() == Some(node) {
        Ok(())
    } else {
        Err(refused(res, node, draft, "modify"))
    }
}

/// A pod that runs on the node.
fn bound(res: &ResourceInfo, node: &str, draft: &dyn Draft) -> Result<(), Error> {
    let there = strategy::get::<Pod>(draft).and_then(pod::node_name);
    if !node.is_empty() && there == Some(node) {
        Ok(())
    } else {
        Err(refused(res, node, draft, "modify"))
    }
}

/// A deleted volume whose directory is on the node: the node lets go of it.
fn removed(res: &ResourceInfo, node: &str, draft: &dyn Draft) -> Result<(), Error> {
    let volume = strategy::get::<PersistentVolume>(draft);
    let is_ours = volume.is_some_and(|volume| {
        volume.metadata.deletion_timestamp.is_some() && storage::is_on(volume, node)
    });
    if !node.is_empty() && is_ours {
        Ok(())
    } else {
        Err(refused(res, node, draft, "modify"))
    }
}

fn refused(res: &ResourceInfo, node: &str, draft: &dyn Draft, verb: &str) -> Error {
    let name = draft.meta().name.as_deref().unwrap_or_default();
    let message = format!(
        "node {node:?} is not allowed to {verb} {} {name:?}",
        res.singular
    );
    Error::forbidden(res, name, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::TABLE;
    use serde_json::json;

    #[test]
    fn a_worker_writes_about_itself_only() {
        let node = |name: &str| Caller {
            user: format!("system:node:{name}"),
            groups: vec![GROUP.to_owned()],
            ..Caller::default()
        };
        let row = |storage: &str| TABLE.iter().find(|row| row.storage == storage).unwrap();
        let draft = |storage: &str, name: &str| {
            let object = json!({"metadata": {"name": name}, "spec": {"nodeName": "a"}});
            (row(storage).hooks.decode)(&object).unwrap().0
        };
        let leases = "leases.coordination.k8s.io";
        for (storage, name, part, caller, is_good) in [
            ("nodes", "a", Part::Main, "a", true),
            ("nodes", "b", Part::Status, "a", false),
            (leases, "a", Part::Main, "a", true),
            (leases, "b", Part::Main, "a", false),
            ("pods", "p", Part::Status, "a", true),
            ("pods", "p", Part::Status, "b", false),
            ("pods", "p", Part::Main, "a", false),
            ("secrets", "a", Part::Main, "a", false),
            ("nodes", "", Part::Main, "", false),
        ] {
            let old = draft(storage, name);
            let result = admit_update(&node(caller), row(storage), part, old.as_ref());
            assert_eq!(
                result.is_ok(),
                is_good,
                "{storage} {name} {part:?} {caller}"
            );
        }
        let pod = draft("pods", "p");
        assert!(admit_create(&node("a"), row("pods"), pod.as_ref()).is_err());
        assert!(admit_delete(&node("a"), row("pods"), pod.as_ref()).is_ok());
        assert!(admit_delete(&node("b"), row("pods"), pod.as_ref()).is_err());
        assert!(admit_create(&Caller::system("x"), row("pods"), pod.as_ref()).is_ok());
    }
}
