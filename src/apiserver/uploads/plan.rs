//! What an upload becomes: a list of objects, computed before any of them is made.
//!
//! With a manifest, its objects and a `Module` for each file. Without one: a handler, or a command
//! that is given a port, is a service (Deployment and Service); a command alone is a Pod that runs
//! to its end. Pods are pinned to the uploaded digests here, because admission, which does it
//! elsewhere, cannot see modules that are created in the same commit.

use serde_json::{Value, json};

use crate::api::image::ImageRef;
use crate::api::module::ModuleVersion;
use crate::api::{names, object};
use crate::apiserver::error::Error;
use crate::apiserver::modules::{decode, encode, new_module};
use crate::modules::inspect::Role;
use crate::registry::{self, Registry, ResourceInfo};

/// One file of the upload.
pub(super) struct Uploaded {
    pub(super) name: String,
    pub(super) version: ModuleVersion,
    pub(super) role: Role,
}

/// What the form's fields ask for.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) name: Option<String>,
    pub(super) replicas: Option<u32>,
    pub(super) port: Option<u16>,
}

/// An object to create: its kind, its namespace, itself.
type Planned = (&'static ResourceInfo, Option<String>, Value);

const MODULE: (&str, &str) = ("wasmorch.dev/v1", "Module");
const DEFAULT_PORT: u16 = 8080;

/// The objects of an upload, modules first.
pub(super) fn plan(
    registry: &Registry,
    namespace: &str,
    (uploaded, tag): (&[Uploaded], &str),
    manifest: Option<&str>,
    wishes: &Wishes,
) -> Result<Vec<Planned>, Error> {
    let mut objects = Vec::new();
    for one in uploaded {
        if let Some(module) = module(registry, namespace, one, tag)? {
            objects.push(module);
        }
    }
    let described = match manifest {
        Some(manifest) => documents(manifest)?,
        None => workload(uploaded, wishes)?,
    };
    for mut described in described {
        let kind = described["kind"].as_str().unwrap_or_default().to_owned();
        let api_version = described["apiVersion"].as_str().unwrap_or_default();
        let resource = registry.find_kind(api_version, &kind).ok_or_else(|| {
            Error::BadRequest(format!(
                "no matches for kind \"{kind}\" in version \"{api_version}\""
            ))
        })?;
        if !resource.namespaced {
            return Err(Error::BadRequest(format!(
                "the manifest of an upload may hold objects of its namespace only, not a {kind}"
            )));
        }
        if kind == "Pod" {
            pin(&mut described["spec"], uploaded);
        }
        objects.push((resource, Some(namespace.to_owned()), described));
    }
    Ok(objects)
}

/// The `Module` of a file; `None` if the cluster has this very version already.
fn module(
    registry: &Registry,
    namespace: &str,
    one: &Uploaded,
    tag: &str,
) -> Result<Option<Planned>, Error> {
    let (api_version, kind) = MODULE;
    let resource = registry
        .find_kind(api_version, kind)
        .ok_or(Error::UnknownPath)?;
    match registry.get(resource, Some(namespace), &one.name) {
        Err(registry::Error::NotFound { .. }) => {
            let module = new_module(&one.name, tag, one.version.clone());
            Ok(Some((
                resource,
                Some(namespace.to_owned()),
                encode(&module),
            )))
        }
        Err(error) => Err(error.into()),
        Ok(stored) => {
            let module = decode(&stored)?;
            if module.spec.tags.get(tag) == Some(&one.version.digest) {
                return Ok(None);
            }
            Err(Error::Conflict {
                message: format!(
                    "module \"{name}\" already exists and its tag \"{tag}\" is another version; push this one first: PUT …/modules/{name}/content?tag={tag}",
                    name = one.name
                ),
                kind: "modules.wasmorch.dev",
                name: one.name.clone(),
            })
        }
    }
}

/// The documents of a manifest; a `List` counts as its items.
fn documents(manifest: &str) -> Result<Vec<Value>, Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest)
        .map_err(|error| Error::BadRequest(format!("the manifest is not valid YAML: {error}")))?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind") == Some(&json!("List")) => {
                match list.remove("items") {
                    Some(Value::Array(items)) => objects.extend(items),
                    _ => {
                        return Err(Error::BadRequest(
                            "a List of the manifest has no items".to_owned(),
                        ));
                    }
                }
            }
            Value::Object(_) => objects.push(document),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(Error::BadRequest(
                    "a document of the manifest is not an object".to_owned(),
                ));
            }
        }
    }
    if objects.is_empty() {
        return Err(Error::BadRequest("the manifest is empty".to_owned()));
    }
    Ok(objects)
}

