//! Patch: read, change, write; again if somebody else wrote in between.
//!
//! A patch that carries a resourceVersion means exactly that version, and is refused when it has
//! been replaced.

use serde_json::Value;

use super::error::{Error, MODIFIED};
use super::kinds::ResourceInfo;
use super::options::{Caller, WriteOptions, Written};
use super::patch::{Compiled, Patch};
use super::scale::scale_of;
use super::update::{ATTEMPTS, Attempt, Write};
use super::{Registry, present};
use crate::api::object;

impl Registry {
    #[expect(clippy::too_many_arguments, reason = "a URL, a body and its options")]
    pub async fn patch(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
        options: &WriteOptions,
        caller: &Caller,
    ) -> Result<Written, Error> {
        let is_scale = subresource == Some("scale");
        if matches!(patch, Patch::Apply { .. }) {
            return self
                .apply(res, ns, name, subresource, patch, options, caller)
                .await;
        }
        if res.is_custom() && matches!(patch, Patch::Strategic(_)) {
            return Err(Error::NoStrategicPatch);
        }
        let write = Write::of(res, subresource, options, caller)?;
        let patch = Compiled::new(patch)?;
        for _ in 0..ATTEMPTS {
            let current = self.stored(res, ns, name)?;
            let shown = if is_scale {
                scale_of(res, &current)?
            } else {
                present(res, std::sync::Arc::clone(&current))?
                    .object
                    .clone()
            };
            let kind = if is_scale { "Scale" } else { res.kind };
            let patched = patch
                .apply(kind, shown)
                .map_err(|error| error.on(res, name))?;
            check_name(&patched, name)?;
            let revision = revision_of(&patched);
            if !revision.is_empty() && revision != current.revision.0.to_string() {
                break;
            }
            let attempt = if is_scale {
                self.replace_scale(res, &current, &patched, options, caller)
                    .await?
            } else {
                self.replace(write, &current, patched, None).await?
            };
            match attempt {
                Attempt::Done(written) => return Ok(written),
                Attempt::Lost if patch.names_a_revision() => break,
                Attempt::Lost => {}
            }
        }
        Err(Error::conflict(res, name, MODIFIED))
    }
}

fn check_name(patched: &Value, name: &str) -> Result<(), Error> {
    let given = object::name(patched);
    if given == name {
        return Ok(());
    }
    Err(Error::BadRequest(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    )))
}

/// The revision that the patched object claims; a patch that removes it means whatever is there.
fn revision_of(patched: &Value) -> &str {
    object::meta_str(patched, "resourceVersion").unwrap_or_default()
}
