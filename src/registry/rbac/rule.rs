//! One rule of a role: what it allows, and whether it holds another.
//!
//! Both are Kubernetes' own definitions (`pkg/apis/rbac/v1/evaluation_helpers.go` and
//! `component-helpers/auth/rbac/validation/policy_comparator.go`), which differ on purpose: a
//! request is matched by wildcards, a rule is covered only if it could never match more.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Attributes, Wanted};

const ALL: &str = "*";

fn words(list: Option<&Vec<String>>) -> &[String] {
    list.map(Vec::as_slice).unwrap_or_default()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == wanted)
}

fn has_or_all(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

/// Whether the rule allows it.
pub(crate) fn allows(rule: &PolicyRule, wanted: Wanted<'_>) -> bool {
    match wanted {
        Wanted::Path { verb, path } => {
            has_or_all(&rule.verbs, verb)
                && words(rule.non_resource_urls.as_ref())
                    .iter()
                    .any(|url| is_url(url, path))
        }
        Wanted::Resource(wanted) => {
            has_or_all(&rule.verbs, wanted.verb)
                && has_or_all(words(rule.api_groups.as_ref()), wanted.group)
                && words(rule.resources.as_ref())
                    .iter()
                    .any(|resource| is_resource(resource, wanted))
                && is_named(words(rule.resource_names.as_ref()), wanted.name)
        }
    }
}

/// `*`, `pods`, `pods/log`, or `*/scale`.
fn is_resource(resource: &str, wanted: Attributes<'_>) -> bool {
    if resource == ALL {
        return true;
    }
    match (resource.split_once('/'), wanted.subresource) {
        (None, None) => resource == wanted.resource,
        (Some((of, sub)), Some(wanted_sub)) => {
            sub == wanted_sub && (of == ALL || of == wanted.resource)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn is_named(names: &[String], name: Option<&str>) -> bool {
    names.is_empty() || has(names, name.unwrap_or_default())
}

/// `/healthz`, or `/healthz/*`.
fn is_url(url: &str, path: &str) -> bool {
    url == ALL
        || url == path
        || url
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

/// What of `wanted` no rule of `held` covers, in the smallest pieces. A piece must be covered by
/// one rule alone.
pub(crate) fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted
        .iter()
        // What is covered whole need not be taken apart.
        .filter(|rule| !held.iter().any(|held| covers(held, rule)))
        .flat_map(pieces)
        .filter(|piece| !held.iter().any(|held| covers(held, piece)))
        .collect()
}

/// One verb on one resource (of one name), or on one URL.
fn pieces(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |word: &String| Some(vec![word.clone()]);
    let mut pieces = Vec::new();
    for verb in &rule.verbs {
        for url in words(rule.non_resource_urls.as_ref()) {
            pieces.push(PolicyRule {
                verbs: vec![verb.clone()],
                non_resource_urls: one(url),
                ..PolicyRule::default()
            });
        }
        for group in words(rule.api_groups.as_ref()) {
            for resource in words(rule.resources.as_ref()) {
                let piece = PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                let names = words(rule.resource_names.as_ref());
                if names.is_empty() {
                    pieces.push(piece);
                } else {
                    pieces.extend(names.iter().map(|name| PolicyRule {
                        resource_names: one(name),
                        ..piece.clone()
                    }));
                }
            }
        }
    }
    pieces
}

fn covers(held: &PolicyRule, wanted: &PolicyRule) -> bool {
    let all = |held: &[String], wanted: &[String]| {
        has(held, ALL) || wanted.iter().all(|one| has(held, one))
    };
    let resources = words(held.resources.as_ref());
    let covers_resource = |wanted: &String| {
        has(resources, wanted)
            || wanted
                .split_once('/')
                .is_some_and(|(_, sub)| resources.iter().any(|one| one == &format!("*/{sub}")))
    };
    let urls = words(held.non_resource_urls.as_ref());
    let covers_url = |wanted: &String| {
        urls.iter().any(|url| {
            url == wanted
                || url
                    .strip_suffix('*')
                    .is_some_and(|prefix| wanted.starts_with(prefix))
        })
    };
    let names = words(held.resource_names.as_ref());
    let wanted_names = words(wanted.resource_names.as_ref());
    all(&held.verbs, &wanted.verbs)
        && all(
            words(held.api_groups.as_ref()),
            words(wanted.api_groups.as_ref()),
        )
        && (has(resources, ALL) || words(wanted.resources.as_ref()).iter().all(covers_resource))
        && words(wanted.non_resource_urls.as_ref())
            .iter()
            .all(covers_url)
        && (names.is_empty()
            || (!wanted_names.is_empty() && wanted_names.iter().all(|one| has(names, one))))
}

/// Puts pieces that differ in their verb alone together again, and tells each in Kubernetes' words,
/// sorted: `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
pub(crate) fn told(pieces: &[PolicyRule]) -> Vec<String> {
    let mut compact: Vec<PolicyRule> = Vec::new();
    for piece in pieces {
        let same = compact.iter_mut().find(|one| {
            one.api_groups == piece.api_groups
                && one.resources == piece.resources
                && one.resource_names == piece.resource_names
                && one.non_resource_urls == piece.non_resource_urls
        });
        match same {
            Some(same) => same.verbs.extend(piece.verbs.iter().cloned()),
            None => compact.push(piece.clone()),
        }
    }
    let texts: BTreeSet<String> = compact.iter().map(text).collect();
    texts.into_iter().collect()
}

fn text(rule: &PolicyRule) -> String {
    let parts: Vec<String> = [
        ("APIGroups", words(rule.api_groups.as_ref())),
        ("Resources", words(rule.resources.as_ref())),
        ("NonResourceURLs", words(rule.non_resource_urls.as_ref())),
        ("ResourceNames", words(rule.resource_names.as_ref())),
        ("Verbs", &rule.verbs),
    ]
    .into_iter()
    .filter(|(_, words)| !words.is_empty())
    .map(|(name, words)| format!("{name}:{}", quoted(words)))
    .collect();
    format!("{{{}}}", parts.join(", "))
}

/// `["a" "b"]`, as Go prints a list of strings.
pub(super) fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}
