//! An API server without controllers on a throw-away store, with two custom kinds, and the objects
//! that the tests make of each row.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use serde_json::{Value, json};
use wasmorch::apiserver::auth::{ADMIN, Identities};
use wasmorch::apiserver::listen::Bound;
use wasmorch::apiserver::pki::Pki;
use wasmorch::apiserver::{Limits, Server};
use wasmorch::clock::Clock;
use wasmorch::modules::Blobs;
use wasmorch::registry::{Caller, Config, Registry, ResourceInfo, WriteOptions};
use wasmorch::store::{self, Store};
use wasmorch::tasks::TaskGroup;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The API, reachable by HTTP and by itself.
pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) caller: Caller,
    address: SocketAddr,
    token: String,
    http: Client<HttpConnector, Full<Bytes>>,
    tasks: TaskGroup,
    _directory: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// `null` when it is no JSON.
    pub(super) body: Value,
    pub(super) warnings: Vec<String>,
}

impl Answer {
    pub(super) fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    /// The object, of a success.
    pub(super) fn object(self) -> Value {
        assert!(self.code < 300, "{self:?}");
        self.body
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::remembering(10_000).await
    }

    /// One that keeps so many changes.
    pub(super) async fn remembering(history: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let store = store::Config {
            path: directory.path().join("wasmorch.db"),
            volatile: vec!["leases.coordination.k8s.io".to_owned()],
            history,
        };
        let store = Store::open(store, &tasks).await.unwrap();
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let registry = Registry::new(store, clock.clone(), Config::default());
        registry.bootstrap().await.unwrap();
        let bound = Bound::bind(
            "127.0.0.1:0".parse().unwrap(),
            Some("127.0.0.1:0".parse().unwrap()),
        );
        let bound = bound.await.unwrap();
        let address = bound.addresses().http.unwrap();
        let pki = Pki::open(&directory.path().join("pki"), &[], clock.now()).unwrap();
        let identities = Identities::open(directory.path()).unwrap();
        let token = identities.token_of(ADMIN).unwrap();
        let server = Server::new(
            registry.clone(),
            Blobs::open(&directory.path().join("blobs"), 1 << 20).unwrap(),
            identities,
            &pki,
            Limits::default(),
            tasks.clone(),
        );
        bound.serve(&server, pki.server_config().unwrap(), &tasks);
        let world = Self {
            registry,
            caller: Caller::system("test"),
            address,
            token,
            // A connection whose body was not read to its end is closed by the server; a request of
            // its own each, so that none finds the door shut by another.
            http: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build_http(),
            tasks,
            _directory: directory,
        };
        world.define().await;
        world
    }

    async fn define(&self) {
        let row = self.row("customresourcedefinitions");
        let options = WriteOptions::default();
        for definition in [
            definition("widgets", "Widget", true),
            definition("plants", "Plant", false),
        ] {
            let name = name_of(&definition).to_owned();
            let made = self
                .registry
                .create(row, None, definition, &options, &self.caller);
            made.await.unwrap();
            assert!(self.establish(&name).await);
        }
    }

    /// Says of a definition what the controller of definitions would; whether it is there.
    pub(super) async fn establish(&self, name: &str) -> bool {
        let row = self.row("customresourcedefinitions");
        let Ok(stored) = self.registry.get(row, None, name) else {
            return false;
        };
        let mut definition = stored.object.clone();
        let mut names = definition["spec"]["names"].clone();
        let kind = names["kind"].as_str().unwrap_or_default().to_owned();
        names["singular"] = kind.to_lowercase().into();
        names["listKind"] = format!("{kind}List").into();
        definition["status"] = json!({"acceptedNames": names, "storedVersions": ["v1"],
            "conditions": [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]});
        let (below, options) = (Some("status"), WriteOptions::default());
        let written =
            self.registry
                .update(row, None, name, below, definition, &options, &self.caller);
        written.await.is_ok()
    }

