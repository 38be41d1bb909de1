//! Reads what the workers' pods use, for `metrics.k8s.io` and the autoscaler.
//!
//! It stands in this room because the client of the workers' own API does. A worker that does not
//! answer loses its figures after a while: old figures are worse than none. What one says of pods that
//! are not bound to it is left out.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::Value;

use crate::api::pod;
use crate::errors;
use crate::registry::Caller;

use super::Server;

/// Workers that are asked at the same time.
const CONCURRENCY: usize = 16;
/// A node of a thousand pods says about one megabyte.
const SUMMARY_LIMIT: usize = 16 << 20;
/// Periods after which the figures of a silent worker are forgotten.
const PATIENCE: u32 = 4;

/// Reads every worker each `period`; runs until cancelled.
pub async fn read_usage(server: Arc<Server>, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let nodes = server.registry.api::<Node>(Caller::system("metrics"));
        let nodes = match nodes.list(None) {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::warn!(error = %errors::chain(&error), "the nodes to read the use of");
                continue;
            }
        };
        let names: Vec<String> = nodes
            .iter()
            .filter_map(|node| node.metadata.name.clone())
            .collect();
        let readings: Vec<_> = names
            .iter()
            .cloned()
            .map(|name| read(Arc::clone(&server), name, period))
            .collect();
        futures::stream::iter(readings)
            .buffer_unordered(CONCURRENCY)
            .collect::<()>()
            .await;
        let now = server.registry.clock().now();
        let oldest = now
            .saturating_sub(jiff::SignedDuration::try_from(period * PATIENCE).unwrap_or_default());
        let is_there = |node: &str| names.iter().any(|name| name == node);
        server
            .registry
            .usage()
            .retain(is_there, oldest.unwrap_or(now));
    }
}

async fn read(server: Arc<Server>, node: String, patience: Duration) {
    let Ok(result) = tokio::time::timeout(patience, summary(&server, &node)).await else {
        tracing::debug!(node, "the worker takes long to say what it uses");
        return;
    };
    match result {
        Ok(summary) => {
            let pods = server.registry.api::<Pod>(Caller::system("metrics"));
            let is_its = |namespace: &str, name: &str, uid: &str| {
                let found = pods.try_get(namespace, name).ok().flatten();
                found.is_some_and(|pod| {
                    pod.metadata.uid.as_deref() == Some(uid)
                        && pod::node_name(&pod) == Some(node.as_str())
                })
            };
            let now = server.registry.clock().now();
            let usage = server.registry.usage();
            usage.record(&node, &summary, now, is_its);
        }
        // Its lease tells whether it lives; here it only has no figures.
        Err(error) => tracing::debug!(node, %error, "the worker does not say what it uses"),
    }
}

async fn summary(
    server: &Server,
    node: &str,
) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let answer = server
        .worker_api
        .get(&server.registry, node, "/stats/summary", HeaderMap::new())
        .await?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()).into());
    }
    let body = Limited::new(answer.into_body(), SUMMARY_LIMIT)
        .collect()
        .await?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}
