//! What the server has: every type with its names, so that the command line needs to know none.

use futures::future::join_all;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::failure::{Failure, Result};
use super::session::Session;

/// How alike a name must be to be suggested.
const ALIKE: f64 = 0.8;

/// What stands in a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':');

/// A type of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    pub(super) short_names: Vec<String>,
    pub(super) categories: Vec<String>,
}

impl Resource {
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`: the name that no other type has.
    pub(super) fn full_name(&self) -> String {
        qualify(&self.plural, &self.group)
    }

    /// `deployment/hello`, as messages say it.
    pub(super) fn display(&self, name: &str) -> String {
        format!("{}/{name}", self.singular)
    }

    /// `deployment.apps/hello`, as `-o name` says it.
    pub(super) fn display_full(&self, name: &str) -> String {
        format!("{}/{name}", qualify(&self.singular, &self.group))
    }

    /// The path of the type's objects in a namespace; `None` is all of them.
    pub(super) fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace {
            Some(namespace) if self.namespaced => {
                format!("{root}/namespaces/{}/{}", encode(namespace), self.plural)
            }
            _ => format!("{root}/{}", self.plural),
        }
    }

    /// The path of one object.
    pub(super) fn path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(Some(namespace)), encode(name))
    }

    fn answers_to(&self, name: &str) -> bool {
        let plain = [&self.plural, &self.singular]
            .into_iter()
            .chain(&self.short_names);
        if plain.clone().any(|known| known == name) || self.kind.eq_ignore_ascii_case(name) {
            return true;
        }
        let Some((first, rest)) = name.split_once('.') else {
            return false;
        };
        let versioned = format!("{}.{}", self.version, self.group);
        (rest == self.group || rest == versioned) && plain.into_iter().any(|known| known == first)
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// All types of a server, in its own order.
pub(super) struct Catalog(pub Vec<Resource>);

impl Catalog {
    pub(super) async fn read(session: &Session) -> Result<Self> {
        let groups = session.get("/apis").await?;
        let preferred = list(&groups, "groups")
            .filter_map(|group| group["preferredVersion"]["groupVersion"].as_str());
        let versions: Vec<&str> = std::iter::once("v1").chain(preferred).collect();
        let paths = versions.iter().map(|version| {
            let root = if version.contains('/') { "apis" } else { "api" };
            format!("/{root}/{version}")
        });
        let answers = paths.map(|path| async move { session.get(&path).await });
        let mut resources = Vec::new();
        for (version, answer) in versions.iter().zip(join_all(answers).await) {
            resources
                .extend(list(&answer?, "resources").filter_map(|entry| resource(version, entry)));
        }
        Ok(Self(resources))
    }

    /// The type with a name, in any of its spellings.
    pub(super) fn resolve(&self, name: &str) -> Result<&Resource> {
        let lower = name.to_lowercase();
        self.0
            .iter()
            .find(|resource| resource.answers_to(&lower))
            .ok_or_else(|| self.unknown(name))
    }

    /// The types that a name means: one, or all of a category (`all`).
    pub(super) fn resolve_all(&self, name: &str) -> Result<Vec<&Resource>> {
        let in_category =
            |resource: &&Resource| resource.categories.iter().any(|known| known == name);
        let members: Vec<_> = self.0.iter().filter(in_category).collect();
        if members.is_empty() {
            self.resolve(name).map(|resource| vec![resource])
        } else {
            Ok(members)
        }
    }

    /// The type of an object, by its `apiVersion` and `kind`.
    pub(super) fn of_object(&self, object: &Value) -> Result<&Resource> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let fits =
            |resource: &&Resource| resource.kind == kind && resource.api_version() == api_version;
        self.0.iter().find(fits).ok_or_else(|| {
            let failure = Failure::failed(
                "NoKindMatch",
                format!("this server has no kind {kind:?} in {api_version:?}"),
            );
            match self.0.iter().find(|resource| resource.kind == kind) {
                Some(other) => failure.help(format!("it has {kind} in {}", other.api_version())),
                None => failure.help("what it has: wasmorch api-resources"),
            }
        })
    }

    fn unknown(&self, name: &str) -> Failure {
        let failure = Failure::failed("NotFound", format!("this server has no type {name:?}"));
        let names = self
            .0
            .iter()
            .flat_map(|resource| [&resource.plural, &resource.singular]);
        let likeness = |known: &&String| strsim::jaro_winkler(known, &name.to_lowercase());
        let closest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        match closest.filter(|closest| likeness(closest) > ALIKE) {
            Some(closest) => failure.help(format!("did you mean {closest}?")),
            None => failure.help("what it has: wasmorch api-resources"),
        }
    }
}

fn resource(version: &str, entry: &Value) -> Option<Resource> {
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let texts = |field: &str| {
        list(entry, field)
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let plural = text("name");
    if plural.contains('/') {
        return None;
    }
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = text("kind");
    let singular = match text("singularName") {
        name if name.is_empty() => kind.to_lowercase(),
        name => name,
    };
    Some(Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural,
        singular,
        kind,
        namespaced: entry["namespaced"].as_bool().unwrap_or(false),
        short_names: texts("shortNames"),
        categories: texts("categories"),
    })
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalog() -> Catalog {
        let entry = |version: &str, entry: Value| resource(version, &entry).unwrap();
        Catalog(vec![
            entry(
                "v1",
                json!({"name": "pods", "singularName": "pod", "kind": "Pod",
                "namespaced": true, "shortNames": ["po"], "categories": ["all"]}),
            ),
            entry(
                "v1",
                json!({"name": "nodes", "singularName": "", "kind": "Node",
                "namespaced": false, "shortNames": ["no"]}),
            ),
            entry(
                "v1",
                json!({"name": "events", "kind": "Event", "namespaced": true}),
            ),
            entry(
                "apps/v1",
                json!({"name": "deployments", "singularName": "deployment",
                "kind": "Deployment", "namespaced": true, "shortNames": ["deploy"],
                "categories": ["all"]}),
            ),
            entry(
                "events.k8s.io/v1",
                json!({"name": "events", "kind": "Event", "namespaced": true}),
            ),
        ])
    }

    #[test]
    fn a_type_has_many_names() {
        let catalog = catalog();
        for name in [
            "deployments",
            "deployment",
            "deploy",
            "Deployment",
            "deployments.apps",
            "deployments.v1.apps",
            "deploy.apps",
        ] {
            assert_eq!(catalog.resolve(name).unwrap().kind, "Deployment", "{name}");
        }
        assert_eq!(catalog.resolve("events").unwrap().group, "");
        assert_eq!(
            catalog.resolve("events.events.k8s.io").unwrap().group,
            "events.k8s.io"
        );
        assert_eq!(catalog.resolve_all("all").unwrap().len(), 2);
        let unknown = catalog.resolve("deploymnet").unwrap_err().render();
        assert!(unknown.contains("did you mean deployment?"), "{unknown}");
        assert!(catalog.resolve("pods.apps").is_err());
        assert!(
            catalog
                .resolve("zebra")
                .unwrap_err()
                .render()
                .contains("api-resources")
        );
    }

    #[test]
    fn paths_are_kubernetes_paths() {
        let catalog = catalog();
        let deployment = catalog.resolve("deploy").unwrap();
        assert_eq!(deployment.collection(None), "/apis/apps/v1/deployments");
        assert_eq!(
            deployment.path("a b", "x/y"),
            "/apis/apps/v1/namespaces/a%20b/deployments/x%2Fy"
        );
        assert_eq!(
            catalog.resolve("no").unwrap().path("shop", "n1"),
            "/api/v1/nodes/n1"
        );
        assert_eq!(deployment.display("a"), "deployment/a");
        assert_eq!(deployment.display_full("a"), "deployment.apps/a");
    }

    #[test]
    fn an_object_finds_its_type() {
        let catalog = catalog();
        let found = catalog.of_object(&json!({"apiVersion": "apps/v1", "kind": "Deployment"}));
        assert_eq!(found.unwrap().plural, "deployments");
        let old =
            catalog.of_object(&json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment"}));
        assert!(
            old.unwrap_err()
                .render()
                .contains("it has Deployment in apps/v1")
        );
    }
}
