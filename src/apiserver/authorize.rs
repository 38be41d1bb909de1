//! Who may do what: asked by the dispatcher and shown by the access reviews.
//!
//! Three sources, and the first that says yes wins: `system:masters` may everything, the cluster's
//! own machines what [`components`] says, and everyone what the cluster's roles allow
//! (`registry/rbac.rs`). Nothing else may decide about rights.

mod components;

use serde_json::{Value, json};

use crate::registry::Caller;
pub(crate) use crate::registry::rbac::Attributes;
use crate::registry::rbac::{Decision, Rbac, Wanted};

/// Whether the caller may, and why.
pub(crate) fn decide(rbac: &Rbac, caller: &Caller, wanted: Wanted<'_>) -> Decision {
    if caller.is_master() {
        return Ok(String::new());
    }
    match wanted {
        Wanted::Resource(wanted) if components::allows(caller, wanted) => return Ok(String::new()),
        Wanted::Path { path, .. } if is_public(path) => return Ok(String::new()),
        Wanted::Resource(_) | Wanted::Path { .. } => {}
    }
    rbac.decide(caller, wanted)
}

/// Kubernetes' sentence about a missing right, and what it is about.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) message: String,
    pub(crate) details: Value,
}

/// Whether the caller may.
pub(crate) fn authorize(
    rbac: &Rbac,
    caller: &Caller,
    wanted: Attributes<'_>,
) -> Result<(), Denial> {
    let Err(amiss) = decide(rbac, caller, Wanted::Resource(wanted)) else {
        return Ok(());
    };
    let mut details = json!({"kind": wanted.resource});
    if !wanted.group.is_empty() {
        details["group"] = wanted.group.into();
    }
    if let Some(name) = wanted.name {
        details["name"] = name.into();
    }
    Err(Denial {
        message: refusal(caller, wanted, amiss.as_deref()),
        details,
    })
}

fn refusal(caller: &Caller, wanted: Attributes<'_>, amiss: Option<&str>) -> String {
    let qualified = if wanted.group.is_empty() {
        wanted.resource.to_owned()
    } else {
        format!("{}.{}", wanted.resource, wanted.group)
    };
    let named = wanted
        .name
        .map_or(qualified.clone(), |name| format!("{qualified} \"{name}\""));
    let resource = wanted
        .subresource
        .map_or(wanted.resource.to_owned(), |sub| {
            format!("{}/{sub}", wanted.resource)
        });
    let scope = wanted.namespace.map_or_else(
        || "at the cluster scope".to_owned(),
        |namespace| format!("in the namespace \"{namespace}\""),
    );
    let amiss = amiss.map_or(String::new(), |amiss| format!(": {amiss}"));
    format!(
        "{named} is forbidden: User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}{amiss}",
        caller.user, wanted.verb, wanted.group
    )
}

/// Whether the caller may ask for a path that is no resource; `None` is anonymous.
pub(crate) fn authorize_path(rbac: &Rbac, caller: Option<&Caller>, verb: &str, path: &str) -> bool {
    match caller {
        None => is_public(path),
        Some(caller) => decide(rbac, caller, Wanted::Path { verb, path }).is_ok(),
    }
}

/// Paths that need no identity.
pub(crate) fn is_public(path: &str) -> bool {
    matches!(
        path,
        "/version" | "/healthz" | "/livez" | "/readyz" | "/cacerts" | "/" | "/ui"
    ) || ["/livez/", "/readyz/", "/healthz/", "/ui/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

/// The caller's rules in a namespace, as a `SelfSubjectRulesReview` shows them: those about
/// resources, and those about paths.
pub(crate) fn rules_of(
    rbac: &Rbac,
    caller: &Caller,
    namespace: Option<&str>,
) -> (Vec<Value>, Vec<Value>) {
    let mut resources = Vec::new();
    let mut urls = Vec::new();
    if caller.is_master() {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        urls.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    resources.extend(components::rules_of(caller));
    // Roles' own rules come once each.
    let own = (resources.len(), urls.len());
    for rule in rbac.rules_for(caller, namespace) {
        let shown = json!(rule);
        let (to, own) = if rule.non_resource_urls.is_some() {
            (&mut urls, own.1)
        } else {
            (&mut resources, own.0)
        };
        if !to[..own].contains(&shown) {
            to.push(shown);
        }
    }
    (resources, urls)
}

#[cfg(test)]
mod tests;
