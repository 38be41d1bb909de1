//! Bodies that are wrong: a tree with foreign branches, then text that is broken.

use serde_json::{Map, Value, json};

use super::super::door::{APPLY, JSON_PATCH, MERGE, STRATEGIC};
use super::super::protobuf;
use super::choices::Choices;

/// Values that belong nowhere.
pub(super) const STRANGE: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e308",
    "18446744073709551615",
    "-9223372036854775808",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "[{}]",
    "{\"\":null}",
    "{\"name\":null}",
    "\"\\u0000\"",
    "\"\\ud83e\\udd80\"",
    "\"../../etc/passwd\"",
    "\"$(HOME)\"",
    "\"9999999999999999999999Gi\"",
    "\"1e999\"",
    "\"-5\"",
    "\"100%\"",
    "\"-100%\"",
    "\"*\"",
    "\"a b\"",
    "{\"name\":{\"name\":{\"name\":{}}}}",
    "[1,\"a\",null,{}]",
    "{\"$patch\":\"delete\"}",
    "[{\"$patch\":\"replace\"}]",
    "{\"$retainKeys\":[\"x\"]}",
    "[\"a\",\"a\"]",
    "[{\"name\":\"a\"},{\"name\":\"a\"}]",
    "\"0001-01-01T00:00:00Z\"",
    "\"9999-12-31T23:59:59Z\"",
    "2147483648",
    "[{\"$patch\":\"delete\",\"name\":\"x\"}]",
];

/// What a schema may say, wrongly.
const KEYWORDS: &[(&str, &str)] = &[
    ("type", "\"array\""),
    ("type", "5"),
    ("pattern", "\"(a+)+$\""),
    ("pattern", "\"[\""),
    ("pattern", "\"(x{1000}){1000}\""),
    ("enum", "[]"),
    ("enum", "[{},{}]"),
    ("default", "{\"a\":1}"),
    ("default", "null"),
    ("multipleOf", "0"),
    ("maximum", "-1e308"),
    ("minLength", "-1"),
    ("maxLength", "18446744073709551615"),
    ("minItems", "5"),
    ("format", "\"int32\""),
    ("format", "\"x\""),
    ("items", "{}"),
    ("items", "[]"),
    ("items", "{\"type\":\"object\"}"),
    ("properties", "{}"),
    ("properties", "[]"),
    ("properties", "{\"metadata\":{\"type\":\"string\"}}"),
    ("additionalProperties", "{\"type\":\"string\"}"),
    ("additionalProperties", "false"),
    ("$ref", "\"#\""),
    ("allOf", "[{}]"),
    ("oneOf", "[{\"required\":[\"a\"]}]"),
    ("not", "{}"),
    ("required", "[\"a\",\"a\"]"),
    ("required", "5"),
    ("nullable", "true"),
    ("x-kubernetes-preserve-unknown-fields", "true"),
    ("x-kubernetes-preserve-unknown-fields", "1"),
    ("x-kubernetes-embedded-resource", "true"),
    ("x-kubernetes-int-or-string", "true"),
    ("x-kubernetes-list-type", "\"map\""),
    ("x-kubernetes-list-map-keys", "[\"name\"]"),
    ("x-kubernetes-list-map-keys", "5"),
    ("x-kubernetes-map-type", "\"atomic\""),
    ("x-kubernetes-validations", "[{\"rule\":\"self\"}]"),
    ("uniqueItems", "true"),
    ("externalDocs", "{}"),
    ("example", "{}"),
    ("id", "\"x\""),
    ("exclusiveMinimum", "true"),
    ("title", "5"),
];

/// What belongs below an object and is not the object.
pub(super) fn subresource(name: &str) -> Option<Value> {
    Some(match name {
        "scale" => {
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "sample1"}, "spec": {"replicas": 1}})
        }
        "eviction" => {
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "sample1", "namespace": "default"},
            "deleteOptions": {"dryRun": ["All"], "preconditions": {"uid": "x"}}})
        }
        "binding" => {
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "sample1"}, "target": {"kind": "Node", "name": "sample1"}})
        }
        "token" => json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": ["x"], "expirationSeconds": 600, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "sample1"}}}),
        _ => return None,
    })
}

