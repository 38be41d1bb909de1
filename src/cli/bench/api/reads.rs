//! Reads: one object over and over, and all pods at once.
//!
//! The peer is etcd's serializable range of as many bytes: what an API server in front of it would have
//! to wait for before it can decode, filter and encode anything.

use std::sync::Arc;
use std::time::Instant;

use anstream::println;
use http::Method;
use serde_json::{Value, json};

use super::{Args, Bench, growth};
use crate::cli::bench::raw::{Target, Until};
use crate::cli::bench::{Sample, stats};

const OBJECT: &str = "/api/v1/namespaces/default/configmaps/bench-get";
const SIZE: usize = 1024;
const CONNECTIONS: u64 = 100;
const READS: u64 = 50_000;
/// Lists per measurement.
const LISTS: usize = 5;

pub(super) async fn get(bench: &mut Bench, args: &Args) -> anyhow::Result<()> {
    bench.api.forget(OBJECT).await?;
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "bench-get"}, "data": {"filler": "x".repeat(SIZE)},
    });
    let path = "/api/v1/namespaces/default/configmaps";
    bench.api.json(Method::POST, path, &object).await?;
    let (authority, token) = (&bench.cluster.api, &bench.cluster.token);
    let request = format!(
        "GET {OBJECT} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let gets = Target {
        request: Arc::new(move |_, bytes| bytes.extend_from_slice(request.as_bytes())),
        processes: bench.cluster.processes(|name| name == "server"),
        ..Target::get(*authority, "", "")
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.pairs {
        ours.push(gets.load(CONNECTIONS, Until::Requests(READS)).await?);
        if let Some(etcd) = &bench.etcd {
            theirs.push(etcd.ranges(CONNECTIONS, READS, SIZE).await?);
        }
    }
    println!(
        "gets of one object of {SIZE} B, {CONNECTIONS} connections, {} × {READS}",
        args.pairs
    );
    stats::print_side("wasmorch GET", &ours);
    if bench.etcd.is_some() {
        stats::print_side("etcd serializable range", &theirs);
        stats::print_ratio("rate, ours to theirs", &ours, &theirs);
    }
    bench.api.forget(OBJECT).await
}

pub(super) async fn list(bench: &mut Bench, args: &Args) -> anyhow::Result<()> {
    let mut there = 0;
    let mut filled = 0;
    for &pods in &args.pods {
        growth::fill(&bench.cluster, &mut there, pods).await?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut size = 0;
        for _ in 0..args.pairs {
            let mut latencies = Vec::new();
            let started = Instant::now();
            for _ in 0..LISTS {
                let since = Instant::now();
                let path = growth::PODS;
                let (status, body) = bench
                    .api
                    .send(Method::GET, path, "application/json", bytes::Bytes::new())
                    .await?;
                anyhow::ensure!(status.is_success(), "GET {path}: {status}");
                latencies.push(since.elapsed());
                size = body.len();
            }
            ours.push(Sample::new(latencies, started.elapsed(), 0));
            if let Some(etcd) = &bench.etcd {
                let each = size / usize::try_from(pods)?;
                etcd.fill(&mut filled, pods, each).await?;
                theirs.push(etcd.lists(LISTS).await?);
            }
        }
        println!(
            "lists of {pods} pods, {:.1} MB, {} × {LISTS}",
            size as f64 / 1e6,
            args.pairs
        );
        stats::print_side("wasmorch GET pods", &ours);
        if bench.etcd.is_some() {
            stats::print_side("etcd range", &theirs);
            stats::print_latency_ratio("p50, ours to theirs", &ours, &theirs);
        }
    }
    forget_pods(bench).await
}

/// Deletes the pods of a measurement.
pub(super) async fn forget_pods(bench: &mut Bench) -> anyhow::Result<()> {
    bench
        .api
        .json(Method::DELETE, growth::PODS, &Value::Null)
        .await
        .map(drop)
}
