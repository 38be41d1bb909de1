//! Durable creates per second: POST of a ConfigMap over HTTP, validated, on disk and published to
//! watchers before it is answered; beside etcd's put of the same bytes.

use std::sync::Arc;

use anstream::println;
use http::Method;
use serde_json::Value;

use super::{Args, Bench};
use crate::cli::bench::raw::{Target, Until};
use crate::cli::bench::{Cluster, stats};

pub(super) async fn run(bench: &mut Bench, args: &Args) -> anyhow::Result<()> {
    for &in_flight in &args.in_flight {
        let total = (args.writes * in_flight).max(2_000);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..args.pairs {
            let creates = creates(&bench.cluster);
            ours.push(creates.load(in_flight, Until::Requests(total)).await?);
            // Deletes what the measurement created.
            let selected = format!("{PATH}?labelSelector=bench%3Dapi");
            bench
                .api
                .json(Method::DELETE, &selected, &Value::Null)
                .await?;
            if let Some(etcd) = &bench.etcd {
                theirs.push(etcd.puts(in_flight, total, BODY_SIZE).await?);
            }
        }
        println!(
            "durable creates, {in_flight} in flight, {} × {total}",
            args.pairs
        );
        stats::print_side("wasmorch POST configmaps", &ours);
        if bench.etcd.is_some() {
            stats::print_side("etcd put", &theirs);
            stats::print_ratio("rate, ours to theirs", &ours, &theirs);
            stats::print_latency_ratio("p50, ours to theirs", &ours, &theirs);
        }
    }
    Ok(())
}

const BODY_SIZE: usize = 256;
const PATH: &str = "/api/v1/namespaces/default/configmaps";

/// Every call makes requests with names of their own.
fn creates(cluster: &Cluster) -> Target {
    let (authority, token) = (cluster.api.to_string(), cluster.token.clone());
    let run = crate::ids::name_suffix();
    let filler = "x".repeat(BODY_SIZE - 130);
    let write = move |number: u64, bytes: &mut Vec<u8>| {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"bench-{run}-{number:x}","labels":{{"bench":"api"}}}},"data":{{"filler":"{filler}"}}}}"#
        );
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        bytes.extend_from_slice(request.as_bytes());
    };
    Target {
        request: Arc::new(write),
        processes: cluster.processes(|name| name == "server"),
        ..Target::get(cluster.api, "", "")
    }
}
