//! What `dev` asks of the cluster that it has started: is it up, are the nodes and the pods ready,
//! and the verbs of the command line on it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use tokio::sync::watch;

use super::chronicle::Pids;
use crate::api::{annotations, condition, pod};
use crate::cli::operator::Operator;

/// A client of the new cluster.
pub struct Client {
    operator: Operator,
}

impl Client {
    /// Waits until the API answers.
    pub async fn wait(
        kubeconfig: &Path,
        http: SocketAddr,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + patience;
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while !is_ready(http).await {
            pace.tick().await;
            if Instant::now() > deadline {
                bail!(
                    "http://{http}/readyz does not answer after {} s",
                    patience.as_secs()
                );
            }
        }
        Ok(Self {
            operator: Operator::open(kubeconfig).await?,
        })
    }

    /// Pushes a module under the tag `latest`.
    pub async fn push(&self, name: &str, wasm: Bytes) -> anyhow::Result<()> {
        self.operator
            .push(name, wasm)
            .await
            .with_context(|| format!("push {name}"))
    }

    /// Applies manifests.
    pub async fn apply(&self, origin: &str, text: &str) -> anyhow::Result<Vec<String>> {
        self.operator
            .apply(origin, text)
            .await
            .with_context(|| format!("apply {origin}"))
    }

    /// Applies a file of manifests.
    pub async fn apply_file(&self, path: &Path) -> anyhow::Result<Vec<String>> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        self.apply(&path.display().to_string(), &text).await
    }

    /// Waits until all these nodes are ready, by the word of the processes that run now: what an
    /// earlier run has said of a node does not count.
    pub async fn wait_for_nodes(
        &self,
        names: &[String],
        running: &watch::Receiver<Pids>,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let nodes: Api<Node> = Api::all(self.operator.client());
        let all = |nodes: &[std::sync::Arc<Node>]| {
            let running = running.borrow();
            names.iter().all(|name| {
                let mut nodes = nodes.iter();
                let node = nodes.find(|node| node.metadata.name.as_ref() == Some(name));
                node.is_some_and(|node| is_ready_now(node, running.get(name).copied()))
            })
        };
        until(nodes, patience, all)
            .await
            .context("the workers did not become ready; see the logs beside the data")?;
        Ok(())
    }

    /// Waits until there are pods in the namespace and every one of them is ready and has been
    /// started `since`; gives their number.
    pub async fn wait_for_pods(
        &self,
        namespace: &str,
        at_least: usize,
        since: Timestamp,
        patience: Duration,
    ) -> anyhow::Result<usize> {
        let pods: Api<Pod> = Api::namespaced(self.operator.client(), namespace);
        let is_done = |pod: &Pod| {
            pod::phase(pod).is_terminal() || (pod::is_ready(pod) && has_started(pod, since))
        };
        let all = |pods: &[std::sync::Arc<Pod>]| {
            pods.len() >= at_least && pods.iter().all(|pod| is_done(pod))
        };
        until(pods, patience, all)
            .await
            .context("not every pod became ready: wasmorch get pods")
    }
}

fn is_ready_now(node: &Node, pid: Option<u32>) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    let said = annotations.and_then(|it| it.get(annotations::WORKER_PID));
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    pid.is_some_and(|pid| said.is_some_and(|said| *said == pid.to_string()))
        && conditions.is_some_and(|conditions| condition::is_true(conditions, "Ready"))
}

/// Times in the API are whole seconds.
fn has_started(pod: &Pod, since: Timestamp) -> bool {
    let status = pod.status.as_ref();
    let mut containers = status
        .iter()
        .flat_map(|it| it.container_statuses.iter().flatten());
    containers.all(|container| {
        let running = container.state.as_ref().and_then(|it| it.running.as_ref());
        let started = running.and_then(|it| it.started_at.as_ref());
        started.is_some_and(|started| started.0.as_second() >= since.as_second())
    })
}

/// Watches until what is there satisfies `enough`; gives how many there are.
async fn until<K>(
    api: Api<K>,
    patience: Duration,
    enough: impl Fn(&[std::sync::Arc<K>]) -> bool,
) -> anyhow::Result<usize>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let stream = reflector(writer, watcher(api, watcher::Config::default())).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let watch = async {
        loop {
            let objects = store.state();
            if enough(&objects) {
                return Ok(objects.len());
            }
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::debug!(%error, "watch; it goes on"),
                None => bail!("the watch ended"),
            }
        }
    };
    tokio::time::timeout(patience, watch)
        .await
        .with_context(|| format!("waited {} s", patience.as_secs()))?
}

/// One `GET /readyz`, by hand: before the API answers there is no client to ask with.
async fn is_ready(address: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(
        tokio::time::timeout(Duration::from_secs(1), ask).await,
        Ok(Ok(true))
    )
}
