//! What the cluster's own machines may do: workers and routers, a table that no role can change.
//!
//! Whoever could edit the rights of workers away would stop the cluster, and who could extend them
//! would extend every machine; so these two are not roles. Admission narrows a worker further to
//! what concerns its own node (`registry/admission/node_restriction.rs`).

use serde_json::{Value, json};

use crate::registry::Caller;

use super::Attributes;

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

pub(super) const NODES: &str = "system:nodes";
pub(super) const ROUTERS: &str = "system:routers";

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
    rule(
        NODES,
        READ,
        "networking.k8s.io",
        &["ingresses", "networkpolicies"],
        Which::All,
    ),
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
    // For pods that run on it; the handler asks where they do.
    rule(
        NODES,
        &["create"],
        "",
        &["serviceaccounts/token"],
        Which::All,
    ),
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
];

/// Whether the caller is a machine that may.
pub(super) fn allows(caller: &Caller, wanted: Attributes<'_>) -> bool {
    RULES.iter().any(|rule| rule.allows(caller, wanted))
}

/// The rules of a machine, as a `SelfSubjectRulesReview` shows them.
pub(super) fn rules_of(caller: &Caller) -> Vec<Value> {
    let rules = RULES.iter().filter(|rule| caller.is_member(rule.of));
    rules.map(|rule| rule.shown(caller)).collect()
}

impl Rule {
    fn allows(&self, caller: &Caller, wanted: Attributes<'_>) -> bool {
        caller.is_member(self.of)
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

    fn shown(&self, caller: &Caller) -> Value {
        let mut shown = json!({
            "verbs": self.verbs,
            "apiGroups": [self.group],
            "resources": self.resources,
        });
        match self.which {
            Which::All => {}
            Which::OwnNode => {
                let node = caller.user.strip_prefix("system:node:").unwrap_or_default();
                shown["resourceNames"] = json!([node]);
            }
            Which::One(_, name) => shown["resourceNames"] = json!([name]),
        }
        shown
    }
}
