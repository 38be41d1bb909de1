//! A namespace must be there before anything in it, takes nothing new while it goes, and some never
//! go.

use super::super::error::Error;
use super::super::kinds::ResourceInfo;
use crate::api::object;
use crate::store::{ObjectKey, Store};

const NAMESPACES: &str = "namespaces";
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) fn admit_create(
    store: &Store,
    res: &ResourceInfo,
    ns: &str,
    name: &str,
) -> Result<(), Error> {
    let Some(namespace) = store.get(&ObjectKey::new(NAMESPACES, "", ns)) else {
        return Err(Error::NotFound {
            resource: NAMESPACES.to_owned(),
            name: ns.to_owned(),
        });
    };
    if object::is_terminating(&namespace.object) {
        return Err(Error::Forbidden {
            resource: res.qualified.to_owned(),
            name: name.to_owned(),
            message: format!(
                "unable to create new content in namespace {ns} because it is being terminated"
            ),
            cause: Some("NamespaceTerminating"),
        });
    }
    Ok(())
}

pub(crate) fn admit_delete(res: &ResourceInfo, name: &str) -> Result<(), Error> {
    if res.storage == NAMESPACES && IMMORTAL.contains(&name) {
        return Err(Error::forbidden(
            res,
            name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}
