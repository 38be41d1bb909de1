//! Which rows a definition comes to.

use super::*;
use serde_json::json;

fn stored(name: &str, is_established: bool) -> Arc<Stored> {
    let (plural, group) = name.split_once('.').unwrap();
    let names =
        json!({"plural": plural, "kind": "Thing", "listKind": "ThingList", "singular": "thing"});
    let object = json!({"metadata": {"name": name},
        "spec": {"group": group, "scope": "Namespaced", "names": names,
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
        "status": {"acceptedNames": names, "conditions": [
            {"type": "Established", "status": if is_established { "True" } else { "False" }}]}});
    Arc::new(Stored::new(
        ObjectKey::new(DEFINITIONS, "", name),
        Revision(1),
        object,
    ))
}

#[test]
fn what_is_not_its_own_is_no_row_of_a_definition() {
    let rows = |stored: &Arc<Stored>| served(stored).len();
    assert_eq!(rows(&stored("things.example.com", true)), 1);
    assert_eq!(rows(&stored("things.example.com", false)), 0);
    assert_eq!(rows(&stored("modules.wasmorch.dev", true)), 0);
    let mut odd = stored("things.example.com", true).object.clone();
    odd["status"]["acceptedNames"]["plural"] = "others".into();
    let key = ObjectKey::new(DEFINITIONS, "", "things.example.com");
    assert_eq!(rows(&Arc::new(Stored::new(key, Revision(1), odd))), 0);
}

#[test]
fn versions_are_ordered_as_in_kubernetes() {
    let mut versions = [
        "foo10",
        "v1",
        "v11alpha2",
        "v10",
        "v3beta1",
        "v12alpha1",
        "v10beta3",
        "foo1",
        "v2",
        "v11beta2",
        "v3",
    ];
    versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    assert_eq!(
        versions,
        [
            "v10",
            "v3",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10"
        ]
    );
}

/// Who edits the names of a kind again and again takes no more memory for it.
#[test]
fn a_row_survives_new_names_and_follows_new_parts() {
    let (mut maps, one) = (Maps::default(), stored("things.example.com", true));
    let rows = |maps: &mut Maps, stored: &Arc<Stored>| -> Vec<&'static ResourceInfo> {
        let served = served(stored).into_iter();
        served
            .filter_map(|(identity, version)| maps.intern(identity, version))
            .collect()
    };
    let first = rows(&mut maps, &one)[0];
    let mut renamed = one.object.clone();
    renamed["status"]["acceptedNames"]["shortNames"] = json!(["th"]);
    let renamed = Arc::new(Stored::new(one.key.clone(), Revision(2), renamed));
    assert!(std::ptr::eq(rows(&mut maps, &renamed)[0], first));
    assert_eq!(first.short_names(), ["th"]);
    let mut grown = one.object.clone();
    grown["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    let grown = Arc::new(Stored::new(one.key.clone(), Revision(3), grown));
    let next = rows(&mut maps, &grown);
    assert!(!std::ptr::eq(next[0], first));
    supersede(first, &next);
    let custom = |row: &'static ResourceInfo| row.custom.unwrap().version();
    assert!(Arc::ptr_eq(&custom(first), &custom(next[0])));
    supersede(first, &[]);
    assert!(custom(first).is_terminating);
}
