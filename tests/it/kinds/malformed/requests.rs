//! A request that somebody might send: something sensible with some of its parts gone wrong.

use super::super::door::{APPLY, JSON_PATCH, MERGE, STRATEGIC, collection};
use super::super::world::{name_of, namespace, object};
use super::bodies;
use super::choices::Choices;
use serde_json::{Value, json};
use wasmorch::registry::ResourceInfo;

pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(2000)];
        write!(f, "{} {}\n{:?}\n", self.method, self.path, self.headers)?;
        write!(
            f,
            "{} bytes: {}",
            self.body.len(),
            String::from_utf8_lossy(shown)
        )
    }
}

const METHODS: &[&str] = &[
    "POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS", "BREW",
];
const PATCHES: &[&str] = &[MERGE, STRATEGIC, JSON_PATCH, APPLY];
const MEDIA: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "",
    "application/json; charset=utf-16",
    "application/cbor",
    "text/plain",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/json-patch+json",
    "application/merge-patch+json",
    "/",
    ";;;",
    "\u{e9}",
];
const ACCEPT: &[&str] = &[
    "application/json",
    "*/*",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf",
    "text/html",
    "application/json;as=;v=;g=",
    ",,,",
    "application/json;as=Table;v=v9;g=meta.k8s.io",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
];
const PARAMETERS: &[&str] = &[
    "fieldManager",
    "fieldValidation",
    "dryRun",
    "force",
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "allowWatchBookmarks",
    "timeoutSeconds",
    "propagationPolicy",
    "gracePeriodSeconds",
    "orphanDependents",
    "includeObject",
    "pretty",
    "watch",
    "container",
    "tailLines",
    "sinceTime",
    "sinceSeconds",
    "limitBytes",
    "command",
    "stdin",
    "tty",
    "ports",
    "path",
    "tag",
    "digest",
];
const VALUES: &[&str] = &[
    "",
    "1",
    "true",
    "All",
    "Strict",
    "Exact",
    "NotOlderThan",
    "Background",
    "Table",
    "0",
    "-1",
    "99999999999999999999",
    "x=y",
    "a in (b,c)",
    "a in (",
    "metadata.name=sample1",
    "spec.x=y",
    "!",
    "%00",
    "%ff",
    "%",
    "=",
    "&",
    "a=b=c",
    "..",
    "2026-01-01T00:00:00Z",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhL2JcdTAwMDAifQ",
    "%F0%9F%A6%80",
    "None",
    "Object",
    "1e9",
    "NaN",
    "sample1",
];
const SEGMENTS: &[&str] = &[
    "x",
    "",
    "..",
    ".",
    "%2e%2e",
    "%2f",
    "%00",
    "%ff",
    "%",
    "sample1",
    "namespaces",
    "watch",
    "status",
    "scale",
    "proxy",
    "log",
    "exec",
    "%F0%9F%A6%80",
    "a:b:c:d",
    "https:sample1:http",
    "-",
    "UPPER",
];
const PLACES: &[&str] = &[
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
    "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
    "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    "/apis/wasmorch.dev/v1/namespaces/default/uploads",
    "/apis/metrics.k8s.io/v1beta1/nodes",
    "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/sample1",
    "/api/v1/namespaces/default/bindings",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/apis/apps/v1",
    "/api",
    "/apis",
    "/apis/apps",
    "/version",
    "/healthz",
    "/metrics",
    "/ui/",
    "/",
    "//",
    "/api//v1/pods",
    "/cacerts",
];

impl Request {
    pub(super) fn of(choices: &mut Choices<'_>) -> Self {
        let usual = if choices.is_rare(10) {
            METHODS.len()
        } else {
            5
        };
        let method = METHODS[choices.below(usual)];
        let (path, kind) = place(method, choices);
        let mut path = if choices.is_rare(12) {
            broken(&path, choices)
        } else {
            path
        };
        let mut separator = '?';
        for _ in 0..choices.below(4) {
            let (name, value) = (choices.pick(PARAMETERS), choices.pick(VALUES));
            path = format!("{path}{separator}{name}={}", encoded(value));
            separator = '&';
        }
        if method == "PATCH" && !path.contains("fieldManager") {
            path = format!("{path}{separator}fieldManager=me");
        }
        let media = match method {
            "PATCH" if !choices.is_rare(12) => *choices.pick(PATCHES),
            _ if choices.is_rare(3) => *choices.pick(MEDIA),
            _ => MEDIA[choices.below(3)],
        };
        let body = bodies::of(&kind, media, choices);
        let mut headers = vec![("content-type", media.to_owned())];
        if choices.is_rare(4) {
            headers.push(("accept", (*choices.pick(ACCEPT)).to_owned()));
        }
        headers.extend(odd_headers(choices));
        Self {
            method,
            path,
            headers,
            body,
        }
    }
}

