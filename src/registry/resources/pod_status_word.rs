//! The one word that `kubectl get pods` prints for a pod's state.
//!
//! It is made from phase, reasons and container states exactly as Kubernetes' printer makes it
//! (`pkg/printers/internalversion/printers.go`, `printPod`), because people and scripts know the
//! words: `Init:0/1`, `CrashLoopBackOff`, `Completed`, `Terminating`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use crate::api::{condition, pod};

/// What the row of a pod says about its containers.
#[derive(Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) word: String,
    pub(super) ready: usize,
    pub(super) total: usize,
    pub(super) restarts: Restarts,
}

/// How often containers were restarted, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Restarts {
    pub(super) count: i32,
    pub(super) last: Option<Timestamp>,
}

pub(super) fn summary(found: &Pod) -> Summary {
    let empty = PodStatus::default();
    let status = found.status.as_ref().unwrap_or(&empty);
    let phase = pod::phase(found);
    let mut summary = Summary {
        word: reason(status.reason.as_deref())
            .unwrap_or(phase.as_str())
            .to_owned(),
        ready: 0,
        total: found.spec.as_ref().map_or(0, |spec| spec.containers.len()),
        restarts: Restarts::default(),
    };
    let conditions = pod::conditions(found);
    let scheduled = condition::find(conditions, "PodScheduled");
    if scheduled.is_some_and(|c| c.reason.as_deref() == Some("SchedulingGated")) {
        "SchedulingGated".clone_into(&mut summary.word);
    }
    let initializing = add_init_containers(found, status, &mut summary);
    if !initializing || condition::is_true(conditions, "Initialized") {
        add_containers(
            status,
            condition::is_true(conditions, "Ready"),
            &mut summary,
        );
    }
    if pod::is_terminating(found) {
        if status.reason.as_deref() == Some("NodeLost") {
            "Unknown".clone_into(&mut summary.word);
        } else if !phase.is_terminal() {
            "Terminating".clone_into(&mut summary.word);
        }
    }
    summary
}

/// Whether the pod is still at its init containers. A sidecar that has started counts as one of
/// the main containers from then on.
fn add_init_containers(found: &Pod, status: &PodStatus, summary: &mut Summary) -> bool {
    let declared = found
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref());
    let declared = declared.unwrap_or_default();
    summary.total += declared
        .iter()
        .filter(|container| pod::is_sidecar(container))
        .count();
    let mut before = Restarts::default();
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        before.count(container);
        let state = container.state.as_ref();
        let terminated = state.and_then(|state| state.terminated.as_ref());
        let waiting = state.and_then(|state| state.waiting.as_ref());
        let waiting = waiting.and_then(|waiting| reason(waiting.reason.as_deref()));
        let is_sidecar = declared
            .iter()
            .any(|declared| declared.name == container.name && pod::is_sidecar(declared));
        summary.word = match (terminated, waiting) {
            (Some(terminated), _) if terminated.exit_code == 0 => continue,
            _ if is_sidecar && container.started == Some(true) => {
                summary.ready += usize::from(container.ready);
                summary.restarts.count(container);
                continue;
            }
            (Some(terminated), _) => format!("Init:{}", end(terminated)),
            (None, Some(waiting)) if waiting != "PodInitializing" => format!("Init:{waiting}"),
            (None, _) => format!("Init:{index}/{}", declared.len()),
        };
        summary.restarts = before;
        return true;
    }
    false
}

fn add_containers(status: &PodStatus, is_ready: bool, summary: &mut Summary) {
    let mut has_running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        summary.restarts.count(container);
        let Some(state) = &container.state else {
            continue;
        };
        let waiting = state
            .waiting
            .as_ref()
            .and_then(|w| reason(w.reason.as_deref()));
        if let Some(waiting) = waiting {
            waiting.clone_into(&mut summary.word);
        } else if let Some(terminated) = &state.terminated {
            summary.word = end(terminated);
        } else if container.ready && state.running.is_some() {
            has_running = true;
            summary.ready += 1;
        }
    }
    if summary.word == "Completed" && has_running {
        let word = if is_ready { "Running" } else { "NotReady" };
        word.clone_into(&mut summary.word);
    }
}

impl Restarts {
    fn count(&mut self, container: &ContainerStatus) {
        self.count += container.restart_count;
        let state = container.last_state.as_ref();
        let ended = state.and_then(|state| state.terminated.as_ref());
        let finished = ended.and_then(|ended| ended.finished_at.as_ref());
        self.last = self.last.max(finished.map(|time| time.0));
    }
}

