//! The counters of all services, for Prometheus and for people.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::router::feed::Health;
use crate::router::table::{RoutingTable, Service};
use crate::router::traffic::BUCKETS;

/// Prometheus' text form.
pub(super) fn prometheus(table: &RoutingTable, health: &Health) -> String {
    let mut text = String::new();
    let connected = u8::from(health.is_connected());
    text.push_str("# TYPE wasmorch_router_connected gauge\n");
    let _ = writeln!(text, "wasmorch_router_connected {connected}");
    let services = sorted(table);
    let families: [(&str, &str, Sample); 6] = [
        ("requests_total", "counter", requests),
        ("request_seconds", "histogram", latency),
        ("open", "gauge", |service| one("", &service.traffic.open())),
        ("retries_total", "counter", |service| {
            one("", &service.traffic.retries())
        }),
        ("connections_total", "counter", |service| {
            one("", &service.traffic.connections())
        }),
        ("ready_endpoints", "gauge", |service| {
            one("", &ready(service))
        }),
    ];
    for (name, kind, sample) in families {
        let _ = writeln!(text, "# TYPE wasmorch_router_{name} {kind}");
        for service in &services {
            let (namespace, service_name) = (&service.namespace, &service.name);
            for (suffix, labels, value) in sample(service) {
                let _ = writeln!(
                    text,
                    "wasmorch_router_{name}{suffix}{{namespace=\"{namespace}\",service=\"{service_name}\"{labels}}} {value}"
                );
            }
        }
    }
    text
}

/// Lines of a family for one service: the name's suffix, further labels, the value.
type Sample = fn(&Service) -> Vec<(&'static str, String, String)>;

fn one(suffix: &'static str, value: &dyn std::fmt::Display) -> Vec<(&'static str, String, String)> {
    vec![(suffix, String::new(), value.to_string())]
}

fn requests(service: &Service) -> Vec<(&'static str, String, String)> {
    let classes = service.traffic.by_class();
    let counted = classes.iter().zip(1..).filter(|(count, _)| **count > 0);
    counted
        .map(|(count, class)| ("", format!(",code=\"{class}xx\""), count.to_string()))
        .collect()
}

fn latency(service: &Service) -> Vec<(&'static str, String, String)> {
    let buckets = service.traffic.by_bucket();
    let total: u64 = buckets.iter().sum();
    if total == 0 {
        return Vec::new();
    }
    let mut lines = Vec::with_capacity(buckets.len() + 2);
    let mut below = 0;
    for (bound, count) in BUCKETS.iter().zip(buckets) {
        below += count;
        let seconds = *bound as f64 / 1e6;
        lines.push(("_bucket", format!(",le=\"{seconds}\""), below.to_string()));
    }
    lines.push(("_bucket", ",le=\"+Inf\"".to_owned(), total.to_string()));
    let seconds = service.traffic.total_time().as_secs_f64();
    lines.extend(one("_sum", &seconds));
    lines.extend(one("_count", &total));
    lines
}

/// The same for people and the dashboard.
pub(super) fn json(table: &RoutingTable, health: &Health) -> Value {
    let services = sorted(table);
    let services = services.iter().map(|service| {
        let traffic = &service.traffic;
        json!({
            "namespace": service.namespace,
            "name": service.name,
            "readyEndpoints": ready(service),
            "requests": traffic.by_class(),
            "latencyBuckets": traffic.by_bucket(),
            "totalSeconds": traffic.total_time().as_secs_f64(),
            "open": traffic.open(),
            "retries": traffic.retries(),
            "connections": traffic.connections(),
        })
    });
    json!({
        "connected": health.is_connected(),
        "latencyBucketMicros": BUCKETS,
        "services": services.collect::<Vec<_>>(),
    })
}

fn sorted(table: &RoutingTable) -> Vec<&Service> {
    let mut services: Vec<&Service> = table.services().map(|it| &**it).collect();
    services.sort_unstable_by(|one, other| {
        (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
    });
    services
}

fn ready(service: &Service) -> usize {
    let ports = service.ports.iter();
    ports.map(|port| port.ready.len()).max().unwrap_or(0)
}
