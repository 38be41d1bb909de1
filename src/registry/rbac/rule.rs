//! One rule of a role: what it allows, and whether it holds another.
//!
//! Both are Kubernetes' own definitions (`pkg/apis/rbac/v1/evaluation_helpers.go` and
//! `component-helpers/auth/rbac/validation/policy_comparator.go`), which differ on purpose: a
//! request is matched by wildcards, a rule is covered only if it could never match more.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

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

/// How many pieces the rules of one role may come to: what is compared for whoever hands it out.
pub(crate) const PIECES: usize = 50_000;

/// How many pieces rules come to.
pub(crate) fn count_pieces(rules: &[PolicyRule]) -> usize {
    let count = |list: Option<&Vec<String>>| words(list).len();
    rules.iter().fold(0, |sum, rule| {
        let resources = count(rule.api_groups.as_ref())
            .saturating_mul(count(rule.resources.as_ref()))
            .saturating_mul(count(rule.resource_names.as_ref()).max(1));
        let places = resources.saturating_add(count(rule.non_resource_urls.as_ref()));
        sum.saturating_add(rule.verbs.len().saturating_mul(places))
    })
}

/// What of `wanted` no rule of `held` covers, in the smallest pieces, as far as somebody asks. A
/// piece must be covered by one rule alone.
pub(crate) fn uncovered<'a>(
    held: &'a [PolicyRule],
    wanted: &'a [PolicyRule],
) -> impl Iterator<Item = PolicyRule> + 'a {
    let held: Rc<[Held<'a>]> = held.iter().map(Held::new).collect();
    let whole = Rc::clone(&held);
    wanted
        .iter()
        // What is covered whole need not be taken apart.
        .filter(move |rule| !whole.iter().any(|held| held.covers(rule)))
        .flat_map(pieces)
        .filter(move |piece| !held.iter().any(|held| held.covers(piece)))
}

/// One verb on one resource (of one name), or on one URL, one after another: a short rule has many.
fn pieces(rule: &PolicyRule) -> impl Iterator<Item = PolicyRule> + '_ {
    let one = |word: &String| Some(vec![word.clone()]);
    rule.verbs.iter().flat_map(move |verb| {
        let urls = words(rule.non_resource_urls.as_ref()).iter();
        let urls = urls.map(move |url| PolicyRule {
            verbs: vec![verb.clone()],
            non_resource_urls: one(url),
            ..PolicyRule::default()
        });
        let groups = words(rule.api_groups.as_ref()).iter();
        let resources = groups.flat_map(move |group| {
            let resources = words(rule.resources.as_ref()).iter();
            resources.flat_map(move |resource| {
                let names = words(rule.resource_names.as_ref());
                let unnamed = names.is_empty().then_some(None);
                let names = names.iter().map(one);
                unnamed
                    .into_iter()
                    .chain(names)
                    .map(move |names| PolicyRule {
                        verbs: vec![verb.clone()],
                        api_groups: one(group),
                        resources: one(resource),
                        resource_names: names,
                        ..PolicyRule::default()
                    })
            })
        });
        urls.chain(resources)
    })
}

/// A rule that somebody holds, ready to be asked about many others.
struct Held<'a> {
    verbs: HashSet<&'a str>,
    groups: HashSet<&'a str>,
    resources: HashSet<&'a str>,
    names: HashSet<&'a str>,
    urls: HashSet<&'a str>,
    /// What stands before the star of a URL.
    prefixes: Vec<&'a str>,
}

impl<'a> Held<'a> {
    fn new(rule: &'a PolicyRule) -> Self {
        fn set(list: &[String]) -> HashSet<&str> {
            list.iter().map(String::as_str).collect()
        }
        let urls = words(rule.non_resource_urls.as_ref());
        Self {
            verbs: set(&rule.verbs),
            groups: set(words(rule.api_groups.as_ref())),
            resources: set(words(rule.resources.as_ref())),
            names: set(words(rule.resource_names.as_ref())),
            urls: set(urls),
            prefixes: urls
                .iter()
                .filter_map(|url| url.strip_suffix('*'))
                .collect(),
        }
    }

    fn covers(&self, wanted: &PolicyRule) -> bool {
        let all = |held: &HashSet<&str>, wanted: &[String]| {
            held.contains(ALL) || wanted.iter().all(|one| held.contains(one.as_str()))
        };
        let covers_resource = |wanted: &String| {
            self.resources.contains(wanted.as_str())
                || wanted
                    .split_once('/')
                    .is_some_and(|(_, sub)| self.resources.contains(format!("*/{sub}").as_str()))
        };
        let covers_url = |wanted: &String| {
            self.urls.contains(wanted.as_str())
                || self
                    .prefixes
                    .iter()
                    .any(|prefix| wanted.starts_with(prefix))
        };
        let names = words(wanted.resource_names.as_ref());
        all(&self.verbs, &wanted.verbs)
            && all(&self.groups, words(wanted.api_groups.as_ref()))
            && (self.resources.contains(ALL)
                || words(wanted.resources.as_ref()).iter().all(covers_resource))
            && words(wanted.non_resource_urls.as_ref())
                .iter()
                .all(covers_url)
            && (self.names.is_empty()
                || (!names.is_empty() && names.iter().all(|one| self.names.contains(one.as_str()))))
    }
}

/// The rules in their order, each once.
pub(crate) fn unique<'a>(rules: impl Iterator<Item = &'a PolicyRule>) -> Vec<PolicyRule> {
    let mut seen = HashSet::new();
    let is_new = |rule: &&'a PolicyRule| {
        seen.insert((
            &rule.verbs,
            &rule.api_groups,
            &rule.resources,
            &rule.resource_names,
            &rule.non_resource_urls,
        ))
    };
    rules.filter(is_new).cloned().collect()
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
