//! What users read of a pod, for each thing that may happen to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::runtime::spec::{Exit, ExitReason};
use crate::worker::lifecycle::{Event, Now, PullFailure, PullProblem, StartFailure, Timing};
use crate::worker::plan::{PodPlan, tests::pod};

struct Case {
    pod: Pod,
    lifecycle: Lifecycle,
    start: Instant,
}

impl Case {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "cases read better without `&`"
    )]
    fn new(spec: Value) -> Self {
        let pod = pod(&spec);
        let start = Instant::now();
        let now = Now {
            wall: Timestamp::UNIX_EPOCH,
            instant: start,
        };
        let timing = Timing {
            drain_delay: Duration::ZERO,
        };
        let plan = Arc::new(PodPlan::of(&pod).unwrap());
        let (lifecycle, _) = Lifecycle::new(plan, timing, now);
        Self {
            pod,
            lifecycle,
            start,
        }
    }

    fn step(&mut self, seconds: u64, event: Event) -> &mut Self {
        let elapsed = Duration::from_secs(seconds);
        self.lifecycle.step(
            event,
            Now {
                wall: Timestamp::UNIX_EPOCH + elapsed,
                instant: self.start + elapsed,
            },
        );
        self
    }

    fn status(&self, prior: Option<&PodStatus>, seconds: i64) -> PodStatus {
        let observed = Observation {
            pod: &self.pod,
            lifecycle: &self.lifecycle,
            prior,
            pod_ip: Some("10.64.0.2".parse().unwrap()),
            host_ip: "127.0.0.1".parse().unwrap(),
            is_leaving: false,
        };
        pod_status(&observed, Timestamp::from_second(seconds).unwrap())
    }

    /// `phase / state reason of each container / Ready`.
    fn summary(&self) -> String {
        let status = self.status(None, 0);
        let statuses = status.init_container_statuses.iter().flatten();
        let states: Vec<String> = statuses
            .chain(status.container_statuses.iter().flatten())
            .map(|container| {
                let state = container.state.as_ref().unwrap();
                let waiting = state.waiting.as_ref().map(|it| it.reason.clone().unwrap());
                let ended = state
                    .terminated
                    .as_ref()
                    .map(|it| it.reason.clone().unwrap());
                waiting.or(ended).unwrap_or_else(|| "running".into())
            })
            .collect();
        let ready = condition::is_true(status.conditions.as_deref().unwrap(), "Ready");
        format!(
            "{} {} ready={ready}",
            status.phase.unwrap(),
            states.join(",")
        )
    }
}

fn pulled(container: usize) -> Event {
    Event::Pulled {
        container,
        result: Ok("hello@sha256:1".into()),
    }
}

fn started(container: usize, incarnation: u32) -> Event {
    Event::Started {
        container,
        incarnation,
        result: Ok(()),
    }
}

fn exited(container: usize, code: i32, reason: ExitReason) -> Event {
    Event::Exited {
        container,
        incarnation: 0,
        exit: Exit {
            code,
            reason,
            message: "why".into(),
        },
    }
}

fn one(policy: &str) -> Case {
    Case::new(json!({"restartPolicy": policy, "containers": [{"name": "m", "image": "m"}]}))
}

