//! Whether an operation costs more when there is more of everything: creates, bindings, status writes and
//! a list's first page with 10 to 10,000 pods; a change of one service's endpoints in a routing table of
//! as many services.
//!
//! The pods name a scheduler that is not there and are bound to a node that nobody is, so nothing but
//! the API server and those who watch pods has to do with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anstream::println;
use http::Method;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::{Args, Bench, reads};
use crate::cli::bench::raw::{Target, Until};
use crate::cli::bench::{Cluster, stats};
use crate::router::table::{Index, Key};

/// The pods of these measurements, and no others.
pub(super) const PODS: &str = "/api/v1/namespaces/default/pods?labelSelector=bench%3Dpods";
const PATH: &str = "/api/v1/namespaces/default/pods";
const OPERATION: &str = "/api/v1/namespaces/default/pods/bench-operation";
const NODES: &str = "/api/v1/nodes";
const NODE: &str = "bench-node";
const IN_FLIGHT: u64 = 64;
const SIZES: [u64; 4] = [10, 100, 1_000, 10_000];
const OPERATIONS: u32 = 300;

/// Makes pods until there are `wanted`.
pub(super) async fn fill(cluster: &Cluster, there: &mut u64, wanted: u64) -> anyhow::Result<()> {
    let more = wanted.saturating_sub(*there);
    if more == 0 {
        return Ok(());
    }
    let (authority, token) = (cluster.api.to_string(), cluster.token.clone());
    let run = crate::ids::name_suffix();
    let write = move |number: u64, bytes: &mut Vec<u8>| {
        let body = pod(&format!("bench-{run}-{number:x}")).to_string();
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        bytes.extend_from_slice(request.as_bytes());
    };
    let creates = Target {
        request: Arc::new(write),
        ..Target::get(cluster.api, "", "")
    };
    let sample = creates
        .load(IN_FLIGHT.min(more), Until::Requests(more))
        .await?;
    anyhow::ensure!(
        sample.failed == 0,
        "{} pods could not be created",
        sample.failed
    );
    *there = wanted;
    Ok(())
}

fn pod(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"bench": "pods", "app": "web"}},
        "spec": {
            "schedulerName": "bench",
            "containers": [{"name": "main", "image": "bench:v1", "ports": [{"containerPort": 8080}]}],
        },
    })
}

pub(super) async fn run(bench: &mut Bench, _args: &Args) -> anyhow::Result<()> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    bench.api.forget(&format!("{NODES}/{NODE}")).await?;
    bench.api.json(Method::POST, NODES, &node).await?;
    let mut there = 0;
    let mut costs: [Vec<f64>; 5] = Default::default();
    for size in SIZES {
        fill(&bench.cluster, &mut there, size).await?;
        let [create, bind, status, page] = operations(bench).await?;
        let all = [create, bind, status, page, route(size)?];
        for (costs, cost) in costs.iter_mut().zip(all) {
            costs.push(cost.as_secs_f64() * 1e3);
        }
    }
    println!("medians of {OPERATIONS} operations, one at a time, with {SIZES:?} pods or services");
    let names = ["create", "bind", "status", "page of 500", "route"];
    for (name, costs) in names.iter().zip(&costs) {
        let shown: Vec<String> = costs.iter().map(|cost| format!("{cost:.4}")).collect();
        println!(
            "  {name:<14} {} ms   last to first {:.2}×   cost ~ n^{:.3}",
            shown.join(", "),
            costs[costs.len() - 1] / costs[0],
            exponent(costs)
        );
    }
    bench.api.forget(&format!("{NODES}/{NODE}")).await?;
    reads::forget_pods(bench).await
}

/// The medians of a create, a binding, a status write and a page.
async fn operations(bench: &mut Bench) -> anyhow::Result<[Duration; 4]> {
    let status = json!({"status": {"phase": "Running"}});
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bench-operation"},
        "target": {"kind": "Node", "name": NODE},
    });
    let requests = [
        (Method::POST, PATH.to_owned(), pod("bench-operation")),
        (Method::POST, format!("{OPERATION}/binding"), binding),
        (Method::PATCH, format!("{OPERATION}/status"), status),
    ];
    let mut costs: [Vec<Duration>; 4] = Default::default();
    for _ in 0..OPERATIONS {
        for ((method, path, body), costs) in requests.iter().zip(&mut costs) {
            let since = Instant::now();
            bench.api.json(method.clone(), path, body).await?;
            costs.push(since.elapsed());
        }
        let since = Instant::now();
        let path = format!("{PATH}?limit=500");
        let nothing = bytes::Bytes::new();
        bench
            .api
            .send(Method::GET, &path, "application/json", nothing)
            .await?;
        costs[3].push(since.elapsed());
        bench.api.forget(OPERATION).await?;
    }
    Ok(costs.map(|mut costs| stats::percentile(&mut costs, 0.5)))
}

/// The median of a change of one service's ten endpoints, with the snapshot that routing goes by, among
/// so many services.
fn route(services: u64) -> anyhow::Result<Duration> {
    let mut index = Index::default();
    for number in 0..services {
        let name = format!("service-{number}");
        let [high, low] = u16::try_from(number)?.to_be_bytes();
        let service: Service = serde_json::from_value(json!({
            "spec": {"clusterIP": format!("10.43.{high}.{low}"), "ports": [{"port": 80}]},
        }))?;
        index.set_service(&Key::new("default", &name), Some(&service));
        index.set_endpoint_slice(&Key::new("default", &name), Some(&endpoints(&name, 0)?));
    }
    let (key, mut kept) = (Key::new("default", "service-0"), index.table());
    let mut costs = Vec::new();
    for round in 0..OPERATIONS {
        let slice = endpoints("service-0", 1 + round % 2)?;
        let since = Instant::now();
        index.set_endpoint_slice(&key, Some(&slice));
        kept = std::hint::black_box(index.table());
        costs.push(since.elapsed());
    }
    drop(kept);
    Ok(stats::percentile(&mut costs, 0.5))
}

fn endpoints(service: &str, round: u32) -> anyhow::Result<EndpointSlice> {
    let endpoint = |low| json!({"addresses": [format!("10.64.{round}.{low}")]});
    let all: Vec<_> = (1..=10).map(endpoint).collect();
    Ok(serde_json::from_value(json!({
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": all, "ports": [{"name": "", "port": 8080}],
    }))?)
}

/// The b of cost = a·nᵇ, by least squares over the logarithms.
fn exponent(costs: &[f64]) -> f64 {
    let points = SIZES.iter().zip(costs);
    let points: Vec<(f64, f64)> = points
        .map(|(size, cost)| ((*size as f64).ln(), cost.ln()))
        .collect();
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| {
        (x + point.0 / count, y + point.1 / count)
    });
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), point| {
        let distance = point.0 - x;
        (over + distance * (point.1 - y), under + distance * distance)
    });
    over / under
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_by_its_exponent() {
        assert!(exponent(&[2.0; 4]).abs() < 1e-9);
        assert!((exponent(&[1.0, 10.0, 100.0, 1000.0]) - 1.0).abs() < 1e-9);
    }
}
