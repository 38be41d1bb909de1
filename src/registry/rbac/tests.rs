//! The index answers as a naive reading of all roles and bindings would.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use proptest::prelude::*;

use super::index::Index;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Role(&'static str, &'static str, Vec<PolicyRule>),
    NoRole(&'static str, &'static str),
    Binding(&'static str, &'static str, RoleRef, Vec<Subject>),
    NoBinding(&'static str, &'static str),
}

/// The same objects in plain lists; a question reads them all.
#[derive(Default)]
struct Naive {
    roles: Vec<(&'static str, &'static str, Vec<PolicyRule>)>,
    bindings: Vec<(&'static str, &'static str, RoleRef, Vec<Subject>)>,
}

impl Naive {
    fn apply(&mut self, step: &Step) {
        match step.clone() {
            Step::Role(scope, name, rules) => {
                self.roles.retain(|one| (one.0, one.1) != (scope, name));
                self.roles.push((scope, name, rules));
            }
            Step::NoRole(scope, name) => self.roles.retain(|one| (one.0, one.1) != (scope, name)),
            Step::Binding(scope, name, role, subjects) => {
                self.bindings.retain(|one| (one.0, one.1) != (scope, name));
                self.bindings.push((scope, name, role, subjects));
            }
            Step::NoBinding(scope, name) => {
                self.bindings.retain(|one| (one.0, one.1) != (scope, name));
            }
        }
    }

    fn may(&self, caller: &Caller, wanted: Wanted<'_>) -> bool {
        let namespace = match wanted {
            Wanted::Resource(wanted) => wanted.namespace.unwrap_or_default(),
            Wanted::Path { .. } => "",
        };
        self.bindings.iter().any(|(scope, _, role, subjects)| {
            let counts = scope.is_empty() || *scope == namespace;
            let names = subjects.iter().any(|subject| match subject.kind.as_str() {
                "User" => subject.name == caller.user,
                "Group" => caller.groups.contains(&subject.name),
                _ => {
                    let ns = subject.namespace.as_deref().unwrap_or(scope);
                    let user = format!("system:serviceaccount:{ns}:{}", subject.name);
                    !ns.is_empty() && caller.user == user
                }
            });
            let of = if role.kind == "Role" { *scope } else { "" };
            counts
                && names
                && self.roles.iter().any(|(scope, name, rules)| {
                    *scope == of
                        && *name == role.name
                        && rules.iter().any(|one| rule::allows(one, wanted))
                })
        })
    }
}

fn rules() -> impl Strategy<Value = Vec<PolicyRule>> {
    let pick = |words: &'static [&'static str]| {
        proptest::sample::subsequence(words, 1..=2)
            .prop_map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let resource = (
        pick(&["get", "list", "create", "*"]),
        pick(&["", "apps", "*"]),
        pick(&["pods", "pods/log", "*/log", "secrets", "*"]),
        proptest::option::of(pick(&["a", "b"])),
    )
        .prop_map(|(verbs, groups, resources, names)| PolicyRule {
            verbs,
            api_groups: Some(groups),
            resources: Some(resources),
            resource_names: names,
            non_resource_urls: None,
        });
    let url = (pick(&["get", "*"]), pick(&["/api", "/api/*", "*"])).prop_map(|(verbs, urls)| {
        PolicyRule {
            verbs,
            non_resource_urls: Some(urls),
            ..PolicyRule::default()
        }
    });
    proptest::collection::vec(prop_oneof![3 => resource, 1 => url], 0..3)
}

fn steps() -> impl Strategy<Value = Step> {
    let scope = || proptest::sample::select(vec!["", "x", "y"]);
    let name = || proptest::sample::select(vec!["one", "two", "three"]);
    let subject = (
        proptest::sample::select(vec!["User", "Group", "ServiceAccount"]),
        proptest::sample::select(vec!["jane", "dev"]),
        proptest::option::of(proptest::sample::select(vec!["x", "y"])),
    )
        .prop_map(|(kind, name, ns)| Subject {
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: ns.map(str::to_owned),
            api_group: None,
        });
    let role = (
        proptest::sample::select(vec!["Role", "ClusterRole"]),
        name(),
    )
        .prop_map(|(kind, name)| RoleRef {
            api_group: GROUP.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        });
    let subjects = proptest::collection::vec(subject, 0..3);
    prop_oneof![
        3 => (scope(), name(), rules()).prop_map(|(s, n, r)| Step::Role(s, n, r)),
        1 => (scope(), name()).prop_map(|(s, n)| Step::NoRole(s, n)),
        4 => (scope(), name(), role, subjects).prop_map(|(s, n, r, w)| Step::Binding(s, n, r, w)),
        1 => (scope(), name()).prop_map(|(s, n)| Step::NoBinding(s, n)),
    ]
}

