//! Binding: the scheduler's one write. It gives a pod its node, once.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Registry;
use super::error::Error;
use super::kinds::{self, ResourceInfo};
use super::strategy::Draft;
use super::update::ATTEMPTS;
use crate::api::{condition, pod};
use crate::store;

impl Registry {
    /// POST pods/{name}/binding.
    pub async fn bind(
        &self,
        ns: &str,
        pod: &str,
        uid: Option<&str>,
        node: &str,
    ) -> Result<(), Error> {
        let res = kinds::row_of::<Pod>();
        for _ in 0..ATTEMPTS {
            let current = self.stored(res, Some(ns), pod)?;
            let found = current
                .typed::<Pod>()
                .map_err(|source| Error::corrupt(res, pod, source))?;
            let bound = bound(res, &found, uid, node, self.clock().now())?;
            let object = bound
                .to_value()
                .map_err(|source| Error::corrupt(res, pod, source))?;
            let key = current.key.clone();
            match self
                .store()
                .update(key, Some(current.revision), object)
                .await
            {
                Ok(_) => return Ok(()),
                Err(store::Error::Conflict { .. }) => {}
                Err(error) => return Err(Error::from_store(res, pod, error)),
            }
        }
        Err(Error::conflict(res, pod, super::error::MODIFIED))
    }
}

/// The pod with its node.
fn bound(
    res: &ResourceInfo,
    found: &Pod,
    uid: Option<&str>,
    node: &str,
    now: Timestamp,
) -> Result<Pod, Error> {
    let name = found.metadata.name.as_deref().unwrap_or_default();
    let own = found.metadata.uid.as_deref().unwrap_or_default();
    if let Some(uid) = uid.filter(|uid| !uid.is_empty())
        && uid != own
    {
        return Err(Error::conflict(
            res,
            name,
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"),
        ));
    }
    if node.is_empty() {
        return Err(Error::BadRequest("a binding must name a node".to_owned()));
    }
    if pod::is_terminating(found) {
        let message = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(Error::conflict(res, name, message));
    }
    if let Some(there) = pod::node_name(found) {
        let message = format!("pod {name} is already assigned to node \"{there}\"");
        return Err(Error::conflict(res, name, message));
    }
    let mut bound = found.clone();
    bound.spec.get_or_insert_default().node_name = Some(node.to_owned());
    let conditions = bound
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    condition::set(
        conditions,
        "PodScheduled",
        condition::Status::True,
        ("", ""),
        now,
    );
    Ok(bound)
}
