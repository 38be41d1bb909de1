//! Discovery: which groups, versions and resources there are, read off the registry's table.
//!
//! Two forms of the same facts. The legacy one (a list of groups, a list of resources per version)
//! serves everyone; the aggregated one answers all of it in one request and is given only to who
//! asks for exactly the version it is then labelled with.

use std::cmp::Reverse;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::registry::{ResourceInfo, version_priority};

use super::error::Error;
use super::media;
use super::respond;
use super::reviews::REVIEWS;
use super::usage_api;

/// One group with its versions; the first version is preferred.
struct Group {
    name: &'static str,
    versions: Vec<&'static str>,
}

/// A resource, whether a registry row or a review stands behind it.
struct Entry {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    verbs: &'static [&'static str],
    short_names: Vec<String>,
    categories: Vec<String>,
    row: Option<&'static ResourceInfo>,
}

fn entries(resources: &[&'static ResourceInfo]) -> Vec<Entry> {
    let rows = resources.iter().map(|row| Entry {
        group: row.group,
        version: row.version,
        plural: row.plural,
        singular: row.singular,
        kind: row.kind,
        namespaced: row.namespaced,
        verbs: row.verbs,
        short_names: row.short_names(),
        categories: row.categories(),
        row: Some(row),
    });
    let reviews = REVIEWS.iter().map(|review| Entry {
        group: review.group,
        version: review.version,
        plural: review.plural,
        singular: "",
        kind: review.kind,
        namespaced: review.namespaced,
        verbs: &["create"],
        short_names: Vec::new(),
        categories: Vec::new(),
        row: None,
    });
    let usage = usage_api::RESOURCES.map(|(plural, kind, namespaced)| Entry {
        group: usage_api::GROUP,
        version: usage_api::VERSION,
        plural,
        singular: "",
        kind,
        namespaced,
        verbs: usage_api::VERBS,
        short_names: Vec::new(),
        categories: Vec::new(),
        row: None,
    });
    rows.chain(reviews).chain(usage).collect()
}

fn groups(entries: &[Entry]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for entry in entries {
        match groups.iter_mut().find(|group| group.name == entry.group) {
            Some(group) if group.versions.contains(&entry.version) => {}
            Some(group) => group.versions.push(entry.version),
            None => groups.push(Group {
                name: entry.group,
                versions: vec![entry.version],
            }),
        }
    }
    // Of built-in groups the table says what is preferred; of others the name does.
    for group in &mut groups {
        let mut own = entries.iter().filter(|entry| entry.group == group.name);
        if own.all(|entry| entry.row.is_some_and(ResourceInfo::is_custom)) {
            group
                .versions
                .sort_by_key(|version| Reverse(version_priority(version)));
        }
    }
    groups
}

/// Kubernetes' hash of the form that a kind is stored in.
fn storage_version_hash(entry: &Entry) -> String {
    let form = format!("{}/{}/{}", entry.group, entry.version, entry.kind);
    STANDARD.encode(&Sha256::digest(form.as_bytes())[..8])
}

/// Answers a path below `/api` or `/apis` that names no resource; `None` if it is not one.
pub(crate) fn serve(
    resources: &[&'static ResourceInfo],
    path: &str,
    headers: &HeaderMap,
) -> Option<Result<Response, Error>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let entries = entries(resources);
    let groups = groups(&entries);
    let is_core = segments.first() == Some(&"api");
    let body = match &segments[..] {
        ["api" | "apis"] => {
            if let Some(version) = media::aggregated_discovery(headers) {
                return Some(Ok(aggregated(&entries, &groups, is_core, version)));
            }
            if is_core {
                json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
            } else {
                let named: Vec<Value> = groups
                    .iter()
                    .filter(|group| !group.name.is_empty())
                    .map(group)
                    .collect();
                json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named})
            }
        }
        ["apis", name] => match groups.iter().find(|group| group.name == *name) {
            Some(found) => {
                let mut body = group(found);
                body["kind"] = "APIGroup".into();
                body["apiVersion"] = "v1".into();
                body
            }
            None => return Some(Err(Error::UnknownPath)),
        },
        ["api", version] => resource_list(&entries, "", version)?,
        ["apis", group, version] => match resource_list(&entries, group, version) {
            Some(body) => body,
            None => return Some(Err(Error::UnknownPath)),
        },
        _ => return None,
    };
    Some(media::output(headers).map(|_| respond::json(StatusCode::OK, &body)))
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| {
            json!({"groupVersion": group_version(group.name, version), "version": version})
        })
        .collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions[0]})
}

fn resource_list(entries: &[Entry], group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for entry in entries
        .iter()
        .filter(|entry| entry.group == group && entry.version == version)
    {
        let mut resource = json!({
            "name": entry.plural,
            "singularName": entry.singular,
            "namespaced": entry.namespaced,
            "kind": entry.kind,
            "verbs": entry.verbs,
        });
        if entry.row.is_some() {
            resource["storageVersionHash"] = storage_version_hash(entry).into();
        }
        if !entry.short_names.is_empty() {
            resource["shortNames"] = json!(entry.short_names);
        }
        if !entry.categories.is_empty() {
            resource["categories"] = json!(entry.categories);
        }
        resources.push(resource);
        for sub in entry.row.map_or(&[][..], |row| row.subresources) {
            let mut resource = json!({
                "name": format!("{}/{}", entry.plural, sub.name),
                "singularName": "",
                "namespaced": entry.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if (sub.group, sub.version) != (entry.group, entry.version) {
                resource["group"] = sub.group.into();
                resource["version"] = sub.version.into();
            }
            resources.push(resource);
        }
    }
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version(group, version),
            "resources": resources,
        })
    })
}

fn aggregated(entries: &[Entry], groups: &[Group], is_core: bool, version: &str) -> Response {
    let items: Vec<Value> = groups
        .iter()
        .filter(|group| group.name.is_empty() == is_core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = entries
                        .iter()
                        .filter(|entry| entry.group == group.name && entry.version == *version)
                        .map(aggregated_resource)
                        .collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            json!({"metadata": {"name": group.name}, "versions": versions})
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let mut response = respond::json(StatusCode::OK, &body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(match version {
            "v2beta1" => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
            _ => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        }),
    );
    response
}

fn aggregated_resource(entry: &Entry) -> Value {
    let mut resource = json!({
        "resource": entry.plural,
        "responseKind": {"group": entry.group, "version": entry.version, "kind": entry.kind},
        "scope": if entry.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": entry.singular,
        "verbs": entry.verbs,
    });
    if !entry.short_names.is_empty() {
        resource["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        resource["categories"] = json!(entry.categories);
    }
    let subresources: Vec<Value> = entry
        .row
        .map_or(&[][..], |row| row.subresources)
        .iter()
        .map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = json!(subresources);
    }
    resource
}
