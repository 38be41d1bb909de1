//! What `volume` promises, case by case.

use super::super::check;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

#[test]
fn sources_are_checked() {
    let check = check::<Pod>;
    let at = "/spec/volumes";
    check(
        at,
        &json!([{"name": "a"}, {"name": "a", "emptyDir": {"sizeLimit": "1Mi"}}]),
        &["spec.volumes[1].name: Duplicate value: \"a\""],
    );
    check(
        at,
        &json!([{"name": "a", "emptyDir": {}, "secret": {"secretName": "s"}}]),
        &["spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"],
    );
    check(
        at,
        &json!([{"name": "a", "configMap": {"name": "c", "defaultMode": 512, "items": [{"key": "k", "path": "../k"}]}}]),
        &[
            "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"../k\": must not contain '..'",
        ],
    );
    check(
        at,
        &json!([{"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "../t", "expirationSeconds": 5}}]}}]),
        &[
            "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
            "spec.volumes[0].projected.sources[0].serviceAccountToken.path: Invalid value: \"../t\": must not contain '..'",
        ],
    );
    check(
        at,
        &json!([{"name": "a", "downwardAPI": {"items": [{"path": "x"}]}}]),
        &[
            "spec.volumes[0].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required",
        ],
    );
}

#[test]
fn directories_of_the_host_and_claims_are_checked() {
    let check = check::<Pod>;
    let at = "/spec/volumes";
    check(
        at,
        &json!([{"name": "a", "hostPath": {"path": "/srv", "type": "Directory"}}, {"name": "b", "persistentVolumeClaim": {"claimName": "data"}}]),
        &[],
    );
    check(
        at,
        &json!([{"name": "a", "hostPath": {"path": "/srv/../etc", "type": "Socket"}}, {"name": "b", "hostPath": {"path": "srv"}}]),
        &[
            "spec.volumes[0].hostPath.path: Invalid value: \"/srv/../etc\": must not contain '..'",
            "spec.volumes[0].hostPath.type: Unsupported value: \"Socket\": supported values: \"\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\"",
            "spec.volumes[1].hostPath.path: Invalid value: \"srv\": must be an absolute path",
        ],
    );
    check(
        at,
        &json!([{"name": "a", "persistentVolumeClaim": {"claimName": ""}}, {"name": "b", "emptyDir": {"medium": "HugePages"}}]),
        &[
            "spec.volumes[0].persistentVolumeClaim.claimName: Required value",
            "spec.volumes[1].emptyDir.medium: Unsupported value: \"HugePages\": supported values: \"\", \"Memory\"",
        ],
    );
}

#[test]
fn mounts_are_checked() {
    let mounts = json!([{"name": "a", "mountPath": "/x", "subPath": "/y"}, {"name": "b", "mountPath": "x"}, {"mountPath": "/x/"}]);
    check::<Pod>(
        "/spec",
        &json!({"volumes": [{"name": "a"}], "containers": [{"name": "c", "image": "hello", "volumeMounts": mounts}]}),
        &[
            "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"/y\": must be a relative path",
            "spec.containers[0].volumeMounts[1].name: Not found: \"b\"",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"x\": must be an absolute path",
            "spec.containers[0].volumeMounts[2].name: Required value",
            "spec.containers[0].volumeMounts[2].mountPath: Invalid value: \"/x/\": must be unique",
        ],
    );
}