/// Why a container ended: the reason, or else the signal or code.
fn end(terminated: &ContainerStateTerminated) -> String {
    match (reason(terminated.reason.as_deref()), terminated.signal) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        (None, _) => format!("ExitCode:{}", terminated.exit_code),
    }
}

fn reason(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// `word ready restarts` of a pod of one init container and two containers.
    fn words(status: &Value, meta: &Value) -> String {
        let pod = json!({"metadata": meta, "status": status, "spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]}});
        let summary = summary(&serde_json::from_value(pod).unwrap());
        format!(
            "{} {} {}",
            summary.word, summary.ready, summary.restarts.count
        )
    }

    /// A phase and the states of the containers, each of which was restarted once.
    fn check(phase: &str, init: &[Value], main: &[Value], expected: &str) {
        let container = |state: &Value| json!({"name": "c", "restartCount": 1, "state": state, "ready": state.get("running").is_some()});
        let list = |states: &[Value]| states.iter().map(container).collect::<Vec<_>>();
        let status = json!({"phase": phase, "initContainerStatuses": list(init), "containerStatuses": list(main)});
        assert_eq!(words(&status, &json!({})), expected, "{status}");
    }

    #[test]
    fn says_what_kubectl_says() {
        let running = || json!({"running": {}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended =
            |reason: &str, code: i32| json!({"terminated": {"reason": reason, "exitCode": code}});
        let killed = json!({"terminated": {"exitCode": 137, "signal": 9}});
        check("Pending", &[], &[], "Pending 0 0");
        check("Running", &[], &[running(), running()], "Running 2 2");
        check(
            "Running",
            &[],
            &[running(), waiting("CrashLoopBackOff")],
            "CrashLoopBackOff 1 2",
        );
        check(
            "Running",
            &[],
            &[running(), ended("Completed", 0)],
            "NotReady 1 2",
        );
        check("Succeeded", &[], &[ended("Completed", 0)], "Completed 0 1");
        check("Failed", &[], &[ended("", 3)], "ExitCode:3 0 1");
        check("Failed", &[], &[killed], "Signal:9 0 1");
        check("Pending", &[running()], &[], "Init:0/1 0 1");
        check(
            "Pending",
            &[waiting("PodInitializing")],
            &[],
            "Init:0/1 0 1",
        );
        check(
            "Pending",
            &[waiting("ErrImagePull")],
            &[],
            "Init:ErrImagePull 0 1",
        );
        check("Pending", &[ended("Error", 1)], &[], "Init:Error 0 1");
        check("Pending", &[ended("", 1)], &[], "Init:ExitCode:1 0 1");
        check(
            "Running",
            &[ended("Completed", 0)],
            &[running()],
            "Running 1 1",
        );
    }

    #[test]
    fn reasons_and_deletion_come_before_the_phase() {
        let alive = json!({});
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        for (phase, reason, meta, expected) in [
            ("Failed", "Evicted", &alive, "Evicted 0 0"),
            ("Running", "", &deleted, "Terminating 0 0"),
            ("Succeeded", "", &deleted, "Succeeded 0 0"),
            ("Running", "NodeLost", &deleted, "Unknown 0 0"),
        ] {
            let status = json!({"phase": phase, "reason": reason});
            assert_eq!(words(&status, meta), expected);
        }
        let gated = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]});
        assert_eq!(words(&gated, &alive), "SchedulingGated 0 0");
    }

    #[test]
    fn a_started_sidecar_counts_as_a_main_container() {
        let status = |started: bool| {
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "s", "ready": started, "started": started, "restartCount": 2, "state": {"running": {}}}]})
        };
        let row = |started: bool| {
            let pod = json!({"status": status(started), "spec": {
                "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]}});
            let summary = summary(&serde_json::from_value(pod).unwrap());
            (
                summary.word,
                summary.ready,
                summary.total,
                summary.restarts.count,
            )
        };
        assert_eq!(row(false), ("Init:0/1".to_owned(), 0, 2, 2));
        assert_eq!(row(true), ("Pending".to_owned(), 1, 2, 2));
    }

    #[test]
    fn a_ready_pod_runs_on_when_one_container_is_done() {
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "b", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
        assert_eq!(words(&status, &json!({})), "Running 1 0");
    }
}
