//! Every volume source, and every way to get one wrong.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::worker::fields::tests::subject;
use crate::worker::plan::tests::pod;

#[expect(
    clippy::needless_pass_by_value,
    reason = "cases read better without `&`"
)]
fn build_one(volume: Value) -> Result<VolumeSource, Error> {
    let mut pod = pod(&json!({"containers": [{"name": "m", "image": "m"}], "volumes": [volume]}));
    pod.metadata.labels = Some(BTreeMap::from([("app".into(), "x".into())]));
    let objects = Objects::default()
        .with(Kind::ConfigMap, "config", &[("a.txt", "1"), ("b.txt", "2")])
        .with(Kind::Secret, "secret", &[("key", "pw")]);
    let allocatable = BTreeMap::new();
    let subject = subject(&pod, &allocatable);
    let built = build(&subject, &objects, &Claims::new(), &["/srv/data".into()])?;
    Ok(built.into_iter().next().unwrap().source)
}

fn files(volume: Value) -> Vec<(String, String, u32)> {
    match build_one(volume).unwrap() {
        VolumeSource::Files(files) => files
            .into_iter()
            .map(|file| {
                let text = String::from_utf8(file.contents.to_vec()).unwrap();
                (file.path, text, file.mode)
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn file(path: &str, contents: &str, mode: u32) -> (String, String, u32) {
    (path.into(), contents.into(), mode)
}

#[test]
fn files_of_objects() {
    assert_eq!(
        files(json!({"name": "v", "configMap": {"name": "config"}})),
        [file("a.txt", "1", 0o644), file("b.txt", "2", 0o644)]
    );
    assert_eq!(
        files(
            json!({"name": "v", "configMap": {"name": "config", "defaultMode": 256,
            "items": [{"key": "a.txt", "path": "sub/x"}, {"key": "b.txt", "path": "y", "mode": 384}]}})
        ),
        [file("sub/x", "1", 0o400), file("y", "2", 0o600)]
    );
    assert_eq!(
        files(json!({"name": "v", "secret": {"secretName": "none", "optional": true}})),
        []
    );
    assert_eq!(
        files(
            json!({"name": "v", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}})
        ),
        [file("labels", "app=\"x\"", 0o644)]
    );
    assert_eq!(
        files(json!({"name": "v", "projected": {"sources": [
            {"configMap": {"name": "config", "items": [{"key": "a.txt", "path": "same"}]}},
            {"secret": {"name": "secret", "items": [{"key": "key", "path": "same"}]}}]}})),
        [file("same", "pw", 0o644)]
    );
}

#[test]
fn directories() {
    assert!(matches!(
        build_one(json!({"name": "v", "emptyDir": {"sizeLimit": "1Mi"}})).unwrap(),
        VolumeSource::Empty {
            size_limit: Some(1_048_576),
            is_memory: false,
        }
    ));
    assert!(matches!(
        build_one(json!({"name": "v", "emptyDir": {}})).unwrap(),
        VolumeSource::Empty {
            size_limit: None,
            is_memory: false,
        }
    ));
    assert!(matches!(
        build_one(json!({"name": "v", "emptyDir": {"medium": "Memory"}})).unwrap(),
        VolumeSource::Empty {
            is_memory: true,
            ..
        }
    ));
    assert!(matches!(
        build_one(json!({"name": "v", "hostPath": {"path": "/srv/data/x"}})).unwrap(),
        VolumeSource::HostDir { .. }
    ));
}

#[test]
fn what_is_wrong_is_said() {
    let cases = [
        (
            json!({"name": "v", "configMap": {"name": "none"}}),
            "configmap \"none\" not found",
        ),
        (
            json!({"name": "v", "secret": {"secretName": "secret", "items": [{"key": "k", "path": "p"}]}}),
            "has no key `k`",
        ),
        (
            json!({"name": "v", "secret": {"secretName": "secret", "items": [{"key": "key", "path": "../p"}]}}),
            "must be relative",
        ),
        (
            json!({"name": "v", "secret": {"secretName": "secret", "items": [{"key": "key", "path": "/p"}]}}),
            "must be relative",
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/etc"}}),
            "not allowed",
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/srv/data/../../etc"}}),
            "not allowed",
        ),
        (
            json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}),
            "was not found out about",
        ),
        (
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
            "its token was not asked for",
        ),
    ];
    for (volume, expected) in cases {
        let text = build_one(volume.clone()).unwrap_err().to_string();
        assert!(text.contains(expected), "{volume}: {text}");
    }
}
