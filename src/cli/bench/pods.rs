//! How fast pods start: one, from the API's create to the first answer through the router; many, from
//! a scale to all replicas ready.

use std::time::{Duration, Instant};

use anstream::println;
use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use serde_json::{Value, json};

use super::load::connect;
use super::{Cluster, Target, stats};
use crate::app::dev::demo;
use crate::tasks::TaskGroup;

/// A single pod that takes longer than this has failed to start.
const ONE_POD: Duration = Duration::from_secs(30);
/// The same for a whole Deployment.
const ALL_PODS: Duration = Duration::from_mins(5);

#[derive(Debug, Clone, clap::Args)]
pub(super) struct StartArgs {
    #[command(flatten)]
    target: Target,
    /// Pods to start, one after the other.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    count: u64,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ScaleArgs {
    #[command(flatten)]
    target: Target,
    /// Replicas to scale to, one step after the other, from zero each time.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000])]
    replicas: Vec<u64>,
}

/// One connection to one of the cluster's addresses.
struct Rest {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    bearer: Option<String>,
}

impl Rest {
    async fn api(cluster: &Cluster, tasks: &TaskGroup) -> anyhow::Result<Self> {
        Ok(Self {
            sender: connect(cluster.api, tasks).await?,
            host: cluster.api.to_string(),
            bearer: Some(format!("Bearer {}", cluster.token)),
        })
    }

    async fn front(cluster: &Cluster, host: &str, tasks: &TaskGroup) -> anyhow::Result<Self> {
        Ok(Self {
            sender: connect(cluster.ingress, tasks).await?,
            host: host.to_owned(),
            bearer: None,
        })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, kind);
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        self.sender.ready().await?;
        let response = self
            .sender
            .send_request(request.body(Full::new(body))?)
            .await?;
        Ok((
            response.status(),
            response.into_body().collect().await?.to_bytes(),
        ))
    }

    async fn json(&mut self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let kind = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            serde_json::to_vec(body)?.into()
        };
        let (status, answer) = self.send(method.clone(), path, kind, bytes).await?;
        anyhow::ensure!(
            status.is_success(),
            "{method} {path}: {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        serde_json::from_slice(&answer)
            .with_context(|| format!("read the answer of {method} {path}"))
    }

    async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::GET, path, &Value::Null).await
    }

    /// Deletes what a run that was cut off may have left.
    async fn forget(&mut self, path: &str) -> anyhow::Result<()> {
        let options = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        let (status, answer) = self
            .send(
                Method::DELETE,
                path,
                "application/json",
                serde_json::to_vec(&options)?.into(),
            )
            .await?;
        anyhow::ensure!(
            status.is_success() || status == StatusCode::NOT_FOUND,
            "DELETE {path}: {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }

    async fn push_hello(&mut self) -> anyhow::Result<()> {
        let wasm = demo::guest("hello-http").context("this build holds no guests")?;
        let path = "/apis/wasmorch.dev/v1/namespaces/default/modules/bench-hello/content";
        let (status, answer) = self
            .send(Method::PUT, path, "application/wasm", wasm)
            .await?;
        anyhow::ensure!(
            status.is_success(),
            "PUT {path}: {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }
}

fn pod_spec() -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{
            "name": "hello", "image": "bench-hello", "ports": [{"containerPort": 8080}],
            "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
        }],
    })
}

