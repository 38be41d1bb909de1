//! What `protobuf` promises, case by case.

use super::*;

fn bytes_of(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    out.extend_from_slice(bytes);
    out
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = bytes_of(1, api_version.as_bytes());
    type_meta.extend(bytes_of(2, kind.as_bytes()));
    let mut out = MAGIC.to_vec();
    out.extend(bytes_of(1, &type_meta));
    out.extend(bytes_of(2, raw));
    out
}

#[test]
fn every_type_of_the_table_is_known() {
    for fields in table().values() {
        for field in fields.values() {
            if let Kind::Message(name) | Kind::HiddenList(name) = &field.kind {
                assert!(table().contains_key(name), "{name}");
            }
        }
    }
}

#[test]
fn zero_is_kept_where_a_pointer_says_so() {
    // metadata {name: web, creationTimestamp: {}}, spec {replicas: 0, minReadySeconds: 0}
    let mut metadata = bytes_of(1, b"web");
    metadata.extend(bytes_of(8, b""));
    let mut raw = bytes_of(1, &metadata);
    raw.extend(bytes_of(2, &[1 << 3, 0, 5 << 3, 0]));
    let object = decode(&envelope("apps/v1", "Deployment", &raw)).unwrap();
    assert_eq!(
        object,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 0}})
    );
}

/// What is refused by its name must have one in this encoding, too.
#[test]
fn fields_of_the_served_version_are_known() {
    let spec = [&[0xca, 2, 3][..], b"web"].concat();
    let object = decode(&envelope("v1", "Pod", &bytes_of(2, &spec))).unwrap();
    assert_eq!(object["spec"], json!({"hostnameOverride": "web"}));
    for (message, field) in [
        ("core/v1.Lifecycle", "stopSignal"),
        ("core/v1.EnvVarSource", "fileKeyRef"),
        ("core/v1.Container", "restartPolicyRules"),
        ("core/v1.VolumeProjection", "podCertificate"),
        (
            "autoscaling/v2.HorizontalPodAutoscalerStatus",
            "currentMetrics",
        ),
    ] {
        let mut fields = table()[message].values();
        assert!(fields.any(|it| it.name == field), "{message}.{field}");
    }
}

#[test]
fn maps_quantities_and_ports() {
    let entry = |key: &[u8], value: &[u8]| {
        let mut entry = bytes_of(1, key);
        entry.extend(bytes_of(2, value));
        entry
    };
    let mut raw = bytes_of(2, &entry(b"a", b"1"));
    raw.extend(bytes_of(3, &entry(b"b", &[0xff, 0x00])));
    let object = decode(&envelope("v1", "ConfigMap", &raw)).unwrap();
    assert_eq!(object["data"], json!({"a": "1"}));
    assert_eq!(object["binaryData"], json!({"b": "/wA="}));
    // A service port: targetPort is IntOrString{type 1, strVal "http"}, port 80.
    let mut target = vec![1 << 3, 1];
    target.extend(bytes_of(3, b"http"));
    let mut port = vec![3 << 3, 80];
    port.extend(bytes_of(4, &target));
    let raw = bytes_of(2, &bytes_of(1, &port));
    let object = decode(&envelope("v1", "Service", &raw)).unwrap();
    assert_eq!(
        object["spec"]["ports"],
        json!([{"port": 80, "targetPort": "http"}])
    );
}

#[test]
fn hostile_bytes_end_in_an_error() {
    assert_eq!(decode(b"{}"), Err(Error::Envelope));
    assert_eq!(decode(b"k8s\0\x0a\xff"), Err(Error::Truncated));
    assert!(matches!(
        decode(&envelope("v1", "Unheard", b"")),
        Err(Error::UnknownKind(_))
    ));
    let whole = envelope("v1", "Pod", &bytes_of(1, &bytes_of(1, b"name")));
    for length in 0..whole.len() {
        let _ = decode(&whole[..length]);
    }
    assert!(decode(&envelope("v1", "Pod", &[0x0a, 0x7f, 1])).is_err());
}
