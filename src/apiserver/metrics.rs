//! The API server's own figures in Prometheus' text format, under Kubernetes' names.
//!
//! Counters are kept per (verb, resource, code). A resource that no row knows is counted as
//! `unknown`, so that nobody can grow the table by asking for nonsense. Objects and the revision are
//! read when they are asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Server;

const BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    resource: String,
    code: u16,
}

#[derive(Clone, Copy, Default)]
struct Latency {
    count: u64,
    sum: f64,
    buckets: [u64; BUCKETS.len()],
}

#[derive(Default)]
pub(crate) struct Metrics {
    /// Held for an increment only.
    requests: Mutex<BTreeMap<Labels, Latency>>,
}

impl Metrics {
    /// Counts a finished request (for a stream: its opening).
    pub(crate) fn observe(&self, verb: &'static str, resource: &str, code: u16, took: Duration) {
        let labels = Labels {
            verb,
            resource: resource.to_owned(),
            code,
        };
        let seconds = took.as_secs_f64();
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = requests.entry(labels).or_default();
        latency.count += 1;
        latency.sum += seconds;
        for (bucket, bound) in latency.buckets.iter_mut().zip(BUCKETS) {
            if seconds <= bound {
                *bucket += 1;
            }
        }
    }

    /// The whole page.
    pub(crate) fn render(&self, server: &Server) -> String {
        let requests = self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut page = String::new();
        let _ = writeln!(page, "# TYPE apiserver_request_total counter");
        for (labels, latency) in &requests {
            let _ = writeln!(
                page,
                "apiserver_request_total{{verb=\"{}\",resource=\"{}\",code=\"{}\"}} {}",
                labels.verb, labels.resource, labels.code, latency.count
            );
        }
        let _ = writeln!(page, "# TYPE apiserver_request_duration_seconds histogram");
        for ((verb, resource), latency) in &by_verb(&requests) {
            write_histogram(&mut page, verb, resource, latency);
        }
        let streams = server.streams.taken();
        let _ = writeln!(page, "# TYPE apiserver_longrunning_requests gauge");
        let _ = writeln!(page, "apiserver_longrunning_requests {streams}");
        let _ = writeln!(page, "# TYPE wasmorch_store_revision counter");
        let _ = writeln!(
            page,
            "wasmorch_store_revision {}",
            server.registry.store().revision().0
        );
        let _ = writeln!(page, "# TYPE apiserver_storage_objects gauge");
        for resource in server.registry.stored_kinds() {
            let name = resource.qualified;
            let count = server.registry.store().count(resource.storage);
            let _ = writeln!(
                page,
                "apiserver_storage_objects{{resource=\"{name}\"}} {count}"
            );
        }
        if let Some(write) = server.further_metrics.get() {
            write(&mut page);
        }
        page
    }
}

/// Latency is shown per verb and resource; the code only matters for the count.
fn by_verb(requests: &BTreeMap<Labels, Latency>) -> BTreeMap<(&'static str, &str), Latency> {
    let mut merged: BTreeMap<(&'static str, &str), Latency> = BTreeMap::new();
    for (labels, latency) in requests {
        let entry = merged
            .entry((labels.verb, labels.resource.as_str()))
            .or_default();
        entry.count += latency.count;
        entry.sum += latency.sum;
        for (total, bucket) in entry.buckets.iter_mut().zip(latency.buckets) {
            *total += bucket;
        }
    }
    merged
}

fn write_histogram(page: &mut String, verb: &str, resource: &str, latency: &Latency) {
    const NAME: &str = "apiserver_request_duration_seconds";
    let labels = format!("verb=\"{verb}\",resource=\"{resource}\"");
    for (bound, count) in BUCKETS.iter().zip(latency.buckets) {
        let _ = writeln!(page, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(
        page,
        "{NAME}_bucket{{{labels},le=\"+Inf\"}} {}",
        latency.count
    );
    let _ = writeln!(page, "{NAME}_sum{{{labels}}} {}", latency.sum);
    let _ = writeln!(page, "{NAME}_count{{{labels}}} {}", latency.count);
}
