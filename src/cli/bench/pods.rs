//! How fast pods start: one, from the API's create to the first answer through the router; many, from
//! a scale to all replicas ready.

use std::time::{Duration, Instant};

use anstream::println;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rest::Rest;
use super::{Target, stats};
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

pub(super) fn pod_spec() -> Value {
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

pub(super) async fn until_gone(api: &mut Rest, path: &str) -> anyhow::Result<()> {
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
    until_ready(api, path, replicas).await?;
    Ok(since.elapsed())
}

/// Waits until exactly so many replicas of a Deployment are there and ready.
pub(super) async fn until_ready(api: &mut Rest, path: &str, replicas: u64) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        let deployment = api.get(path).await?;
        let seen = |field: &str| deployment["status"][field].as_u64().unwrap_or(0);
        if seen("readyReplicas") == replicas
            && seen("replicas") == replicas
            && deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
        {
            return Ok(());
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
