//! Who may do what: one table, asked by the dispatcher and shown by the access reviews.
//!
//! Three groups have rights: `system:masters` everything, `system:nodes` and `system:routers` what a
//! worker and a router need and no more; whoever is authenticated may look around (discovery,
//! reviews about oneself). Roles that users define come later and extend the table; nothing else
//! may decide about rights.

use serde_json::{Value, json};

use crate::registry::Caller;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
}

const READ: &[&str] = &["get", "list", "watch"];
const READ_AND_WRITE: &[&str] = &["get", "list", "watch", "create", "update", "patch"];
const WRITE: &[&str] = &["create", "update", "patch"];

/// Which objects of its resources a rule covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    /// The object named like the caller's own node; a creation names nothing yet and is checked by
    /// admission.
    OwnNode,
    /// One object.
    One(&'static str, &'static str),
}

struct Rule {
    of: &'static str,
    verbs: &'static [&'static str],
    group: &'static str,
    /// `pods` or `pods/status`.
    resources: &'static [&'static str],
    which: Which,
}

const NODES: &str = "system:nodes";
const ROUTERS: &str = "system:routers";
const EVERYONE: &str = "system:authenticated";

const fn rule(
    of: &'static str,
    verbs: &'static [&'static str],
    group: &'static str,
    resources: &'static [&'static str],
    which: Which,
) -> Rule {
    Rule {
        of,
        verbs,
        group,
        resources,
        which,
    }
}

const RULES: &[Rule] = &[
    rule(
        NODES,
        READ,
        "",
        &[
            "pods",
            "nodes",
            "services",
            "endpoints",
            "configmaps",
            "secrets",
            "namespaces",
            "persistentvolumeclaims",
            "persistentvolumes",
        ],
        Which::All,
    ),
    // Admission narrows it to the end of a volume whose directory is the node's.
    rule(
        NODES,
        &["update", "patch"],
        "",
        &["persistentvolumes"],
        Which::All,
    ),
    rule(
        NODES,
        READ,
        "discovery.k8s.io",
        &["endpointslices"],
        Which::All,
    ),
    rule(NODES, READ, "networking.k8s.io", &["ingresses"], Which::All),
    rule(
        NODES,
        READ,
        "wasmorch.dev",
        &["modules", "modules/content"],
        Which::All,
    ),
    rule(NODES, READ, "coordination.k8s.io", &["leases"], Which::All),
    rule(
        NODES,
        WRITE,
        "coordination.k8s.io",
        &["leases"],
        Which::OwnNode,
    ),
    rule(NODES, WRITE, "", &["nodes", "nodes/status"], Which::OwnNode),
    rule(
        NODES,
        &["get", "update", "patch"],
        "",
        &["pods/status"],
        Which::All,
    ),
    rule(NODES, &["delete"], "", &["pods"], Which::All),
    rule(NODES, WRITE, "", &["events"], Which::All),
    rule(NODES, WRITE, "events.k8s.io", &["events"], Which::All),
    rule(
        ROUTERS,
        READ,
        "",
        &["services", "nodes", "pods", "namespaces", "endpoints"],
        Which::All,
    ),
    rule(
        ROUTERS,
        READ,
        "discovery.k8s.io",
        &["endpointslices"],
        Which::All,
    ),
    rule(
        ROUTERS,
        READ,
        "networking.k8s.io",
        &["ingresses", "ingressclasses"],
        Which::All,
    ),
    rule(
        ROUTERS,
        READ,
        "",
        &["secrets"],
        Which::One("kube-system", "wasmorch-wire"),
    ),
    rule(
        ROUTERS,
        READ_AND_WRITE,
        "coordination.k8s.io",
        &["leases"],
        Which::One("kube-system", "wasmorch-router"),
    ),
    rule(ROUTERS, WRITE, "", &["events"], Which::All),
    rule(
        EVERYONE,
        &["create"],
        "authorization.k8s.io",
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        Which::All,
    ),
    rule(
        EVERYONE,
        &["create"],
        "authentication.k8s.io",
        &["selfsubjectreviews"],
        Which::All,
    ),
];

fn is_member(caller: &Caller, group: &str) -> bool {
    caller.groups.iter().any(|one| one == group)
}

fn is_master(caller: &Caller) -> bool {
    is_member(caller, "system:masters")
}

/// Whether the caller may; `Err` is Kubernetes' sentence about it.
pub(crate) fn authorize(caller: &Caller, wanted: Attributes<'_>) -> Result<(), String> {
    if is_master(caller) || RULES.iter().any(|rule| rule.allows(caller, wanted)) {
        return Ok(());
    }
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
    Err(format!(
        "{named} is forbidden: User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}",
        caller.user, wanted.verb, wanted.group
    ))
}

/// Whether the caller may ask for a path that is no resource; `None` is anonymous.
pub(crate) fn authorize_path(caller: Option<&Caller>, path: &str) -> bool {
    match caller {
        None => is_public(path),
        Some(caller) => path != "/metrics" || is_master(caller),
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

impl Rule {
    fn allows(&self, caller: &Caller, wanted: Attributes<'_>) -> bool {
        is_member(caller, self.of)
            && self.group == wanted.group
            && self.verbs.contains(&wanted.verb)
            && self.resources.iter().any(|resource| {
                let (resource, sub) = match resource.split_once('/') {
                    Some((resource, sub)) => (resource, Some(sub)),
                    None => (*resource, None),
                };
                resource == wanted.resource && sub == wanted.subresource
            })
            && self.covers(caller, wanted)
    }

    fn covers(&self, caller: &Caller, wanted: Attributes<'_>) -> bool {
        match self.which {
            Which::All => true,
            Which::OwnNode => match wanted.name {
                Some(name) => caller.user.strip_prefix("system:node:") == Some(name),
                None => wanted.verb == "create",
            },
            Which::One(namespace, name) => {
                wanted.namespace == Some(namespace) && wanted.name == Some(name)
            }
        }
    }
}

/// The caller's rules, as a `SelfSubjectRulesReview` shows them.
pub(crate) fn rules_of(caller: &Caller) -> (Vec<Value>, Vec<Value>) {
    let mut resources = Vec::new();
    if is_master(caller) {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
    }
    for rule in RULES.iter().filter(|rule| is_member(caller, rule.of)) {
        let mut shown = json!({
            "verbs": rule.verbs,
            "apiGroups": [rule.group],
            "resources": rule.resources,
        });
        match rule.which {
            Which::All => {}
            Which::OwnNode => {
                let node = caller.user.strip_prefix("system:node:").unwrap_or_default();
                shown["resourceNames"] = json!([node]);
            }
            Which::One(_, name) => shown["resourceNames"] = json!([name]),
        }
        resources.push(shown);
    }
    let urls = if is_master(caller) {
        json!({"verbs": ["*"], "nonResourceURLs": ["*"]})
    } else {
        json!({"verbs": ["get"], "nonResourceURLs": [
            "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version"
        ]})
    };
    (resources, vec![urls])
}

#[cfg(test)]
mod tests;
