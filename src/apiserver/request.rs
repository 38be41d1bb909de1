//! What a request is about, read once from its method, path and query.
//!
//! Logs, authorization, metrics and handlers all use the same reading (`RequestInfo` in
//! `k8s.io/apiserver`), so none of them takes a path apart by itself. Parsing is pure and knows no
//! kinds: whether the resource exists is asked of the registry later.

use http::Method;

use super::query::Query;

/// A verb of the API, as rights and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// A request for a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    pub(crate) verb: Verb,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows the subresource (a proxy's path), without its leading slash.
    pub(crate) rest: Option<String>,
}

/// Resource or something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Resource(RequestInfo),
    /// `/version`, `/api`, `/apis/apps/v1`, `/openapi/v3`, …
    NonResource,
    /// A path below `/api` that no form matches, or a method that no verb has.
    Unknown,
}

impl RequestInfo {
    /// Reads a request. `path` is not decoded yet.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Target {
        let Some(segments) = path
            .trim_matches('/')
            .split('/')
            .map(decode)
            .collect::<Option<Vec<String>>>()
        else {
            return Target::Unknown;
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (group, version, rest) = match &segments[..] {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Target::NonResource,
        };
        // The deprecated prefix form of a watch: `/api/v1/watch/pods`.
        let (forced_watch, rest) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            _ => (false, rest),
        };
        let (namespace, rest) = split_namespace(rest);
        let Some((resource, rest)) = rest.split_first() else {
            return Target::Unknown;
        };
        let name = rest.first().filter(|name| !name.is_empty());
        let is_watch = forced_watch || query.is_true("watch");
        // A proxy takes also the question what is allowed; who may read may ask.
        let is_proxied = rest.get(1) == Some(&"proxy");
        let method = match *method {
            Method::OPTIONS if is_proxied => &Method::GET,
            _ => method,
        };
        let Some(verb) = verb(method, name.is_some(), is_watch && rest.len() <= 1) else {
            return Target::Unknown;
        };
        Target::Resource(Self {
            verb,
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            resource: (*resource).to_owned(),
            name: name.map(|name| (*name).to_owned()),
            subresource: rest.get(1).map(|sub| (*sub).to_owned()),
            rest: (rest.len() > 2).then(|| rest[2..].join("/")),
        })
    }

    /// The resource with its group, as errors name it: `deployments.apps`.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// `namespaces/{ns}/{plural}…` is a namespaced resource; `namespaces/{ns}` and its two subresources
/// are the namespace itself.
fn split_namespace<'a, 'b>(rest: &'b [&'a str]) -> (Option<&'a str>, &'b [&'a str]) {
    match rest {
        ["namespaces", _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, tail @ ..] if !tail.is_empty() => (Some(namespace), tail),
        _ => (None, rest),
    }
}

fn verb(method: &Method, has_name: bool, is_watch: bool) -> Option<Verb> {
    Some(match *method {
        Method::GET | Method::HEAD if is_watch => Verb::Watch,
        Method::GET | Method::HEAD if has_name => Verb::Get,
        Method::GET | Method::HEAD => Verb::List,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if has_name => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ => return None,
    })
}

fn decode(segment: &str) -> Option<String> {
    percent_encoding::percent_decode_str(segment)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group/version ns resource name sub rest`, `-` for nothing.
    fn shown(target: &Target) -> String {
        match target {
            Target::NonResource => "non-resource".to_owned(),
            Target::Unknown => "unknown".to_owned(),
            Target::Resource(info) => {
                let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                format!(
                    "{} {}/{} {} {} {} {} {}",
                    info.verb.as_str(),
                    info.group,
                    info.version,
                    or(&info.namespace),
                    info.resource,
                    or(&info.name),
                    or(&info.subresource),
                    or(&info.rest)
                )
            }
        }
    }

    const CASES: &[(&str, &str, &str)] = &[
        ("GET", "/", "non-resource"),
        ("GET", "/version", "non-resource"),
        ("GET", "/api", "non-resource"),
        ("GET", "/api/v1", "non-resource"),
        ("GET", "/api/v1/", "non-resource"),
        ("GET", "/apis/apps/v1", "non-resource"),
        ("GET", "/openapi/v3/apis/apps/v1", "non-resource"),
        ("GET", "/api/v1/pods", "list /v1 - pods - - -"),
        ("GET", "/api/v1/pods/", "list /v1 - pods - - -"),
        ("GET", "/api/v1/pods?watch=1", "watch /v1 - pods - - -"),
        ("GET", "/api/v1/pods?watch=true", "watch /v1 - pods - - -"),
        ("GET", "/api/v1/pods?watch=false", "list /v1 - pods - - -"),
        ("GET", "/api/v1/watch/pods", "watch /v1 - pods - - -"),
        (
            "GET",
            "/api/v1/watch/namespaces/a/pods/x",
            "watch /v1 a pods x - -",
        ),
        ("GET", "/api/v1/namespaces/a/pods", "list /v1 a pods - - -"),
        (
            "POST",
            "/api/v1/namespaces/a/pods",
            "create /v1 a pods - - -",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/a/pods",
            "deletecollection /v1 a pods - - -",
        ),
        ("GET", "/api/v1/namespaces/a/pods/x", "get /v1 a pods x - -"),
        (
            "HEAD",
            "/api/v1/namespaces/a/pods/x",
            "get /v1 a pods x - -",
        ),
        (
            "PUT",
            "/api/v1/namespaces/a/pods/x/status",
            "update /v1 a pods x status -",
        ),
        (
            "GET",
            "/api/v1/namespaces/a/pods/x/log?follow=true&watch=true",
            "get /v1 a pods x log -",
        ),
        (
            "POST",
            "/api/v1/namespaces/a/services/x:80/proxy/b/c",
            "create /v1 a services x:80 proxy b/c",
        ),
        (
            "OPTIONS",
            "/api/v1/namespaces/a/pods/x/proxy/",
            "get /v1 a pods x proxy -",
        ),
        ("OPTIONS", "/api/v1/namespaces/a/pods/x/log", "unknown"),
        (
            "GET",
            "/apis/apps/v1/deployments",
            "list apps/v1 - deployments - - -",
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/x/scale",
            "patch apps/v1 a deployments x scale -",
        ),
        ("GET", "/api/v1/namespaces", "list /v1 - namespaces - - -"),
        ("GET", "/api/v1/namespaces/a", "get /v1 - namespaces a - -"),
        (
            "DELETE",
            "/api/v1/namespaces/a",
            "delete /v1 - namespaces a - -",
        ),
        (
            "PUT",
            "/api/v1/namespaces/a/finalize",
            "update /v1 - namespaces a finalize -",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/a/status",
            "patch /v1 - namespaces a status -",
        ),
        ("GET", "/api/v1/nodes/n%2D1", "get /v1 - nodes n-1 - -"),
        ("GET", "/api/v1/nodes/%ff", "unknown"),
        ("TRACE", "/api/v1/nodes", "unknown"),
    ];

    #[test]
    fn every_form_of_url() {
        for (method, url, expected) in CASES {
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            let target = RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query));
            assert_eq!(shown(&target), *expected, "{method} {url}");
        }
    }
}
