//! Whether an operation costs more when there is more of everything: creates, status writes and a
//! list's first page with 10 to 10,000 pods.
//!
//! The pods name a scheduler that is not there, so nothing but the API server and those who watch pods has
//! to do with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anstream::println;
use http::Method;
use serde_json::json;

use super::{Args, Bench, reads};
use crate::cli::bench::raw::{Target, Until};
use crate::cli::bench::{Cluster, stats};

/// The pods of these measurements, and no others.
pub(super) const PODS: &str = "/api/v1/namespaces/default/pods?labelSelector=bench%3Dpods";
const PATH: &str = "/api/v1/namespaces/default/pods";
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
    let mut there = 0;
    let mut costs: [Vec<f64>; 3] = Default::default();
    for size in SIZES {
        fill(&bench.cluster, &mut there, size).await?;
        for (costs, cost) in costs.iter_mut().zip(operations(bench).await?) {
            costs.push(cost.as_secs_f64() * 1e3);
        }
    }
    println!("medians of {OPERATIONS} operations, one at a time, with {SIZES:?} pods there");
    for (name, costs) in ["create", "status", "page of 500"].iter().zip(&costs) {
        let shown: Vec<String> = costs.iter().map(|cost| format!("{cost:.3}")).collect();
        println!(
            "  {name:<14} {} ms   last to first {:.2}×   cost ~ n^{:.3}",
            shown.join(", "),
            costs[costs.len() - 1] / costs[0],
            exponent(costs)
        );
    }
    reads::forget_pods(bench).await
}

/// The median of a create, of a status write and of a page.
async fn operations(bench: &mut Bench) -> anyhow::Result<[Duration; 3]> {
    let mut costs: [Vec<Duration>; 3] = Default::default();
    for _ in 0..OPERATIONS {
        let body = pod("bench-operation");
        let since = Instant::now();
        bench.api.json(Method::POST, PATH, &body).await?;
        costs[0].push(since.elapsed());
        let path = format!("{PATH}/bench-operation");
        let since = Instant::now();
        let status = json!({"status": {"phase": "Running"}});
        bench
            .api
            .json(Method::PATCH, &format!("{path}/status"), &status)
            .await?;
        costs[1].push(since.elapsed());
        let since = Instant::now();
        bench
            .api
            .send(
                Method::GET,
                &format!("{PATH}?limit=500"),
                "application/json",
                bytes::Bytes::new(),
            )
            .await?;
        costs[2].push(since.elapsed());
        bench.api.forget(&path).await?;
    }
    Ok(costs.map(|mut costs| stats::percentile(&mut costs, 0.5)))
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
