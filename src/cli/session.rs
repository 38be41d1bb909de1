//! A connection to the server: requests by path, answers as JSON values.
//!
//! The command line knows no kinds, so it has no use for typed objects: a path, a verb and a value
//! are all there is. Failures become [`Failure`] here, where it is known whom was spoken to.

use std::sync::OnceLock;

use futures::AsyncBufRead;
use http::{Method, Request};
use kube::Client;
use kube::core::Status;
use serde_json::Value;

use super::config::{self, Place};
use super::failure::{Exit, Failure, Result};
use super::global::Global;
use crate::errors;

/// What a server of ours says in its version.
const MARKER: &str = "wasmorch";

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
/// The server's tables, or plain objects from a server that has none.
pub(super) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

pub(super) struct Session {
    pub(super) client: Client,
    pub(super) global: Global,
    pub(super) place: Place,
    server: String,
    namespace: String,
    is_ours: OnceLock<()>,
}

impl Session {
    /// Finds the server's address; says nothing to it yet.
    pub(super) async fn open(global: &Global) -> Result<Self> {
        let (place, kubeconfig) = config::find(global)?;
        let config = config::client_config(&place, kubeconfig).await?;
        let server = config.cluster_url.to_string();
        let namespace = global
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| {
            Failure::usage(format!("cannot use {}", place.describe())).because(error.to_string())
        })?;
        Ok(Self {
            client,
            global: global.clone(),
            place,
            server: server.trim_end_matches('/').to_owned(),
            namespace,
            is_ours: OnceLock::new(),
        })
    }

    /// The namespace that is meant where none is named.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The same, or `None` for all of them.
    pub(super) fn scope(&self) -> Option<&str> {
        (!self.global.all_namespaces).then_some(&*self.namespace)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.request(Method::GET, path, JSON, JSON, Vec::new())
            .await
    }

    /// `None` if the object does not exist.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn get_table(&self, path: &str) -> Result<Value> {
        self.request(Method::GET, path, TABLE, JSON, Vec::new())
            .await
    }

    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.change(Method::POST, path, JSON, object.to_string().into_bytes())
            .await
    }

    pub(super) async fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.change(
            Method::PATCH,
            path,
            MERGE_PATCH,
            patch.to_string().into_bytes(),
        )
        .await
    }

    /// Server-side apply.
    pub(super) async fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        let body = object.to_string().into_bytes();
        self.change(Method::PATCH, path, APPLY_PATCH, body).await
    }

    pub(super) async fn json_patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.change(
            Method::PATCH,
            path,
            JSON_PATCH,
            patch.to_string().into_bytes(),
        )
        .await
    }

    pub(super) async fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.change(Method::DELETE, path, JSON, options.to_string().into_bytes())
            .await
    }

    /// A request that changes something: only to a server that is ours.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<Value> {
        self.insist_on_ours().await?;
        self.request(method, path, JSON, content, body).await
    }

    /// An answer without an end: a watch, a log.
    pub(super) async fn stream(
        &self,
        path: &str,
        accept: &str,
    ) -> Result<impl AsyncBufRead + Unpin + use<>> {
        let request = request(Method::GET, path, accept, JSON, Vec::new())?;
        let stream = self.client.request_stream(request).await;
        stream.map(Box::pin).map_err(|error| self.explain(error))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<Value> {
        let request = request(method, path, accept, content, body)?;
        self.client
            .request(request)
            .await
            .map_err(|error| self.explain(error))
    }

    /// Refuses to change anything on a server that is not wasmorch: with one wrong context it
    /// would be somebody's production cluster.
    pub(super) async fn insist_on_ours(&self) -> Result {
        if self.global.any_server || self.is_ours.get().is_some() {
            return Ok(());
        }
        let version = self.get("/version").await?;
        let version = version["gitVersion"]
            .as_str()
            .unwrap_or("of unknown version");
        if version.contains(MARKER) {
            let _ = self.is_ours.set(());
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{} is Kubernetes {version}, not wasmorch",
            self.server
        ))
        .because(self.place.describe())
        .help("use another --context; or --any-server if you mean it"))
    }

    /// What went wrong between us and the server.
    pub(super) fn explain(&self, error: kube::Error) -> Failure {
        match error {
            kube::Error::Api(status) => Failure::from_status(&status),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                let failure = Failure::new(
                    Exit::Unreachable,
                    "W0202",
                    format!("cannot reach {} ({})", self.server, root(&error)),
                );
                failure
                    .because(self.place.describe())
                    .help("start one here: wasmorch dev      another server: --context NAME")
            }
            kube::Error::Auth(_) => {
                Failure::new(Exit::Denied, "W0204", "cannot authenticate").because(root(&error))
            }
            other => Failure::failed(
                "W0205",
                format!("no answer to understand from {}", self.server),
            )
            .because(errors::chain(&other).to_string()),
        }
    }
}

/// The refusal in a watch's event.
pub(super) fn event_failure(status: Value) -> Failure {
    match serde_json::from_value::<Status>(status) {
        Ok(status) => Failure::from_status(&status),
        Err(_) => Failure::failed("Watch", "the server ended the watch without a reason"),
    }
}

fn request(
    method: Method,
    path: &str,
    accept: &str,
    content: &str,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::ACCEPT, accept)
        .header(http::header::CONTENT_TYPE, content)
        .body(body)
        .map_err(|error| Failure::usage(format!("`{path}` is no path: {error}")))
}

/// The innermost cause: the others only say that something failed.
fn root(error: &kube::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let text = error.to_string();
    // `Connection refused (os error 111)` has its number for nobody.
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// A path's query from its pairs.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    match query.finish() {
        query if query.is_empty() => query,
        query => format!("?{query}"),
    }
}