/// The review that a path takes.
pub(super) fn review(path: &str) -> Value {
    let attributes = json!({"verb": "get", "resource": "pods", "namespace": "default", "group": "", "name": "x"});
    let (kind, spec) = match path.rsplit('/').next().unwrap_or_default() {
        "selfsubjectaccessreviews" => (
            "SelfSubjectAccessReview",
            json!({"resourceAttributes": attributes}),
        ),
        "subjectaccessreviews" => (
            "SubjectAccessReview",
            json!({"resourceAttributes": attributes, "user": "a", "groups": ["b"]}),
        ),
        "localsubjectaccessreviews" => (
            "LocalSubjectAccessReview",
            json!({"resourceAttributes": attributes, "user": "a"}),
        ),
        "selfsubjectrulesreviews" => ("SelfSubjectRulesReview", json!({"namespace": "default"})),
        "tokenreviews" => ("TokenReview", json!({"token": "x.y.z", "audiences": ["a"]})),
        _ => ("SelfSubjectReview", json!({})),
    };
    let group = path.split('/').nth(2).unwrap_or_default();
    json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {}, "spec": spec})
}

/// The body that says `object`, or nearly.
pub(super) fn of(object: &Value, media: &str, choices: &mut Choices<'_>) -> Vec<u8> {
    let mut tree = match media {
        JSON_PATCH => operations(object, choices),
        _ => object.clone(),
    };
    if object["kind"] == "CustomResourceDefinition" {
        for _ in 0..choices.below(5) {
            season(&mut tree, choices);
        }
    }
    for _ in 0..choices.below(4) {
        disturb(&mut tree, choices);
    }
    let mut bytes = encode(&tree, media, choices);
    if choices.is_rare(6) {
        shatter(&mut bytes, choices);
    }
    if choices.is_rare(25) {
        bytes = choices.pick(BOMBS)();
    }
    bytes
}

fn encode(tree: &Value, media: &str, choices: &mut Choices<'_>) -> Vec<u8> {
    match media {
        "application/vnd.kubernetes.protobuf" => {
            protobuf::encode(tree).unwrap_or_else(|| b"k8s\0\x0a\x02\x0a\x00".to_vec())
        }
        MERGE | STRATEGIC | APPLY if choices.is_rare(3) => {
            let part = json!({"metadata": tree["metadata"], "spec": tree["spec"]});
            part.to_string().into_bytes()
        }
        _ => tree.to_string().into_bytes(),
    }
}

fn operations(object: &Value, choices: &mut Choices<'_>) -> Value {
    const OPERATIONS: &[&str] = &["replace", "add", "remove", "test", "move", "copy", "paint"];
    const PATHS: &[&str] = &[
        "/metadata/labels/conformance",
        "/metadata/name",
        "/spec",
        "/spec/-",
        "/metadata/annotations/a~1b",
        "",
        "/",
        "x",
        "/metadata/finalizers/-",
        "/metadata/labels/99999999999",
        "/kind",
        "/status",
        "/~",
        "/metadata/managedFields",
    ];
    let one = |choices: &mut Choices<'_>| {
        let mut operation = json!({"op": choices.pick(OPERATIONS), "path": choices.pick(PATHS)});
        if !choices.is_rare(4) {
            operation["value"] = strange(choices);
        }
        if choices.is_rare(3) {
            operation["from"] = json!(choices.pick(PATHS));
        }
        operation
    };
    let count = 1 + choices.below(3);
    let mut all: Vec<Value> = (0..count).map(|_| one(choices)).collect();
    if choices.is_rare(30) {
        all = vec![json!({"op": "test", "path": "/kind", "value": object["kind"]}); 10_001];
    }
    all.into()
}

fn strange(choices: &mut Choices<'_>) -> Value {
    match choices.below(STRANGE.len() + 2) {
        index if index < STRANGE.len() => serde_json::from_str(STRANGE[index]).unwrap(),
        index if index == STRANGE.len() => Value::String("x".repeat(70_000)),
        _ => (0..100).fold(json!({}), |inner, _| json!({"a": inner})),
    }
}

