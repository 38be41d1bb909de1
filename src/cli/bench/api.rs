//! Durable creates per second: POST of a ConfigMap over HTTP, validated, on disk and published to
//! watchers before it is answered; beside etcd's put of the same bytes.

use std::sync::Arc;

use anstream::println;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;

use super::etcd::Etcd;
use super::load::{MakeRequest, Until, closed_loop};
use super::{Cluster, Target, stats};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
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
            ours.push(
                closed_loop(
                    cluster.api,
                    in_flight,
                    Until::Requests(total),
                    creates(&cluster),
                )
                .await?,
            );
            empty(&cluster).await?;
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
            stats::print_ratio("ratio", &ours, &theirs);
        }
    }
    Ok(())
}

const BODY_SIZE: usize = 256;
const PATH: &str = "/api/v1/namespaces/default/configmaps";

fn creates(cluster: &Cluster) -> MakeRequest {
    let (authority, bearer) = (cluster.api.to_string(), format!("Bearer {}", cluster.token));
    let run = crate::ids::name_suffix();
    let filler = "x".repeat(BODY_SIZE - 130);
    Arc::new(move |number| {
        let name = format!("bench-{run}-{number:x}");
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"bench":"api"}}}},"data":{{"filler":"{filler}"}}}}"#
        );
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = PATH.parse().unwrap_or_default();
        let headers = request.headers_mut();
        for (name, value) in [
            (header::HOST, authority.as_str()),
            (header::AUTHORIZATION, &bearer),
            (header::CONTENT_TYPE, "application/json"),
        ] {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        request
    })
}

/// Deletes what the measurement created.
async fn empty(cluster: &Cluster) -> anyhow::Result<()> {
    let (authority, bearer) = (cluster.api.to_string(), format!("Bearer {}", cluster.token));
    let make: MakeRequest = Arc::new(move |_| {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = format!("{PATH}?labelSelector=bench%3Dapi")
            .parse()
            .unwrap_or_default();
        for (name, value) in [
            (header::HOST, authority.as_str()),
            (header::AUTHORIZATION, &bearer),
        ] {
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(name, value);
            }
        }
        request
    });
    let deleted = closed_loop(cluster.api, 1, Until::Requests(1), make).await?;
    anyhow::ensure!(
        deleted.failed == 0,
        "the objects of the measurement could not be deleted: kubectl delete configmap -l bench=api"
    );
    Ok(())
}
