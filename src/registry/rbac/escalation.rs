//! Nobody hands out rights that he has not got.
//!
//! Who writes a role must hold all it allows, or have the verb `escalate` on it; who binds a role
//! must hold all it allows, or have the verb `bind` on it. A right that comes through a write in
//! between would be checked against the older rules; every path of a write comes by here, and the
//! stored object is what is judged, so there is none.

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
};

use super::super::Registry;
use super::super::error::Error;
use super::super::kinds::ResourceInfo;
use super::super::options::Caller;
use super::super::strategy::{self, Draft};
use super::{Attributes, GROUP, Wanted, rule};

/// How many missing rights are told.
const COMPLAINTS: usize = 100;

/// What a write hands out.
enum Grant<'a> {
    Rules(&'a [PolicyRule]),
    Role(&'a RoleRef),
}

pub(crate) fn admit(
    registry: &Registry,
    caller: &Caller,
    res: &ResourceInfo,
    new: &dyn Draft,
    old: Option<&dyn Draft>,
) -> Result<(), Error> {
    if res.group != GROUP || caller.is_master() {
        return Ok(());
    }
    let Some(grant) = grant(new, old) else {
        return Ok(());
    };
    let name = new.meta().name.as_deref().unwrap_or_default();
    let ns = new.meta().namespace.as_deref().filter(|_| res.namespaced);
    let may = |verb: &str, resource: &str, ns: Option<&str>, name: &str| {
        let wanted = Wanted::Resource(Attributes {
            verb,
            group: GROUP,
            resource,
            subresource: None,
            namespace: ns,
            name: Some(name),
        });
        registry.rbac().decide(caller, wanted).is_ok()
    };
    let refused = |message: String| Err(Error::forbidden(res, name, message));
    let rules = match grant {
        Grant::Rules(_) if may("escalate", res.plural, ns, name) => return Ok(()),
        Grant::Rules(rules) => {
            // Whatever roles come later would be in it.
            if is_aggregated(new) && !holds_everything(&registry.rbac().rules_for(caller, ns)) {
                let message = "must have cluster-admin privileges to use the aggregationRule";
                return refused(message.to_owned());
            }
            rules.to_vec()
        }
        Grant::Role(role) => {
            let (resource, role_ns) = match role.kind.as_str() {
                "Role" => ("roles", ns),
                _ => ("clusterroles", None),
            };
            if may("bind", resource, ns, &role.name) {
                return Ok(());
            }
            match registry.rbac().rules_of(role_ns, &role.name) {
                Some(rules) => rules,
                None => {
                    return Err(Error::NotFound {
                        resource: format!("{resource}.{GROUP}"),
                        name: role.name.clone(),
                    });
                }
            }
        }
    };
    let held = registry.rbac().rules_for(caller, ns);
    let missing: Vec<PolicyRule> = rule::uncovered(&held, &rules).take(COMPLAINTS).collect();
    if missing.is_empty() {
        return Ok(());
    }
    refused(format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        caller.user,
        rule::quoted(&caller.groups),
        rule::told(&missing).join("\n")
    ))
}

fn holds_everything(held: &[PolicyRule]) -> bool {
    let all = || vec!["*".to_owned()];
    let resources = PolicyRule {
        api_groups: Some(all()),
        resources: Some(all()),
        verbs: all(),
        ..PolicyRule::default()
    };
    let urls = PolicyRule {
        non_resource_urls: Some(all()),
        verbs: all(),
        ..PolicyRule::default()
    };
    rule::uncovered(held, &[resources, urls]).next().is_none()
}

fn is_aggregated(draft: &dyn Draft) -> bool {
    strategy::get::<ClusterRole>(draft).is_some_and(|role| role.aggregation_rule.is_some())
}

/// What the write hands out; `None` if nothing that was not handed out before.
fn grant<'a>(new: &'a dyn Draft, old: Option<&dyn Draft>) -> Option<Grant<'a>> {
    if let Some(role) = strategy::get::<Role>(new) {
        let before = old.and_then(strategy::get::<Role>);
        return (before.is_none_or(|old| old.rules != role.rules))
            .then(|| Grant::Rules(role.rules.as_deref().unwrap_or_default()));
    }
    if let Some(role) = strategy::get::<ClusterRole>(new) {
        let is_same = |old: &ClusterRole| {
            old.rules == role.rules && old.aggregation_rule == role.aggregation_rule
        };
        let before = old.and_then(strategy::get::<ClusterRole>);
        return (!before.is_some_and(is_same))
            .then(|| Grant::Rules(role.rules.as_deref().unwrap_or_default()));
    }
    if let Some(binding) = strategy::get::<RoleBinding>(new) {
        let before = old.and_then(strategy::get::<RoleBinding>);
        return (before.is_none_or(|old| old.subjects != binding.subjects))
            .then_some(Grant::Role(&binding.role_ref));
    }
    let binding = strategy::get::<ClusterRoleBinding>(new)?;
    let before = old.and_then(strategy::get::<ClusterRoleBinding>);
    (before.is_none_or(|old| old.subjects != binding.subjects))
        .then_some(Grant::Role(&binding.role_ref))
}
