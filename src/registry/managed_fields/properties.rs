//! Properties of apply, on generated manifests of three managers who share an object.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::compare::{compare, fields_of};
use super::{Managed, Manager, Operation, Set, apply, put};
use crate::registry::custom::schema::Schema;
use crate::registry::merge_keys::Root;
use crate::registry::update::Part;

const MANAGERS: [&str; 3] = ["a", "b", "c"];

fn manager(name: &str) -> Manager {
    Manager {
        name: name.to_owned(),
        operation: Operation::Apply,
        api_version: "v1".to_owned(),
        subresource: None,
        part: Part::Main,
        time: json!("2027-01-15T08:00:00Z"),
    }
}

/// Some labels, containers with some fields, some finalizers, one atomic list.
fn manifests() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[xyz]", "[12]", 0..3);
    let ports = proptest::collection::btree_set(80_u16..83, 0..3);
    let container = (proptest::option::of("[12]"), ports);
    let containers = proptest::collection::btree_map("[mno]", container, 0..3);
    let finalizers = proptest::collection::btree_set("[fg]/x", 0..2);
    let arguments = proptest::option::of(proptest::collection::vec("[12]", 0..2));
    (labels, containers, finalizers, arguments).prop_map(
        |(labels, containers, finalizers, arguments)| {
            let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
            if !labels.is_empty() {
                object["metadata"]["labels"] = json!(labels);
            }
            if !finalizers.is_empty() {
                object["metadata"]["finalizers"] = json!(finalizers);
            }
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, ports))| {
                    let mut item = json!({"name": name});
                    if let Some(image) = image {
                        item["image"] = json!(image);
                    }
                    if !ports.is_empty() {
                        let port = |port| json!({"containerPort": port, "protocol": "TCP"});
                        item["ports"] = ports.into_iter().map(port).collect();
                    }
                    item
                })
                .collect();
            let mut spec = Map::new();
            if !containers.is_empty() {
                spec.insert("containers".to_owned(), containers.into());
            }
            if let Some(arguments) = arguments {
                spec.insert("tolerations".to_owned(), json!(arguments));
            }
            if !spec.is_empty() {
                object["spec"] = Value::Object(spec);
            }
            object
        },
    )
}

/// The object after an apply, with its entries.
fn after(live: &Value, name: &str, manifest: &Value, force: bool) -> Option<Value> {
    after_in("Pod".into(), live, name, manifest, force)
}

fn after_in(
    root: Root<'_>,
    live: &Value,
    name: &str,
    manifest: &Value,
    force: bool,
) -> Option<Value> {
    let applied = apply(root, live, manifest, &manager(name), force).ok()?;
    let mut object = applied.object;
    put(&mut object, applied.managed, live);
    Some(object)
}

/// A custom kind with a list of each sort.
fn custom_schema() -> Schema {
    let text = json!({"type": "string"});
    Schema::compile(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "protocol"],
                "items": {"type": "object", "properties": {"name": text, "protocol": {"type": "string", "default": "UDP"},
                    "port": {"type": "integer"}}}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
            "arguments": {"type": "array", "items": text},
            "labels": {"type": "object", "additionalProperties": text},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
        }}}}),
    )
}

fn custom_manifests() -> impl Strategy<Value = Value> {
    let ports = proptest::collection::btree_map("[mno]", proptest::option::of(1..3), 0..3);
    let tags = proptest::collection::btree_set("[xyz]", 0..3);
    let arguments = proptest::option::of(proptest::collection::vec("[12]", 0..2));
    let labels = proptest::collection::btree_map("[xyz]", "[12]", 0..3);
    let whole = proptest::option::of(proptest::collection::btree_map("[xyz]", "[12]", 0..2));
    (ports, tags, arguments, labels, whole).prop_map(|(ports, tags, arguments, labels, whole)| {
        let ports: Vec<Value> = ports
            .into_iter()
            .map(|(name, port)| match port {
                Some(port) => json!({"name": name, "port": port}),
                None => json!({"name": name}),
            })
            .collect();
        let mut spec = json!({"ports": ports, "tags": tags, "labels": labels});
        if let Some(arguments) = arguments {
            spec["arguments"] = json!(arguments);
        }
        if let Some(whole) = whole {
            spec["whole"] = json!(whole);
        }
        json!({"apiVersion": "example.com/v1", "kind": "Tab", "metadata": {"name": "t"}, "spec": spec})
    })
}

fn owned(object: &Value, name: &str) -> Set {
    let mut managed = Managed::of(object);
    managed.take(&manager(name)).unwrap_or_default()
}

proptest! {
    #[test]
    fn apply_by_a_schema_is_idempotent_and_takes_only_by_force(
        steps in proptest::collection::vec((0..3_usize, custom_manifests(), any::<bool>()), 1..8)
    ) {
        let schema = custom_schema();
        let root = Root::Schema(&schema);
        let mut live = json!({"apiVersion": "example.com/v1", "kind": "Tab", "metadata": {"name": "t"}});
        for (who, manifest, force) in steps {
            let name = MANAGERS[who];
            let Some(new) = after_in(root, &live, name, &manifest, force) else {
                prop_assert!(!force, "a forced apply never conflicts");
                continue;
            };
            let again = after_in(root, &new, name, &manifest, force);
            prop_assert_eq!(again.as_ref(), Some(&new));
            let missing = compare(root, &new, &super::merge::merge(root, new.clone(), &manifest));
            prop_assert!(missing.written().is_empty(), "{manifest} {new}");
            for other in MANAGERS.iter().filter(|other| **other != name && !force) {
                prop_assert_eq!(owned(&live, other), owned(&new, other));
            }
            live = new;
        }
    }
}

proptest! {
    #[test]
    fn apply_is_idempotent_and_loses_nobodys_field(
        steps in proptest::collection::vec((0..3_usize, manifests(), any::<bool>()), 1..8)
    ) {
        let mut live = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u"}});
        for (who, manifest, force) in steps {
            let name = MANAGERS[who];
            let Some(new) = after(&live, name, &manifest, force) else {
                prop_assert!(!force, "a forced apply never conflicts");
                continue;
            };
            prop_assert_eq!(&new["metadata"]["uid"], "u");
            // What is applied is there.
            let missing = compare("Pod", &new, &super::merge::merge("Pod", new.clone(), &manifest));
            prop_assert!(missing.written().is_empty(), "{manifest} {new}");
            // Again changes nothing, the entries included.
            let again = after(&new, name, &manifest, force);
            prop_assert_eq!(again.as_ref(), Some(&new));
            let changes = compare("Pod", &live, &new);
            let mut written = changes.written();
            written.add(&changes.removed);
            for other in MANAGERS.iter().filter(|other| **other != name) {
                let (before, now) = (owned(&live, other), owned(&new, other));
                if force {
                    let mut rest = before.clone();
                    rest.remove(&written);
                    prop_assert_eq!(&rest, &now, "only what is taken is lost");
                } else {
                    prop_assert!(before.common(&written).is_empty(), "{other} lost a field");
                    prop_assert_eq!(&before, &now);
                }
            }
            // Every owned field is there, and what is there is owned.
            let mut all = Set::default();
            for one in MANAGERS {
                all.add(&owned(&new, one));
            }
            let mut there = fields_of("Pod", &new);
            super::strip(&mut there);
            let mut lost = all.clone();
            lost.remove(&there);
            lost.remove(&compare("Pod", &Value::Null, &new).added);
            prop_assert!(lost.is_empty(), "{:?} {new}", lost.paths());
            there.remove(&all);
            prop_assert!(there.is_empty(), "{:?} {new}", there.paths());
            live = new;
        }
    }
}