/// Pins the images of a pod that name an uploaded module without a digest.
fn pin(spec: &mut Value, uploaded: &[Uploaded]) {
    for list in ["containers", "initContainers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let Some(image) = object::str_at(container, &["image"])
                .and_then(|image| image.parse::<ImageRef>().ok())
                .filter(|image| image.digest.is_none())
            else {
                continue;
            };
            let digest = uploaded
                .iter()
                .find(|one| one.name == image.name)
                .and_then(|one| one.version.digest.parse().ok());
            if let Some(digest) = digest {
                container["image"] = image.pinned(digest).to_string().into();
            }
        }
    }
}

/// What files without a manifest become.
fn workload(uploaded: &[Uploaded], wishes: &Wishes) -> Result<Vec<Value>, Error> {
    let name = wishes
        .name
        .clone()
        .unwrap_or_else(|| uploaded[0].name.clone());
    if !names::is_dns_1035_label(&name) {
        return Err(Error::Unprocessable {
            message: format!("name: Invalid value: \"{name}\": {}", names::DNS_1035_RULE),
            field: "name".to_owned(),
        });
    }
    let serves = wishes.port.is_some() || uploaded.iter().any(|one| one.role == Role::Handler);
    let labels = json!({"app": name});
    let mut port = wishes.port.unwrap_or(DEFAULT_PORT);
    let mut containers = Vec::new();
    for (index, one) in uploaded.iter().enumerate() {
        let mut container = json!({
            "name": one.name,
            "image": format!("{}@{}", one.name, one.version.digest),
        });
        // Each handler of the pod gets a port of its own; a command listens where it wants, and the
        // first one is taken at its word.
        if one.role == Role::Handler || (index == 0 && wishes.port.is_some()) {
            container["ports"] = json!([{"containerPort": port}]);
            port = port.saturating_add(1);
        }
        containers.push(container);
    }
    if !serves && wishes.replicas.is_none() {
        return Ok(vec![json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"restartPolicy": "Never", "containers": containers},
        })]);
    }
    let mut objects = vec![json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": wishes.replicas.unwrap_or(1),
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": containers},
            },
        },
    })];
    if serves {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "selector": labels,
                "ports": [{
                    "name": "http",
                    "port": 80,
                    "targetPort": wishes.port.unwrap_or(DEFAULT_PORT),
                }],
            },
        }));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uploaded(name: &str, role: Role) -> Uploaded {
        Uploaded {
            name: name.to_owned(),
            version: ModuleVersion {
                digest: crate::api::image::Digest::of(name.as_bytes()).to_string(),
                ..ModuleVersion::default()
            },
            role,
        }
    }

    fn kinds(objects: &[Value]) -> Vec<&str> {
        objects
            .iter()
            .map(|object| object["kind"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_handler_becomes_a_service_and_a_command_a_pod() {
        let wishes = Wishes::default();
        let handler = workload(&[uploaded("hello", Role::Handler)], &wishes).unwrap();
        assert_eq!(kinds(&handler), ["Deployment", "Service"]);
        assert_eq!(handler[1]["spec"]["ports"][0]["targetPort"], 8080);
        let command = workload(&[uploaded("job", Role::Command)], &wishes).unwrap();
        assert_eq!(kinds(&command), ["Pod"]);
        let wishes = Wishes {
            port: Some(9000),
            replicas: Some(3),
            name: Some("web".to_owned()),
        };
        let server = workload(&[uploaded("job", Role::Command)], &wishes).unwrap();
        assert_eq!(kinds(&server), ["Deployment", "Service"]);
        assert_eq!(server[0]["spec"]["replicas"], 3);
        assert_eq!(server[0]["metadata"]["name"], "web");
    }

    #[test]
    fn pods_are_pinned_to_what_was_uploaded() {
        let one = uploaded("hello", Role::Command);
        let mut spec = json!({"containers": [{"image": "hello:v2"}, {"image": "other"}]});
        pin(&mut spec, std::slice::from_ref(&one));
        assert_eq!(
            spec["containers"][0]["image"],
            format!("hello:v2@{}", one.version.digest)
        );
        assert_eq!(spec["containers"][1]["image"], "other");
    }

    #[test]
    fn manifests_may_hold_several_documents() {
        let text = "kind: A\n---\nkind: B\n---\nkind: List\nitems: [{kind: C}]\n";
        assert_eq!(kinds(&documents(text).unwrap()), ["A", "B", "C"]);
        assert!(documents("").is_err());
        assert!(documents("- 1").is_err());
        assert!(documents("a: [").is_err());
    }
}
