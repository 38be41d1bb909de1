//! Durable creates per second: POST of a ConfigMap over HTTP, validated, on disk and published to
//! watchers before it is answered; beside etcd's put of the same bytes.

use std::sync::Arc;

use anstream::println;
use http::Method;
use serde_json::Value;

use super::etcd::Etcd;
use super::raw::{Target, Until};
use super::rest::Rest;
use super::{Cluster, stats};
use crate::tasks::TaskGroup;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: super::Target,
    /// How many requests are in flight; measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100])]
    in_flight: Vec<u64>,
    /// Writes per measurement, per request in flight (at least 2,000 in all).
    #[arg(long, default_value_t = 100)]
    writes: u64,
    /// Measurements of each side.
    #[arg(long, default_value_t = 5)]
    pairs: u64,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let cluster = args.target.open()?;
    let tasks = TaskGroup::new();
    let mut api = Rest::api(&cluster, &tasks).await?;
    let etcd = Etcd::start(&args.target.dir).await?;
    if etcd.is_none() {
        println!("etcd is not installed: measured alone");
    }
    for &in_flight in &args.in_flight {
        anyhow::ensure!(
            (1..=1024).contains(&in_flight),
            "--in-flight {in_flight}: between 1 and 1024"
        );
        let total = (args.writes * in_flight).max(2_000);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..args.pairs {
            let creates = creates(&cluster);
            ours.push(creates.load(in_flight, Until::Requests(total)).await?);
            // Deletes what the measurement created.
            let selected = format!("{PATH}?labelSelector=bench%3Dapi");
            api.json(Method::DELETE, &selected, &Value::Null).await?;
            if let Some(etcd) = &etcd {
                theirs.push(etcd.puts(in_flight, total, BODY_SIZE).await?);
            }
        }
        println!(
            "durable creates, {in_flight} in flight, {} × {total}",
            args.pairs
        );
        stats::print_side("wasmorch POST configmaps", &ours);
        if etcd.is_some() {
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
