//! What the schemas promise.

use super::*;
use crate::registry::kinds::TABLE;

fn all() -> Schemas {
    let kinds: Vec<Typed> = TABLE.iter().map(Typed::of_row).collect();
    of(&kinds)
}

#[test]
fn every_row_has_a_schema_with_described_fields_and_nothing_dangles() {
    let schemas = all();
    for (row, name) in TABLE.iter().zip(&schemas.names) {
        let schema = schemas.definitions.get(name);
        let schema = schema.unwrap_or_else(|| panic!("{row:?} has no schema"));
        assert!(schema["properties"]["metadata"].is_object(), "{name}");
        assert!(schema["description"].is_string(), "{name}");
        let kind = &schema["x-kubernetes-group-version-kind"][0];
        let own = json!({"group": row.group, "version": row.version, "kind": row.kind});
        assert_eq!(*kind, own, "{name}");
    }
    for schema in schemas.definitions.values() {
        let mut names = Vec::new();
        references(schema, &mut names);
        for name in names {
            assert!(schemas.definitions.contains_key(name), "{name}");
        }
        assert!(!schema.to_string().contains("\"null\""), "{schema}");
    }
}

/// A schema of schemas has fields that are called like words of a schema.
#[test]
fn fields_may_be_called_like_words_of_a_schema() {
    let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let properties = &all().definitions[name]["properties"];
    for field in [
        "default",
        "nullable",
        "anyOf",
        "type",
        "properties",
        "format",
    ] {
        assert!(properties[field].is_object(), "{field}");
    }
}

#[test]
fn types_say_of_themselves_what_kubernetes_says() {
    let definitions = all().definitions;
    let of = |name: &str| definitions[&format!("io.k8s.api.{name}")].clone();
    for name in [
        "core.v1.Pod",
        "core.v1.LocalObjectReference",
        "core.v1.SecretEnvSource",
    ] {
        assert!(of(name).get("required").is_none(), "{name}");
    }
    assert_eq!(of("core.v1.SecretKeySelector")["required"], json!(["key"]));
    for name in WHOLE {
        let name = format!("io.k8s.api.{name}");
        if let Some(definition) = definitions.get(&name) {
            assert_eq!(definition["x-kubernetes-map-type"], "atomic", "{name}");
        }
    }
    let owner = &definitions[OWNER_REFERENCE];
    assert_eq!(owner["x-kubernetes-map-type"], "atomic");
    let list = |name: &str, field: &str| {
        let field = of(name)["properties"][field].clone();
        let word = |word: &str| field[format!("x-kubernetes-{word}")].clone();
        (word("list-type"), word("patch-strategy"))
    };
    let merged = |kind: &str| (json!(kind), json!("merge"));
    assert_eq!(list("batch.v1.JobStatus", "conditions"), merged("atomic"));
    assert_eq!(
        list("core.v1.ContainerStatus", "volumeMounts"),
        merged("map")
    );
    let of_account = list("core.v1.ServiceAccount", "imagePullSecrets");
    assert_eq!(of_account, (json!("atomic"), Value::Null));
    let of_slice = list("discovery.v1.Endpoint", "addresses");
    assert_eq!(of_slice, (json!("set"), Value::Null));
    let claims = list("core.v1.PodStatus", "resourceClaimStatuses");
    assert_eq!(claims, (json!("map"), json!("merge,retainKeys")));
}

#[test]
fn fields_merge_as_the_table_says() {
    let schemas = all();
    let field = |name: &str, field: &str| {
        schemas.definitions[&format!("io.k8s.api.{name}")]["properties"][field].clone()
    };
    let containers = field("core.v1.PodSpec", "containers");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    let volumes = field("core.v1.PodSpec", "volumes");
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    let ports = field("core.v1.ServiceSpec", "ports");
    assert_eq!(
        ports["x-kubernetes-list-map-keys"],
        json!(["port", "protocol"])
    );
    let tolerations = field("core.v1.PodSpec", "tolerations");
    assert_eq!(tolerations["x-kubernetes-list-type"], "atomic");
    let selector = field("core.v1.ServiceSpec", "selector");
    assert_eq!(selector["x-kubernetes-map-type"], "atomic");
    let name = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";
    assert_eq!(schemas.definitions[name]["x-kubernetes-map-type"], "atomic");
}
