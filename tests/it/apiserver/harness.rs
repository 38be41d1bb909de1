//! A control plane in this process, on free ports, in a directory of its own.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use wasmorch::apiserver::Addresses;
use wasmorch::app::config::ServerArgs;
use wasmorch::app::server::ControlPlane;
use wasmorch::clock::Clock;
use wasmorch::tasks::TaskGroup;

pub(super) const WAIT: Duration = Duration::from_secs(20);

pub(super) struct Cluster {
    pub(super) addresses: Addresses,
    pub(super) token: String,
    pub(super) join_token: String,
    directory: tempfile::TempDir,
    http: reqwest::Client,
    tasks: TaskGroup,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut ServerArgs)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut args = ServerArgs::in_directory(directory.path().join("server"));
        change(&mut args);
        let tasks = TaskGroup::new();
        let plane = ControlPlane::build(args, Clock::system(), &tasks)
            .await
            .unwrap();
        let cluster = Self {
            addresses: plane.addresses(),
            token: plane.admin_token(),
            join_token: plane.join_token(),
            directory,
            http: reqwest::Client::new(),
            tasks: tasks.clone(),
        };
        tasks.spawn("control plane", async move {
            plane.run().await.unwrap();
        });
        cluster
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.path().join("server")
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.http.unwrap())
    }

    /// A request without a token.
    pub(super) fn anonymous(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.http.request(method, self.url(path)).timeout(WAIT)
    }

    pub(super) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(method, path).json(body)).await
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request("GET", path)).await
    }

    pub(super) async fn create_config_map(&self, name: &str, data: &Value) -> Value {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        let (code, object) = self
            .send("POST", "/api/v1/namespaces/default/configmaps", &object)
            .await;
        assert_eq!(code, 201, "{object}");
        object
    }

    pub(super) async fn stop(self) {
        assert!(self.tasks.shutdown(WAIT).await);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

pub(super) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let code = response.status().as_u16();
    (code, body(response).await)
}

pub(super) async fn body(response: Response) -> Value {
    let bytes = response.bytes().await.unwrap();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
}