/// What can stand in a query; the rest is encoded already, or wrong on purpose.
fn encoded(value: &str) -> String {
    value.replace(' ', "%20")
}

fn odd_headers(choices: &mut Choices<'_>) -> Vec<(&'static str, String)> {
    const ODD: &[(&str, &str)] = &[
        ("upgrade", "websocket"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v9.channel.k8s.io"),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
        ("sec-websocket-version", "13"),
        ("content-encoding", "gzip"),
        ("user-agent", ""),
        ("user-agent", "////"),
        ("impersonate-user", "somebody"),
        ("impersonate-user", ""),
        ("impersonate-group", "system:masters"),
        ("impersonate-extra-%zz", "x"),
        ("if-none-match", "*"),
        ("accept-encoding", "gzip;q=2,,br"),
        ("range", "bytes=9-1"),
        ("expect", "100-continue"),
    ];
    let mut headers = Vec::new();
    while choices.is_rare(6) && headers.len() < 4 {
        let (name, value) = choices.pick(ODD);
        headers.push((*name, (*value).to_owned()));
        if *name == "upgrade" {
            headers.push(("connection", "Upgrade".to_owned()));
        }
    }
    headers
}

/// A path for the method, and the object that belongs there.
fn place(method: &str, choices: &mut Choices<'_>) -> (String, Value) {
    if choices.is_rare(5) {
        let path = *choices.pick(PLACES);
        return (path.to_owned(), bodies::review(path));
    }
    let rows = rows();
    let row = rows[choices.below(rows.len())];
    let sample = object(row, 1 + choices.below(2));
    let all = collection(row, namespace(row));
    if method == "POST" && !choices.is_rare(3) {
        return (all, sample);
    }
    if method == "GET" && choices.is_rare(3) {
        return (all, sample);
    }
    let one = format!("{all}/{}", name_of(&sample));
    if row.subresources.is_empty() || !choices.is_rare(3) {
        return (one, sample);
    }
    let below = row.subresources[choices.below(row.subresources.len())].name;
    let body = bodies::subresource(below).unwrap_or(sample);
    (format!("{one}/{below}"), body)
}

/// The rows of the table; custom ones are reached by their definitions.
fn rows() -> &'static [&'static ResourceInfo] {
    static ROWS: std::sync::OnceLock<Vec<&'static ResourceInfo>> = std::sync::OnceLock::new();
    ROWS.get_or_init(|| {
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let mut rows = super::World::new().await.rows();
                // Definitions come more often: they have the most to say.
                let definitions = rows
                    .iter()
                    .position(|row| row.kind == "CustomResourceDefinition");
                rows.extend(std::iter::repeat_n(rows[definitions.unwrap()], 4));
                rows
            })
        })
        .join()
        .unwrap()
    })
}

fn broken(path: &str, choices: &mut Choices<'_>) -> String {
    let mut segments: Vec<&str> = path.split('/').collect();
    for _ in 0..=choices.below(3) {
        let at = choices.below(segments.len()).max(1).min(segments.len() - 1);
        let segment = choices.pick(SEGMENTS);
        match choices.below(3) {
            0 => segments[at] = segment,
            1 => segments.insert(at, segment),
            _ if segments.len() > 2 => drop(segments.remove(at)),
            _ => {}
        }
    }
    let mut path = segments.join("/");
    if choices.is_rare(20) {
        path.push('/');
        path.push_str(&"a".repeat(5000));
    }
    path
}

#[test]
fn an_untroubled_request_is_a_sensible_one() {
    let request = Request::of(&mut Choices::new(&[]));
    assert_eq!(
        (request.method, request.path.as_str()),
        ("POST", "/api/v1/namespaces")
    );
    let sent: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(sent["metadata"]["name"], json!("sample1"));
}