#[test]
fn a_pod_comes_up() {
    let mut case = one("Always");
    assert_eq!(case.summary(), "Pending ContainerCreating ready=false");
    case.step(0, Event::SandboxReady);
    assert_eq!(case.summary(), "Pending ContainerCreating ready=false");
    case.step(0, pulled(0)).step(0, started(0, 0));
    assert_eq!(case.summary(), "Running running ready=true");
    let status = case.status(None, 0);
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("wasmorch://u.m.0"));
    assert_eq!(container.image_id, "hello@sha256:1");
    assert_eq!(
        (container.started, container.restart_count),
        (Some(true), 0)
    );
    assert_eq!(status.pod_ip.as_deref(), Some("10.64.0.2"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
}

#[test]
fn failures_have_kubernetes_reasons() {
    let failure = |problem| PullFailure {
        problem,
        message: "module \"m\" not found".into(),
    };
    let failed_pull = |problem| Event::Pulled {
        container: 0,
        result: Err(failure(problem)),
    };
    let mut case = one("Always");
    case.step(0, Event::SandboxReady)
        .step(0, failed_pull(PullProblem::Missing));
    assert_eq!(case.summary(), "Pending ErrImagePull ready=false");
    case.step(1, Event::Tick)
        .step(1, failed_pull(PullProblem::Missing));
    assert_eq!(case.summary(), "Pending ImagePullBackOff ready=false");
    let mut case = one("Always");
    case.step(0, Event::SandboxReady)
        .step(0, failed_pull(PullProblem::Never));
    assert_eq!(case.summary(), "Pending ErrImageNeverPull ready=false");
    let mut case = one("Always");
    case.step(0, Event::SandboxReady)
        .step(0, failed_pull(PullProblem::CompileTimeout));
    assert_eq!(case.summary(), "Pending CompileTimeout ready=false");
    case.step(100, Event::Tick)
        .step(100, failed_pull(PullProblem::CompileTimeout));
    assert_eq!(case.summary(), "Pending CompileTimeout ready=false");
    let mut case = one("Always");
    let refused = Event::Started {
        container: 0,
        incarnation: 0,
        result: Err(StartFailure::Config("configmap \"x\" not found".into())),
    };
    case.step(0, Event::SandboxReady)
        .step(0, pulled(0))
        .step(0, refused);
    assert_eq!(
        case.summary(),
        "Pending CreateContainerConfigError ready=false"
    );
}

#[test]
fn endings_by_policy() {
    let cases = [
        (
            "Never",
            0,
            ExitReason::Completed,
            "Succeeded Completed ready=false",
        ),
        ("Never", 1, ExitReason::Error, "Failed Error ready=false"),
        (
            "Never",
            137,
            ExitReason::OomKilled,
            "Failed OOMKilled ready=false",
        ),
        (
            "OnFailure",
            0,
            ExitReason::Completed,
            "Succeeded Completed ready=false",
        ),
    ];
    for (policy, code, reason, expected) in cases {
        let mut case = one(policy);
        case.step(0, Event::SandboxReady)
            .step(0, pulled(0))
            .step(0, started(0, 0));
        case.step(1, exited(0, code, reason));
        assert_eq!(case.summary(), expected);
    }
}

#[test]
fn a_crash_loop_is_running_with_its_last_state() {
    let mut case = one("Always");
    case.step(0, Event::SandboxReady)
        .step(0, pulled(0))
        .step(0, started(0, 0));
    case.step(1, exited(0, 1, ExitReason::Error))
        .step(1, pulled(0))
        .step(1, started(0, 1));
    let second = Event::Exited {
        container: 0,
        incarnation: 1,
        exit: Exit {
            code: 2,
            reason: ExitReason::Error,
            message: String::new(),
        },
    };
    case.step(2, second);
    assert_eq!(case.summary(), "Running CrashLoopBackOff ready=false");
    let status = case.status(None, 0);
    let container = &status.container_statuses.unwrap()[0];
    let last = container
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!((last.exit_code, container.restart_count), (2, 1));
}

#[test]
fn init_containers_show_their_turn() {
    let mut case = Case::new(
        json!({"initContainers": [{"name": "i", "image": "i"}, {"name": "j", "image": "j"}],
        "containers": [{"name": "m", "image": "m"}]}),
    );
    case.step(0, Event::SandboxReady)
        .step(0, pulled(0))
        .step(0, started(0, 0));
    assert_eq!(
        case.summary(),
        "Pending running,PodInitializing,PodInitializing ready=false"
    );
    let status = case.status(None, 0);
    let initialized =
        condition::find(status.conditions.as_deref().unwrap(), "Initialized").unwrap();
    assert_eq!(
        initialized.message.as_deref(),
        Some("containers with incomplete status: [i j]")
    );
}

#[test]
fn a_deleted_pod_is_not_ready_though_it_serves() {
    let mut case = one("Always");
    case.step(0, Event::SandboxReady)
        .step(0, pulled(0))
        .step(0, started(0, 0));
    case.step(
        1,
        Event::Delete {
            grace: Duration::from_secs(30),
        },
    );
    assert_eq!(case.summary(), "Running running ready=false");
}

#[test]
fn transition_times_move_only_with_their_condition() {
    let mut case = one("Always");
    let first = case.status(None, 10);
    let second = case.status(Some(&first), 20);
    assert_eq!(first, second);
    case.step(0, Event::SandboxReady)
        .step(0, pulled(0))
        .step(0, started(0, 0));
    let third = case.status(Some(&second), 30);
    let since = |status: &PodStatus, kind: &str| {
        let conditions = status.conditions.clone().unwrap();
        let found = condition::find(&conditions, kind).unwrap().clone();
        found.last_transition_time.unwrap().0.as_second()
    };
    assert_eq!(
        (since(&third, "Ready"), since(&third, "Initialized")),
        (30, 10)
    );
}

#[test]
fn conditions_of_others_are_kept_and_gates_hold() {
    let mut case = Case::new(
        json!({"readinessGates": [{"conditionType": "gate"}], "containers": [{"name": "m", "image": "m"}]}),
    );
    case.step(0, Event::SandboxReady)
        .step(0, pulled(0))
        .step(0, started(0, 0));
    case.pod.status = Some(
        serde_json::from_value(json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}))
            .unwrap(),
    );
    assert_eq!(case.summary(), "Running running ready=false");
    let status = case.status(None, 0);
    let conditions = status.conditions.unwrap();
    assert!(condition::is_true(&conditions, "PodScheduled"));
    assert!(condition::is_true(&conditions, "ContainersReady"));
}
