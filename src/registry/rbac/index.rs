//! Roles and bindings, held so that a question is answered by looking up and not by searching.
//!
//! A scope is a namespace, or (under the empty name) the cluster. Each knows its roles, its
//! bindings, and which bindings name which user or group.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};

use super::super::options::Caller;
use super::{Decision, GROUP, Wanted, rule};

/// The cluster's own scope.
const CLUSTER: &str = "";

#[derive(Default)]
pub(super) struct Index {
    scopes: HashMap<Box<str>, Scope>,
}

/// The bindings that name somebody.
type Names = HashMap<Box<str>, BTreeSet<Box<str>>>;

#[derive(Default)]
struct Scope {
    roles: HashMap<Box<str>, Vec<PolicyRule>>,
    bindings: HashMap<Box<str>, Binding>,
    users: Names,
    groups: Names,
}

struct Binding {
    role: RoleRef,
    subjects: Vec<Who>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    User(Box<str>),
    Group(Box<str>),
}

impl Who {
    /// Who a subject of a binding in `scope` is; a service account is a user.
    fn of(subject: &Subject, scope: &str) -> Option<Self> {
        match subject.kind.as_str() {
            "User" => Some(Self::User(subject.name.as_str().into())),
            "Group" => Some(Self::Group(subject.name.as_str().into())),
            "ServiceAccount" => {
                let given = subject.namespace.as_deref().filter(|ns| !ns.is_empty());
                let ns = given.or((scope != CLUSTER).then_some(scope))?;
                let user = format!("system:serviceaccount:{ns}:{}", subject.name);
                Some(Self::User(user.into()))
            }
            _ => None,
        }
    }
}

impl Scope {
    fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.bindings.is_empty()
    }

    fn names(&mut self, who: &Who) -> (&mut Names, Box<str>) {
        match who {
            Who::User(name) => (&mut self.users, name.clone()),
            Who::Group(name) => (&mut self.groups, name.clone()),
        }
    }

    /// The bindings that name the caller, in no order; one may come twice.
    fn bindings_of<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> impl Iterator<Item = (&'a str, &'a Binding)> {
        let groups = caller.groups.iter();
        let by_group = groups.filter_map(|group| self.groups.get(group.as_str()));
        let by_user = self.users.get(caller.user.as_str()).into_iter();
        by_user
            .chain(by_group)
            .flatten()
            .filter_map(|name| Some((&**name, self.bindings.get(name)?)))
    }
}

impl Index {
    pub(super) fn put_role(&mut self, scope: &str, name: &str, rules: Vec<PolicyRule>) {
        let scope = self.scopes.entry(scope.into()).or_default();
        scope.roles.insert(name.into(), rules);
    }

    pub(super) fn remove_role(&mut self, scope: &str, name: &str) {
        if let Some(found) = self.scopes.get_mut(scope) {
            found.roles.remove(name);
            if found.is_empty() {
                self.scopes.remove(scope);
            }
        }
    }

    pub(super) fn put_binding(
        &mut self,
        scope: &str,
        name: &str,
        role: RoleRef,
        subjects: &[Subject],
    ) {
        self.remove_binding(scope, name);
        let subjects: Vec<Who> = subjects
            .iter()
            .filter_map(|subject| Who::of(subject, scope))
            .collect();
        let scope = self.scopes.entry(scope.into()).or_default();
        for who in &subjects {
            let (names, key) = scope.names(who);
            names.entry(key).or_default().insert(name.into());
        }
        scope
            .bindings
            .insert(name.into(), Binding { role, subjects });
    }

    pub(super) fn remove_binding(&mut self, scope: &str, name: &str) {
        let Some(found) = self.scopes.get_mut(scope) else {
            return;
        };
        let Some(binding) = found.bindings.remove(name) else {
            return;
        };
        for who in &binding.subjects {
            let (names, key) = found.names(who);
            if let Some(bindings) = names.get_mut(&key) {
                bindings.remove(name);
                if bindings.is_empty() {
                    names.remove(&key);
                }
            }
        }
        if found.is_empty() {
            self.scopes.remove(scope);
        }
    }

    fn resolve(&self, scope: &str, role: &RoleRef) -> Option<&[PolicyRule]> {
        let scope = match role.kind.as_str() {
            "Role" => scope,
            _ => CLUSTER,
        };
        let rules = self.scopes.get(scope)?.roles.get(role.name.as_str())?;
        Some(rules)
    }

    /// The scopes whose bindings count for a request in `namespace`.
    fn scopes_for(&self, namespace: Option<&str>) -> impl Iterator<Item = (&str, &Scope)> {
        let namespace = namespace.filter(|ns| *ns != CLUSTER);
        [Some(CLUSTER), namespace]
            .into_iter()
            .flatten()
            .filter_map(|name| self.scopes.get_key_value(name))
            .map(|(name, scope)| (&**name, scope))
    }

    pub(super) fn decide(&self, caller: &Caller, wanted: Wanted<'_>) -> Decision {
        let namespace = match wanted {
            Wanted::Resource(wanted) => wanted.namespace,
            Wanted::Path { .. } => None,
        };
        let mut amiss = None;
        for (scope, found) in self.scopes_for(namespace) {
            for (name, binding) in found.bindings_of(caller) {
                let Some(rules) = self.resolve(scope, &binding.role) else {
                    amiss.get_or_insert_with(|| missing(&binding.role));
                    continue;
                };
                if rules.iter().any(|one| rule::allows(one, wanted)) {
                    return Ok(reason(scope, name, binding, caller));
                }
            }
        }
        Err(amiss)
    }

    pub(super) fn rules_for(&self, caller: &Caller, namespace: Option<&str>) -> Vec<PolicyRule> {
        let granted = self.scopes_for(namespace).flat_map(|(scope, found)| {
            let bindings = found.bindings_of(caller);
            bindings.flat_map(move |(_, binding)| {
                self.resolve(scope, &binding.role).unwrap_or_default()
            })
        });
        rule::unique(granted)
    }

    pub(super) fn rules_of(&self, namespace: Option<&str>, name: &str) -> Option<Vec<PolicyRule>> {
        let scope = self.scopes.get(namespace.unwrap_or(CLUSTER))?;
        scope.roles.get(name).cloned()
    }
}

fn missing(role: &RoleRef) -> String {
    let kind = role.kind.to_lowercase();
    format!("RBAC: {kind}.{GROUP} \"{}\" not found", role.name)
}

/// `RBAC: allowed by RoleBinding "b/ns" of ClusterRole "view" to User "jane"`.
fn reason(scope: &str, name: &str, binding: &Binding, caller: &Caller) -> String {
    let (kind, place) = if scope == CLUSTER {
        ("ClusterRoleBinding", name.to_owned())
    } else {
        ("RoleBinding", format!("{name}/{scope}"))
    };
    let subject = binding.subjects.iter().find_map(|who| match who {
        Who::User(user) if **user == *caller.user => Some(told(user)),
        Who::Group(group) if caller.is_member(group) => Some(format!("Group \"{group}\"")),
        Who::User(_) | Who::Group(_) => None,
    });
    format!(
        "RBAC: allowed by {kind} \"{place}\" of {} \"{}\" to {}",
        binding.role.kind,
        binding.role.name,
        subject.unwrap_or_default()
    )
}

fn told(user: &str) -> String {
    let account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    match account {
        Some((ns, name)) => format!("ServiceAccount \"{name}/{ns}\""),
        None => format!("User \"{user}\""),
    }
}