fn callers() -> Vec<Caller> {
    let caller = |user: &str, group: &str| Caller {
        user: user.to_owned(),
        groups: vec![group.to_owned()],
        ..Caller::default()
    };
    vec![
        caller("jane", "nobody"),
        caller("john", "dev"),
        caller("system:serviceaccount:x:dev", "jane"),
        caller("system:serviceaccount:y:jane", "nobody"),
    ]
}

proptest! {
    #[test]
    fn the_index_answers_as_a_full_reading_would(steps in proptest::collection::vec(steps(), 0..40)) {
        let (mut index, mut naive) = (Index::default(), Naive::default());
        for step in &steps {
            naive.apply(step);
            match step.clone() {
                Step::Role(scope, name, rules) => index.put_role(scope, name, rules),
                Step::NoRole(scope, name) => index.remove_role(scope, name),
                Step::Binding(scope, name, role, subjects) => {
                    index.put_binding(scope, name, role, &subjects);
                }
                Step::NoBinding(scope, name) => index.remove_binding(scope, name),
            }
        }
        for caller in callers() {
            for path in ["/api", "/api/v1", "/metrics"] {
                let wanted = Wanted::Path { verb: "get", path };
                prop_assert_eq!(index.decide(&caller, wanted).is_ok(), naive.may(&caller, wanted));
            }
            for verb in ["get", "create"] {
                for (resource, subresource) in [("pods", None), ("pods", Some("log")), ("secrets", None)] {
                    for (namespace, name) in [(None, None), (Some("x"), Some("a")), (Some("y"), Some("c"))] {
                        let wanted = Wanted::Resource(Attributes {
                            verb, group: "", resource, subresource, namespace, name,
                        });
                        let expected = naive.may(&caller, wanted);
                        prop_assert_eq!(index.decide(&caller, wanted).is_ok(), expected, "{:?} {:?}", &caller, wanted);
                    }
                }
            }
        }
    }

    /// Whoever holds rules that cover others may do whatever those allow.
    #[test]
    fn what_is_covered_allows_no_more(held in rules(), wanted in rules()) {
        if rule::uncovered(&held, &wanted).next().is_none() {
            for verb in ["get", "list", "create", "delete"] {
                for path in ["/api", "/api/v1", "/metrics"] {
                    let asked = Wanted::Path { verb, path };
                    let allowed = |rules: &[PolicyRule]| rules.iter().any(|one| rule::allows(one, asked));
                    prop_assert!(!allowed(&wanted) || allowed(&held));
                }
                for group in ["", "apps", "batch"] {
                    for subresource in [None, Some("log"), Some("exec")] {
                        for name in [None, Some("a"), Some("c")] {
                            let asked = Wanted::Resource(Attributes {
                                verb, group, resource: "pods", subresource, namespace: None, name,
                            });
                            let allowed = |rules: &[PolicyRule]| rules.iter().any(|one| rule::allows(one, asked));
                            prop_assert!(!allowed(&wanted) || allowed(&held), "{:?}", asked);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn missing_rights_are_told_in_kubernetes_words() {
    let rule = |verbs: &[&str], resources: &[&str]| PolicyRule {
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        api_groups: Some(vec![String::new()]),
        resources: Some(resources.iter().map(|one| (*one).to_owned()).collect()),
        ..PolicyRule::default()
    };
    let held = [rule(&["get"], &["pods"])];
    let wanted = [rule(&["get", "list"], &["pods", "secrets"])];
    let missing: Vec<PolicyRule> = rule::uncovered(&held, &wanted).collect();
    assert_eq!(
        rule::told(&missing),
        [
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}",
            "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}",
        ]
    );
}

/// A body of a megabyte can ask for billions of pieces.
#[test]
fn what_is_missing_is_looked_for_no_longer_than_it_is_told() {
    let many = |word: &str| (0..3000).map(|number| format!("{word}{number}")).collect();
    let wanted = [PolicyRule {
        verbs: (0..200).map(|number| format!("verb{number}")).collect(),
        api_groups: Some(many("group")),
        resources: Some(many("resource")),
        ..PolicyRule::default()
    }];
    assert_eq!(rule::count_pieces(&wanted), 200 * 3000 * 3000);
    assert_eq!(rule::uncovered(&[], &wanted).take(100).count(), 100);
    // As many rules as a role may hold.
    let one = |number: usize| PolicyRule {
        verbs: vec![format!("verb{number}")],
        ..PolicyRule::default()
    };
    let rules: Vec<PolicyRule> = (0..50_000).map(one).collect();
    assert_eq!(rule::unique(rules.iter().chain(&rules)), rules);
}
