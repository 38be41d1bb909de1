//! Questions that scheduler, controllers, worker and router all ask of a pod.

mod ephemeral;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};

pub use ephemeral::as_container;

use super::{condition, quantity};

/// `status.phase`, parsed once at the border (KEP: pod lifecycle).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

impl Phase {
    /// The wire form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether every container has stopped for good.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed => true,
            Self::Pending | Self::Running | Self::Unknown => false,
        }
    }
}

/// The pod's phase; a pod without status is `Pending`.
pub fn phase(pod: &Pod) -> Phase {
    match pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
    {
        None | Some("" | "Pending") => Phase::Pending,
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some(_) => Phase::Unknown,
    }
}

/// The reason of a pod's conditions once its node has fallen silent. The worker says otherwise when it
/// is back.
pub const NODE_LOST: &str = "NodeLost";

/// The pod's conditions.
pub fn conditions(pod: &Pod) -> &[PodCondition] {
    pod.status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

/// Whether the pod's `Ready` condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition::is_true(conditions(pod), "Ready")
}

/// How long a ready pod must stay so until it is available; `None` if it is.
pub fn until_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    if min_ready.is_zero() {
        return None;
    }
    let ready = condition::find(conditions(pod), "Ready");
    let since = ready.and_then(condition::Condition::since).unwrap_or(now);
    let been = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
    min_ready.checked_sub(been).filter(|wait| !wait.is_zero())
}

/// Whether a deletion has been asked for.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod still counts for its controller: not terminal, not being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !phase(pod).is_terminal() && !is_terminating(pod)
}

/// The node that the pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// What a pod asks of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes of `ephemeral-storage`.
    pub storage_bytes: u64,
}

/// Whether an init container stays and runs beside the main ones (`restartPolicy: Always`).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The effective request of a pod: the sum over containers and sidecars, but at least the largest
/// init container with the sidecars before it ("Resource sharing within containers"), plus
/// `spec.overhead`.
pub fn requests(pod: &Pod) -> Requests {
    let Some(spec) = &pod.spec else {
        return Requests::default();
    };
    let sum = spec
        .containers
        .iter()
        .map(container_requests)
        .fold(Requests::default(), Requests::plus);
    let mut sidecars = Requests::default();
    let mut largest = Requests::default();
    for container in spec.init_containers.iter().flatten() {
        let wanted = container_requests(container).plus(sidecars);
        if is_sidecar(container) {
            sidecars = wanted;
        }
        largest = largest.max(wanted);
    }
    let init = sum.plus(sidecars).max(largest);
    let overhead = |name: &str| {
        spec.overhead
            .as_ref()
            .and_then(|overhead| overhead.get(name))
    };
    init.plus(Requests {
        cpu_millis: overhead("cpu").map_or(0, quantity::millis_or_zero),
        memory_bytes: overhead("memory").map_or(0, quantity::units_or_zero),
        storage_bytes: overhead("ephemeral-storage").map_or(0, quantity::units_or_zero),
    })
}

impl Requests {
    /// Field by field.
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            storage_bytes: self.storage_bytes.saturating_add(other.storage_bytes),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            storage_bytes: self.storage_bytes.max(other.storage_bytes),
        }
    }
}

fn container_requests(container: &Container) -> Requests {
    let wanted = |name: &str| {
        let resources = container.resources.as_ref()?;
        resources.requests.as_ref()?.get(name)
    };
    Requests {
        cpu_millis: wanted("cpu").map_or(0, quantity::millis_or_zero),
        memory_bytes: wanted("memory").map_or(0, quantity::units_or_zero),
        storage_bytes: wanted("ephemeral-storage").map_or(0, quantity::units_or_zero),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_take_the_sum_or_the_largest_init_container() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2"}}}],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}},
            ],
        }}))
        .unwrap();
        assert_eq!(
            requests(&pod),
            Requests {
                cpu_millis: 2000,
                memory_bytes: 128 << 20,
                storage_bytes: 0
            }
        );
    }

    #[test]
    fn sidecars_run_beside_what_comes_after_them() {
        let cpu = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [
                {"name": "a", "resources": cpu("3")},
                {"name": "s", "restartPolicy": "Always", "resources": cpu("1")},
                {"name": "b", "resources": cpu("1")},
            ],
            "containers": [{"name": "m", "resources": cpu("2500m")}],
        }}))
        .unwrap();
        assert_eq!(requests(&pod).cpu_millis, 3500);
    }

    #[test]
    fn a_pod_without_status_is_pending_and_not_ready() {
        let pod = Pod::default();
        assert_eq!(
            (phase(&pod), is_ready(&pod), is_active(&pod)),
            (Phase::Pending, false, true)
        );
    }
}
