//! What limits cost a pod, in words for its events; the counting is the budgets' own.
//!
//! Output that came too fast is counted by the sink that dropped it, which knows no pod, so it is
//! looked at after each write ([`Counted`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::Tuning;
use super::container::{ContainerStats, Refused};
use super::limits::{Handles, MAX_DESCRIPTORS, MAX_HOST_CALL_BYTES};
use super::sandbox::SandboxStats;
use super::spec::{LogSink, LogStream, PodLimits};
use crate::api::quantity::readable_bytes;

/// A throttled time that is not worth a word.
const SHORT_SECS: u64 = 10;

/// What was refused to the pod so far; `None` if nothing was.
pub(super) fn words(stats: &SandboxStats, limits: &PodLimits, tuning: &Tuning) -> Option<String> {
    let mut said = Vec::new();
    for (name, container) in &stats.containers {
        let of_container = container_words(container, tuning);
        if !of_container.is_empty() {
            said.push(format!("container `{name}`: {}", of_container.join(", ")));
        }
    }
    if stats.sockets_refused > 0 {
        said.push(format!(
            "{} sockets refused ({} may be open in the pod)",
            stats.sockets_refused, limits.sockets
        ));
    }
    if stats.calls_refused > 0 {
        said.push(format!(
            "{} outgoing requests refused ({} of the pod may be on their way)",
            stats.calls_refused, tuning.calls_per_pod
        ));
    }
    (!said.is_empty()).then(|| said.join("; "))
}

fn container_words(stats: &ContainerStats, tuning: &Tuning) -> Vec<String> {
    let Refused {
        memory,
        descriptors,
        handles,
        host_calls,
        requests,
        log_bytes,
    } = stats.refused;
    let mut said = Vec::new();
    if memory > 0 {
        // Not what is in use now: a container that has ended uses nothing.
        let most = readable_bytes(stats.memory_peak_bytes);
        said.push(format!(
            "{memory} growths of memory refused ({most} in use at most)"
        ));
    }
    if descriptors > 0 {
        said.push(format!(
            "{descriptors} descriptors refused ({MAX_DESCRIPTORS} may be open)"
        ));
    }
    if handles > 0 {
        let (process, request) = (Handles::PROCESS.objects, Handles::REQUEST.objects);
        said.push(format!(
            "{handles} ended with too many host objects or handles ({process} may be held, {request} by a request)"
        ));
    }
    if host_calls > 0 {
        let most = readable_bytes(MAX_HOST_CALL_BYTES as u64);
        said.push(format!(
            "{host_calls} ended by a call with too much for the host (it takes {most} in one)"
        ));
    }
    if requests > 0 {
        let may = tuning.requests_per_container;
        said.push(format!(
            "{requests} requests refused ({may} may be in progress)"
        ));
    }
    if log_bytes > 0 {
        said.push(format!(
            "{} of output dropped, above the log rate or more than the disk took",
            readable_bytes(log_bytes)
        ));
    }
    let throttled = stats.throttled.as_secs();
    if throttled >= SHORT_SECS {
        said.push(format!("rested {throttled} s because of its CPU limit"));
    }
    said
}

/// A sink whose drops are seen.
pub(super) struct Counted {
    sink: Arc<dyn LogSink>,
    dropped: Arc<AtomicU64>,
    limited: Arc<Notify>,
}

impl Counted {
    pub(super) fn around(
        sink: Arc<dyn LogSink>,
        dropped: &Arc<AtomicU64>,
        limited: &Arc<Notify>,
    ) -> Arc<dyn LogSink> {
        Arc::new(Self {
            sink,
            dropped: Arc::clone(dropped),
            limited: Arc::clone(limited),
        })
    }
}

impl LogSink for Counted {
    fn write(&self, stream: LogStream, chunk: &[u8]) {
        self.sink.write(stream, chunk);
        let dropped = self.sink.dropped();
        if dropped > self.dropped.fetch_max(dropped, Ordering::Relaxed) {
            self.limited.notify_one();
        }
    }

    fn capacity(&self) -> usize {
        self.sink.capacity()
    }

    fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    fn close(&self) {
        self.sink.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_refusal_has_its_words_and_numbers() {
        let limits = PodLimits {
            memory_bytes: 1 << 20,
            storage_bytes: 1 << 20,
            inodes: 10,
            sockets: 7,
        };
        let tuning = Tuning::default();
        let mut stats = SandboxStats {
            containers: vec![("quiet".to_owned(), ContainerStats::default())],
            ..SandboxStats::default()
        };
        assert_eq!(words(&stats, &limits, &tuning), None);
        let noisy = ContainerStats {
            memory_peak_bytes: 3 << 20,
            throttled: Duration::from_secs(12),
            refused: Refused {
                memory: 1,
                descriptors: 2,
                handles: 6,
                host_calls: 8,
                requests: 3,
                log_bytes: 4 << 20,
            },
            ..ContainerStats::default()
        };
        stats.containers.push(("noisy".to_owned(), noisy));
        stats.sockets_refused = 5;
        stats.calls_refused = 6;
        let said = words(&stats, &limits, &tuning).unwrap();
        for part in [
            "container `noisy`: 1 growths of memory refused (3 MiB in use at most)",
            "2 descriptors refused (20000 may",
            "6 ended with too many host objects or handles (20000 may be held, 4000 by",
            "8 ended by a call with too much for the host (it takes 2 MiB in one)",
            "3 requests refused (256 may",
            "rested 12 s",
            "5 sockets refused (7 may",
            "6 outgoing requests refused (4096 of",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("quiet"), "{said}");
    }
}
