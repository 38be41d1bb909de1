//! `/stats/summary`: what pods use, in kubelet's form (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`),
//! as much of it as has a meaning here.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::context::PodView;
use crate::runtime::SandboxStats;

/// The summary of a node and its pods.
pub fn summary(node: &str, pods: &[PodView], now: Timestamp) -> Value {
    let pods: Vec<Value> = pods.iter().filter_map(|view| pod(view, now)).collect();
    let total = |pointer: &str| -> u64 {
        let values = pods.iter().filter_map(|pod| pod.pointer(pointer)?.as_u64());
        values.sum()
    };
    json!({
        "node": {
            "nodeName": node,
            "cpu": {"time": now, "usageCoreNanoSeconds": total("/cpu/usageCoreNanoSeconds")},
            "memory": {"time": now, "workingSetBytes": total("/memory/workingSetBytes")},
        },
        "pods": pods,
    })
}

fn pod(view: &PodView, now: Timestamp) -> Option<Value> {
    let stats = view.sandbox.as_ref()?.stats();
    let meta = &view.pod.metadata;
    Some(json!({
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "cpu": {"time": now, "usageCoreNanoSeconds": cpu_nanos(&stats)},
        "memory": {"time": now, "workingSetBytes": stats.memory_bytes, "usageBytes": stats.memory_bytes},
        "ephemeral-storage": {"time": now, "usedBytes": stats.storage_bytes, "inodesUsed": stats.inodes, "refused": stats.storage_refused},
        "sockets": {"open": stats.sockets, "refused": stats.sockets_refused},
        "outgoingRequests": {"refused": stats.calls_refused},
        "process_stats": {"process_count": stats.containers.len()},
        "containers": containers(&stats, now),
    }))
}

fn cpu_nanos(stats: &SandboxStats) -> u64 {
    let times = stats
        .containers
        .iter()
        .map(|(_, stats)| stats.cpu.as_nanos() as u64);
    times.sum()
}

fn containers(stats: &SandboxStats, now: Timestamp) -> Vec<Value> {
    let containers = stats.containers.iter();
    containers
        .map(|(name, stats)| {
            json!({
                "name": name,
                "cpu": {
                    "time": now,
                    "usageCoreNanoSeconds": stats.cpu.as_nanos() as u64,
                    "throttledNanoSeconds": stats.throttled.as_nanos() as u64,
                },
                "memory": {
                    "time": now,
                    "workingSetBytes": stats.memory_bytes,
                    "usageBytes": stats.memory_bytes,
                    "peakBytes": stats.memory_peak_bytes,
                    "refused": stats.refused.memory,
                },
                "requests": {
                    "total": stats.requests,
                    "failed": stats.requests_failed,
                    "inFlight": stats.in_flight,
                    "refused": stats.refused.requests,
                },
                "descriptors": {"open": stats.descriptors, "refused": stats.refused.descriptors},
                "handles": {"refused": stats.refused.handles},
                "hostCalls": {"refused": stats.refused.host_calls},
                "log": {"droppedBytes": stats.refused.log_bytes},
            })
        })
        .collect()
}
