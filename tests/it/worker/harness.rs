//! A control plane and workers on free ports, in a directory of their own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use wasmorch::app::config::ServerArgs;
use wasmorch::app::server::ControlPlane;
use wasmorch::client::{self, Login};
use wasmorch::clock::Clock;
use wasmorch::router::dial::Dialer;
use wasmorch::router::tunnel::Source;
use wasmorch::tasks::TaskGroup;
use wasmorch::worker::node::LeaseTiming;
use wasmorch::worker::{Config, Worker, images, logs};

/// How long anything may take before the test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct World {
    pub(super) client: kube::Client,
    pub(super) directory: tempfile::TempDir,
    http: String,
    https: SocketAddr,
    token: String,
    join_token: String,
    plane: TaskGroup,
}

/// A running worker; it ends with this value.
pub(super) struct Running {
    tasks: TaskGroup,
    ended: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(super) async fn stop(mut self) {
        self.tasks.cancel();
        tokio::time::timeout(PATIENCE, &mut self.ended)
            .await
            .unwrap()
            .unwrap();
    }
}

impl World {
    /// A control plane, and nothing else.
    pub(super) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
        let directory = tempfile::tempdir().unwrap();
        let args = ServerArgs::in_directory(directory.path().join("server"));
        let plane = TaskGroup::new();
        let built = ControlPlane::build(args, Clock::system(), &plane)
            .await
            .unwrap();
        let addresses = built.addresses();
        let (token, join_token) = (built.admin_token(), built.join_token());
        plane.spawn("control plane", async move {
            built.run().await.unwrap();
        });
        let kubeconfig = directory.path().join("server/admin.kubeconfig");
        let client = client::connect(&Login::Kubeconfig(kubeconfig))
            .await
            .unwrap();
        Self {
            client,
            http: format!("http://{}", addresses.http.unwrap()),
            https: addresses.https,
            directory,
            token,
            join_token,
            plane,
        }
    }

    /// A worker that joins with the token, ready.
    pub(super) async fn worker(&self, node: &str) -> Running {
        self.worker_with(self.config(node)).await
    }

    /// The same with another configuration than the usual one.
    pub(super) async fn worker_with(&self, config: Config) -> Running {
        let name = config.node.clone();
        let node = name.as_str();
        let login = Login::Join {
            server: format!("https://{}", self.https),
            token: self.join_token.clone(),
            node: Some(node.to_owned()),
        };
        let client = client::connect(&login).await.unwrap();
        let tasks = TaskGroup::new();
        let worker = Worker::new(config, client, Clock::system(), tasks.clone())
            .await
            .unwrap();
        let ended = tasks.spawn("worker", async move { worker.run().await.unwrap() });
        let nodes: Api<Node> = Api::all(self.client.clone());
        let is_ready = |node: Option<&Node>| {
            let status = node.and_then(|node| node.status.as_ref());
            let conditions = status.and_then(|it| it.conditions.as_ref());
            let has_network = node
                .and_then(|node| node.spec.as_ref())
                .is_some_and(|spec| spec.pod_cidr.is_some());
            has_network
                && conditions
                    .into_iter()
                    .flatten()
                    .any(|it| it.type_ == "Ready" && it.status == "True")
        };
        within(await_condition(nodes, node, is_ready))
            .await
            .unwrap();
        Running { tasks, ended }
    }

    pub(super) fn config(&self, node: &str) -> Config {
        Config {
            node: node.to_owned(),
            labels: Default::default(),
            data_dir: self.directory.path().join(node),
            compiled_dir: self.directory.path().join(node).join("compiled"),
            address: [127, 0, 0, 1].into(),
            wire_port: 0,
            api_port: 0,
            wire_threads: 2,
            cpu_millis: 2000,
            memory_bytes: 4 << 30,
            max_pods: 4000,
            max_instances: 4000,
            lease: LeaseTiming {
                renew: Duration::from_millis(500),
                duration: Duration::from_secs(40),
            },
            drain_delay: Duration::from_millis(50),
            volume_refresh: Duration::from_millis(200),
            log_limits: logs::Limits::default(),
            // The machine of a test may be as full as it is.
            thresholds: "".parse().unwrap(),
            image_gc: images::Policy {
                high: 100,
                low: 100,
                minimum_age: Duration::ZERO,
            },
            allowed_host_paths: Vec::<PathBuf>::new(),
            extra_authorities: Vec::new(),
            api_server: None,
        }
    }

    pub(super) async fn push(&self, name: &str, wasm: Vec<u8>) {
        let url = format!(
            "{}/apis/wasmorch.dev/v1/namespaces/default/modules/{name}/content?tag=latest",
            self.http
        );
        let request = reqwest::Client::new().put(url).bearer_auth(&self.token);
        let response = request.body(wasm).send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{}", response.text().await.unwrap());
    }

    /// The same with the files of its image, as a form.
    pub(super) async fn push_with_files(
        &self,
        name: &str,
        wasm: Vec<u8>,
        files: Vec<u8>,
    ) -> (u16, String) {
        let url = format!(
            "{}/apis/wasmorch.dev/v1/namespaces/default/modules/{name}/content?tag=latest",
            self.http
        );
        // The order that needs the archive to wait.
        let form = reqwest::multipart::Form::new()
            .part("files", reqwest::multipart::Part::bytes(files))
            .part("module", reqwest::multipart::Part::bytes(wasm));
        let request = reqwest::Client::new().put(url).bearer_auth(&self.token);
        let response = request.multipart(form).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// A module that answers HTTP.
    /// A control plane, a worker, and the pod `p` that serves on port 8080.
    pub(super) async fn with_hello() -> (Self, Running) {
        let world = Self::start().await;
        let worker = world.worker("w").await;
        world.push_hello().await;
        let mut container = container("hello");
        container["ports"] = json!([{"containerPort": 8080}]);
        let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [container]});
        world.create("p", spec).await;
        world.until("p", is_ready).await;
        (world, worker)
    }

    pub(super) async fn push_hello(&self) {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/guest-examples/prebuilt/hello-http.wasm"
        );
        self.push("hello", std::fs::read(path).unwrap()).await;
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(super) async fn create(&self, name: &str, spec: Value) -> Pod {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        let pod = serde_json::from_value(pod).unwrap();
        self.pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap()
    }

    /// Waits for a state of a pod, and tells the last one if it does not come.
    pub(super) async fn until(&self, name: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let condition = |pod: Option<&Pod>| pod.is_some_and(&wanted);
        let waiting = Box::pin(await_condition(self.pods(), name, condition));
        let came = tokio::time::timeout(PATIENCE, waiting).await;
        if came.is_err() {
            let pod = self.pods().get_opt(name).await.unwrap();
            let status = pod.map(|pod| serde_json::to_string_pretty(&pod.status).unwrap());
            assert!(came.is_ok(), "{name} did not become as wanted: {status:?}");
        }
        came.unwrap().unwrap().unwrap()
    }

    pub(super) async fn until_gone(&self, name: &str) {
        let gone = |pod: Option<&Pod>| pod.is_none();
        let waiting = Box::pin(await_condition(self.pods(), name, gone));
        within(waiting).await.unwrap();
    }

    pub(super) async fn delete(&self, name: &str) {
        let params = DeleteParams::default().grace_period(2);
        self.pods().delete(name, &params).await.unwrap();
    }

    /// One request to a pod, through its worker's wire.
    pub(super) async fn get(&self, pod: &Pod, port: u16, path: &str) -> (u16, String) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = pod.spec.as_ref().unwrap().node_name.as_ref().unwrap();
        let node = nodes.get(node).await.unwrap();
        let wire = &node.metadata.annotations.unwrap()["wasmorch.dev/wire-address"];
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "kube-system");
        let secret = secrets.get("wasmorch-wire").await.unwrap();
        let dialer = Dialer::new(None);
        dialer.set_secret(secret.data.unwrap()["secret"].0.clone());
        let ip = pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap();
        let target = SocketAddr::new(ip.parse().unwrap(), port);
        let source = Source::Peer(SocketAddr::from(([127, 0, 0, 1], 0)));
        let stream = within(dialer.open(wire, source, target)).await.unwrap();
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.unwrap();
        let request = hyper::Request::get(path)
            .header("host", "pod")
            .body(Full::<bytes::Bytes>::default())
            .unwrap();
        let asking = async {
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        tokio::select! {
            answer = asking => answer,
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.plane.cancel();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// A WASI 0.1 program that prints `hello` and exits with `code`.
pub(super) fn prints_and_exits(code: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const {code}))))"#
    );
    wat::parse_str(text).unwrap()
}

/// A container of a module.
pub(super) fn container(image: &str) -> Value {
    json!({"name": "main", "image": image})
}

pub(super) fn phase(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.clone())
        .unwrap_or_default()
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    wasmorch::api::pod::is_ready(pod)
}

pub(super) fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|it| it.restart_count)
        .sum()
}

/// The waiting reason of the first container.
pub(super) fn waiting(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.container_statuses.as_ref());
    let state = statuses.and_then(|it| it.first()?.state.clone());
    let waiting = state.and_then(|state| state.waiting?.reason);
    waiting.unwrap_or_default()
}