    /// Every row, those of the custom kinds last.
    pub(super) fn rows(&self) -> Vec<&'static ResourceInfo> {
        let rows = self.registry.resources();
        assert!(rows.iter().any(|row| row.plural == "widgets"));
        rows
    }

    /// Group, version and plural of every row.
    pub(super) fn names(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let rows = self.rows().into_iter();
        rows.map(|row| (row.group, row.version, row.plural))
            .collect()
    }

    pub(super) fn row(&self, plural: &str) -> &'static ResourceInfo {
        let rows = self.registry.resources();
        rows.into_iter().find(|row| row.plural == plural).unwrap()
    }

    pub(super) fn revision(&self) -> u64 {
        self.registry.store().revision().0
    }

    /// Sends a request; the caller reads the body. `None` where it is not one of HTTP.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<http::Response<Incoming>> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).ok()?)
            .uri(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body_length = body.len();
        let body = Full::new(Bytes::copy_from_slice(body));
        let request = request.body(body).ok()?;
        let is_too_large = body_length > 3 << 20;
        let sent = tokio::time::timeout(PATIENCE, self.http.request(request)).await;
        match sent.unwrap_or_else(|_| panic!("{method} {path} hangs")) {
            Ok(response) => Some(response),
            // Refused while it was still being sent.
            Err(_) if is_too_large => None,
            Err(error) => panic!("{method} {path}: {error:?}"),
        }
    }

    /// The same, with the whole answer.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let response = self.send(method, path, headers, body).await?;
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|warning| warning.to_str().unwrap().to_owned());
        let warnings = warnings.collect();
        let code = response.status().as_u16();
        let whole = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
        let bytes = whole.unwrap().unwrap().to_bytes();
        Some(Answer {
            code,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            warnings,
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn definition(plural: &str, kind: &str, namespaced: bool) -> Value {
    let scope = if namespaced { "Namespaced" } else { "Cluster" };
    let subresources = if namespaced {
        json!({"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}})
    } else {
        json!({})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.kinds.example.com")},
        "spec": {"group": "kinds.example.com", "scope": scope, "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": subresources,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
                    "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}}}}}}}]},
    })
}

/// Where objects of a row live in these tests.
pub(super) fn namespace(row: &ResourceInfo) -> Option<&'static str> {
    row.namespaced.then_some("default")
}

/// A valid object of the row, the `index`th.
pub(super) fn object(row: &ResourceInfo, index: usize) -> Value {
    let mut object = if row.group == "kinds.example.com" {
        json!({"apiVersion": row.api_version(), "kind": row.kind, "metadata": {"name": "sample"},
            "spec": {"replicas": 1}})
    } else {
        (row.sample)()
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    // Where the name of an object follows from what it says, both change.
    if let Some((plural, group)) = name.split_once('.') {
        let plural = format!("{plural}{index}");
        object["metadata"]["name"] = format!("{plural}.{group}").into();
        object["spec"]["names"]["plural"] = plural.into();
        object["spec"]["names"]["kind"] = format!("Sample{index}").into();
    } else {
        object["metadata"]["name"] = format!("{name}{index}").into();
    }
    object["metadata"]["labels"] = json!({"conformance": "yes"});
    object
}

pub(super) fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Whether the name of an object says what it is, so that none can be made up.
pub(super) fn is_named_by_content(row: &ResourceInfo) -> bool {
    row.kind == "CustomResourceDefinition"
}

/// A status that the kind can have.
pub(super) fn status(row: &ResourceInfo) -> Value {
    match row.kind {
        "CustomResourceDefinition" => json!({"storedVersions": ["v1"],
            "acceptedNames": {"plural": "others", "kind": "Other"}}),
        "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" => {
            json!({"replicas": 3, "observedGeneration": 1})
        }
        "DaemonSet" => json!({"currentNumberScheduled": 1, "desiredNumberScheduled": 1,
            "numberMisscheduled": 0, "numberReady": 1}),
        "Job" => json!({"active": 1}),
        "CronJob" => json!({"lastScheduleTime": "2026-01-01T00:00:00Z"}),
        "PodDisruptionBudget" => json!({"currentHealthy": 1, "desiredHealthy": 1,
            "disruptionsAllowed": 0, "expectedPods": 1}),
        "HorizontalPodAutoscaler" => json!({"currentReplicas": 1, "desiredReplicas": 1}),
        "Service" | "Ingress" => json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.9"}]}}),
        "ResourceQuota" => json!({"used": {"pods": "1"}}),
        _ => json!({"phase": "Running"}),
    }
}