pub(super) async fn start(args: StartArgs) -> anyhow::Result<()> {
    let cluster = args.target.open()?;
    let tasks = TaskGroup::new();
    let mut api = Rest::api(&cluster, &tasks).await?;
    let mut front = Rest::front(&cluster, "bench-start.default.localhost", &tasks).await?;
    api.push_hello().await?;
    api.forget("/api/v1/namespaces/default/services/bench-start")
        .await?;
    api.forget("/api/v1/namespaces/default/pods/bench-start")
        .await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench-start"},
        "spec": {"selector": {"bench": "start"}, "ports": [{"port": 80, "targetPort": 8080, "name": "http"}]},
    });
    api.json(
        Method::POST,
        "/api/v1/namespaces/default/services",
        &service,
    )
    .await?;
    let mut latencies = Vec::new();
    for number in 0..args.count {
        let took = one_start(&mut api, &mut front).await?;
        // The first start compiles; the measurement is of a warm module cache.
        if number > 0 {
            latencies.push(took);
        }
    }
    api.forget("/api/v1/namespaces/default/services/bench-start")
        .await?;
    let count = latencies.len();
    let [p50, p90, p99] = [0.5, 0.9, 0.99]
        .map(|fraction| stats::percentile(&mut latencies, fraction).as_secs_f64() * 1e3);
    println!(
        "API create → first 200 through the router, {count} pods one at a time, module cached"
    );
    println!("  p50 {p50:.2} ms   p90 {p90:.2} ms   p99 {p99:.2} ms");
    Ok(())
}

async fn one_start(api: &mut Rest, front: &mut Rest) -> anyhow::Result<Duration> {
    until(front, StatusCode::SERVICE_UNAVAILABLE).await?;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bench-start", "labels": {"bench": "start"}}, "spec": pod_spec()});
    let since = Instant::now();
    api.json(Method::POST, "/api/v1/namespaces/default/pods", &pod)
        .await?;
    until(front, StatusCode::OK).await?;
    let took = since.elapsed();
    api.forget("/api/v1/namespaces/default/pods/bench-start")
        .await?;
    until_gone(api, "/api/v1/namespaces/default/pods/bench-start").await?;
    Ok(took)
}

/// Asks again and again, half a millisecond apart.
async fn until(front: &mut Rest, wanted: StatusCode) -> anyhow::Result<()> {
    let deadline = Instant::now() + ONE_POD;
    loop {
        let (status, _) = front
            .send(Method::GET, "/", "text/plain", Bytes::new())
            .await?;
        if status == wanted {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "the router still answers {status}, not {wanted}, after {} s",
            ONE_POD.as_secs()
        );
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

async fn until_gone(api: &mut Rest, path: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + ONE_POD;
    while api
        .send(Method::GET, path, "application/json", Bytes::new())
        .await?
        .0
        != StatusCode::NOT_FOUND
    {
        anyhow::ensure!(
            Instant::now() < deadline,
            "{path} is still there after {} s",
            ONE_POD.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

pub(super) async fn scale(args: ScaleArgs) -> anyhow::Result<()> {
    let cluster = args.target.open()?;
    let tasks = TaskGroup::new();
    let mut api = Rest::api(&cluster, &tasks).await?;
    api.push_hello().await?;
    let path = "/apis/apps/v1/namespaces/default/deployments/bench-scale";
    api.forget(path).await?;
    until_gone(&mut api, path).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bench-scale"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"bench": "scale"}},
            "template": {"metadata": {"labels": {"bench": "scale"}}, "spec": pod_spec()},
        },
    });
    api.json(
        Method::POST,
        "/apis/apps/v1/namespaces/default/deployments",
        &deployment,
    )
    .await?;
    for replicas in args.replicas {
        let took = scale_to(&mut api, path, replicas).await?;
        println!(
            "0 → {replicas} ready in {:.2} s: {:.0} pods/s, every create and bind durable",
            took.as_secs_f64(),
            replicas as f64 / took.as_secs_f64()
        );
        scale_to(&mut api, path, 0).await?;
    }
    api.forget(path).await
}

async fn scale_to(api: &mut Rest, path: &str, replicas: u64) -> anyhow::Result<Duration> {
    let since = Instant::now();
    api.json(
        Method::PATCH,
        path,
        &json!({"spec": {"replicas": replicas}}),
    )
    .await?;
    loop {
        let deployment = api.get(path).await?;
        let seen = |field: &str| deployment["status"][field].as_u64().unwrap_or(0);
        if seen("readyReplicas") == replicas
            && seen("replicas") == replicas
            && deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
        {
            return Ok(since.elapsed());
        }
        anyhow::ensure!(
            since.elapsed() < ALL_PODS,
            "{} of {replicas} ready after {} s",
            seen("readyReplicas"),
            ALL_PODS.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