/// Changes one place of a tree.
fn disturb(tree: &mut Value, choices: &mut Choices<'_>) {
    let descends = !choices.is_rare(3);
    let inner = match tree {
        Value::Object(map) if descends && !map.is_empty() => {
            let at = choices.below(map.len());
            map.values_mut().nth(at)
        }
        Value::Array(items) if descends && !items.is_empty() => {
            let at = choices.below(items.len());
            items.get_mut(at)
        }
        _ => return alter(tree, choices),
    };
    if let Some(inner) = inner {
        disturb(inner, choices);
    }
}

/// Changes this place.
fn alter(place: &mut Value, choices: &mut Choices<'_>) {
    match (choices.below(4), place) {
        (1, Value::Object(map)) => {
            const NAMES: &[&str] = &[
                "x",
                "spec",
                "status",
                "metadata",
                "name",
                "finalizers",
                "ownerReferences",
                "managedFields",
                "generateName",
                "annotations",
                "deletionTimestamp",
                "resourceVersion",
                "uid",
                "namespace",
                "$patch",
                "kind",
                "",
            ];
            let name = *choices.pick(NAMES);
            map.insert(name.to_owned(), strange(choices));
        }
        (2, Value::Object(map)) => {
            let at = choices.below(map.len().max(1));
            if let Some(name) = map.keys().nth(at).cloned() {
                map.remove(&name);
            }
        }
        (3, Value::Array(items)) => {
            let more = items.clone();
            items.extend(more);
        }
        (_, place) => *place = strange(choices),
    }
}

/// Adds a keyword to a schema of a definition.
fn season(tree: &mut Value, choices: &mut Choices<'_>) {
    let Some(mut schema) = tree.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") else {
        return;
    };
    while choices.below(3) != 0 {
        let into = if choices.is_rare(3) {
            "items"
        } else {
            "properties"
        };
        if !schema.is_object() {
            return;
        }
        if into == "properties" {
            let properties = schema
                .as_object_mut()
                .unwrap()
                .entry("properties")
                .or_insert_with(|| json!({}));
            if !properties.is_object() {
                return;
            }
            let name = ["spec", "a", "status"][choices.below(3)];
            schema = properties
                .as_object_mut()
                .unwrap()
                .entry(name)
                .or_insert_with(|| json!({"type": "object"}));
        } else {
            schema = schema
                .as_object_mut()
                .unwrap()
                .entry("items")
                .or_insert_with(|| json!({"type": "object"}));
        }
    }
    let (keyword, value) = choices.pick(KEYWORDS);
    if let Value::Object(map) = schema {
        map.insert((*keyword).to_owned(), serde_json::from_str(value).unwrap());
    }
}

/// Breaks the bytes.
fn shatter(bytes: &mut Vec<u8>, choices: &mut Choices<'_>) {
    for _ in 0..=choices.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = choices.number() % bytes.len();
        match choices.below(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] = choices.number() as u8,
            2 => bytes[at] ^= 1 << choices.below(8),
            3 => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
            _ => bytes.insert(
                at,
                [0, 0xff, b'{', b'"', b'\n', 0x80, b'&', b'*'][choices.below(8)],
            ),
        }
    }
}

const BOMBS: &[fn() -> Vec<u8>] = &[
    Vec::new,
    || b"[".repeat(100_000),
    || b"{\"a\":".repeat(100_000),
    || b"- ".repeat(50_000),
    || {
        b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n".to_vec()
    },
    || b"a: 1\n---\nb: 2\n".to_vec(),
    || b"!!python/object:os.system x".to_vec(),
    || b"{\"kind\":\"Pod\",\"kind\":\"Pod\"}".to_vec(),
    || vec![b' '; 4 << 20],
    || b"\xef\xbb\xbf{}".to_vec(),
    || b"null".to_vec(),
    || {
        Value::Object(
            (0..20_000)
                .map(|index| (format!("k{index}"), json!(index)))
                .collect::<Map<_, _>>(),
        )
        .to_string()
        .into_bytes()
    },
    || b"k8s\0\x0a\x08\x0a\x02v1\x12\x02Po\x12\xff\xff\xff\xff\x0f".to_vec(),
    || b"k8s\0".to_vec(),
];
