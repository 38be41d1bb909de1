//! A pod's status as a pure function of what was observed (the lifecycle machine) and of what was
//! said before. Nothing is claimed that did not happen: `Running` follows a start, `Ready` follows
//! the probes, and a transition time moves only when its condition does.
//!
//! Conditions that others write (`PodScheduled`, readiness gates, `DisruptionTarget`) are kept.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::lifecycle::{
    ContainerRun, Lifecycle, PullProblem, Run, Running, Stage, Termination, TerminationReason,
};
use super::qos;
use super::restart::Role;
use crate::api::condition::{self, Status};
use crate::api::pod::Phase;

/// What the status says besides the lifecycle.
pub struct Observation<'a> {
    pub pod: &'a Pod,
    pub lifecycle: &'a Lifecycle,
    /// What this worker said last; where transition times come from.
    pub prior: Option<&'a PodStatus>,
    pub pod_ip: Option<IpAddr>,
    pub host_ip: IpAddr,
    /// The worker process is ending, and the pod with it, for now.
    pub is_leaving: bool,
}

/// Computes the status.
pub fn pod_status(observed: &Observation<'_>, now: Timestamp) -> PodStatus {
    let lifecycle = observed.lifecycle;
    let phase = phase(lifecycle);
    let failure = lifecycle.failure();
    let waiting = match lifecycle.stage() {
        Stage::Preparing { message, .. } if !message.is_empty() => Some(message.clone()),
        Stage::Preparing { .. }
        | Stage::Live
        | Stage::Ending(_)
        | Stage::Finished
        | Stage::Gone => None,
    };
    let statuses = container_statuses(observed);
    let of = |roles: &[Role]| {
        let chosen = statuses.iter().filter(|(role, _)| roles.contains(role));
        let chosen: Vec<_> = chosen.map(|(_, status)| status.clone()).collect();
        (!chosen.is_empty()).then_some(chosen)
    };
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason: failure.map(|failure| failure.reason.clone()),
        message: failure.map(|failure| failure.message.clone()).or(waiting),
        conditions: Some(conditions(observed, phase, now)),
        host_ip: Some(observed.host_ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: observed.host_ip.to_string(),
        }]),
        pod_ip: observed.pod_ip.map(|ip| ip.to_string()),
        pod_ips: observed.pod_ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        start_time: Some(Time(lifecycle.started_at())),
        qos_class: Some(qos::class(observed.pod).to_owned()),
        init_container_statuses: of(&[Role::Init, Role::Sidecar]),
        container_statuses: of(&[Role::Main]),
        ephemeral_container_statuses: of(&[Role::Ephemeral]),
        observed_generation: observed.pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// The phase, by Kubernetes' rules. A pod has ended when nothing of it runs any more, its sidecars
/// included.
pub fn phase(lifecycle: &Lifecycle) -> Phase {
    let roles = lifecycle.plan().containers.iter().map(|plan| plan.role);
    let all: Vec<_> = roles.zip(lifecycle.containers()).collect();
    let main = || all.iter().filter(|(role, _)| *role == Role::Main);
    let runs = all.iter().any(|(_, run)| run.running().is_some());
    let has_begun = |run: &ContainerRun| run.running().is_some() || run.last.is_some();
    let init_failed = all
        .iter()
        .any(|(role, run)| *role == Role::Init && run.is_done() && !has_succeeded(run));
    let ended = if lifecycle.failure().is_some() || init_failed {
        Some(Phase::Failed)
    } else if main().all(|(_, container)| container.is_done()) {
        let succeeded = main().all(|(_, run)| has_succeeded(run));
        Some(if succeeded {
            Phase::Succeeded
        } else {
            Phase::Failed
        })
    } else {
        None
    };
    match ended {
        Some(ended) if !runs => ended,
        Some(_) | None
            if lifecycle.is_initialized() && main().all(|(_, container)| has_begun(container)) =>
        {
            Phase::Running
        }
        Some(_) | None => Phase::Pending,
    }
}

fn has_succeeded(run: &ContainerRun) -> bool {
    run.last.as_ref().is_some_and(|last| last.code == 0)
}

/// Whether the containers get traffic: a pod on its way out gets none.
fn serves(observed: &Observation<'_>) -> bool {
    matches!(observed.lifecycle.stage(), Stage::Live) && !observed.is_leaving
}

fn conditions(observed: &Observation<'_>, phase: Phase, now: Timestamp) -> Vec<PodCondition> {
    let lifecycle = observed.lifecycle;
    let mut conditions = foreign_conditions(observed);
    let has_sandbox = match lifecycle.stage() {
        Stage::Live | Stage::Ending(_) => observed.pod_ip.is_some(),
        Stage::Preparing { .. } | Stage::Finished | Stage::Gone => false,
    };
    let name_if = |is_named: &dyn Fn(Role, &ContainerRun) -> bool| {
        let plans = lifecycle.plan().containers.iter();
        let named = plans.zip(lifecycle.containers());
        let names: Vec<&str> = named
            .filter(|(plan, run)| is_named(plan.role, run))
            .map(|(plan, _)| plan.name.as_str())
            .collect();
        names.join(" ")
    };
    let mut set = |kind: &str, is_true: bool, reason: &str, message: &str| {
        let (reason, message) = if is_true { ("", "") } else { (reason, message) };
        let why = (reason, message);
        condition::set(&mut conditions, kind, Status::from(is_true), why, now);
    };
    set("PodReadyToStartContainers", has_sandbox, "", "");
    let unfinished = name_if(&|role, run| match role {
        Role::Init => !(run.is_done() && has_succeeded(run)),
        Role::Sidecar => !run.was_started,
        Role::Main | Role::Ephemeral => false,
    });
    let is_terminal = phase.is_terminal();
    let is_initialized = lifecycle.is_initialized() || phase == Phase::Succeeded;
    let incomplete = format!("containers with incomplete status: [{unfinished}]");
    set(
        "Initialized",
        is_initialized,
        "ContainersNotInitialized",
        &incomplete,
    );
    let unready = name_if(&|role, run| match role {
        Role::Sidecar | Role::Main => !run.is_ready(),
        Role::Init | Role::Ephemeral => false,
    });
    let is_ready = unready.is_empty() && serves(observed);
    let (reason, message) = match phase {
        Phase::Succeeded => ("PodCompleted", String::new()),
        Phase::Failed if is_terminal => ("PodFailed", String::new()),
        Phase::Pending | Phase::Running | Phase::Failed | Phase::Unknown => (
            "ContainersNotReady",
            format!("containers with unready status: [{unready}]"),
        ),
    };
    set("ContainersReady", is_ready, reason, &message);
    let closed_gate = closed_gate(observed);
    match closed_gate {
        Some(gate) if is_ready => {
            let message = format!("the status of pod readiness gate \"{gate}\" is not \"True\"");
            set("Ready", false, "ReadinessGatesNotReady", &message);
        }
        Some(_) | None => set("Ready", is_ready, reason, &message),
    }
    conditions
}

const OWN_CONDITIONS: [&str; 4] = [
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
];

/// Own conditions as they were last said, the others as the API has them.
fn foreign_conditions(observed: &Observation<'_>) -> Vec<PodCondition> {
    let is_own = |condition: &PodCondition| OWN_CONDITIONS.contains(&condition.type_.as_str());
    let from_api = crate::api::pod::conditions(observed.pod);
    let own_prior = match observed.prior {
        Some(prior) => prior.conditions.as_deref().unwrap_or_default(),
        None => from_api,
    };
    let own = own_prior.iter().filter(|condition| is_own(condition));
    let foreign = from_api.iter().filter(|condition| !is_own(condition));
    own.chain(foreign).cloned().collect()
}

fn closed_gate<'a>(observed: &Observation<'a>) -> Option<&'a str> {
    let gates = observed.pod.spec.as_ref()?.readiness_gates.as_ref()?;
    let conditions = crate::api::pod::conditions(observed.pod);
    gates
        .iter()
        .map(|gate| gate.condition_type.as_str())
        .find(|gate| !condition::is_true(conditions, gate))
}

fn container_statuses(observed: &Observation<'_>) -> Vec<(Role, ContainerStatus)> {
    let lifecycle = observed.lifecycle;
    let uid = observed.pod.metadata.uid.as_deref().unwrap_or_default();
    let containers = lifecycle.plan().containers.iter();
    containers
        .zip(lifecycle.containers())
        .map(|(plan, run)| {
            let id = |incarnation: u32| format!("wasmorch://{uid}.{}.{incarnation}", plan.name);
            let last_known = run.last.as_ref().map(|last| last.incarnation);
            let current = run.running().map(|running| running.incarnation);
            let is_ready = match plan.role {
                Role::Init => run.is_done() && has_succeeded(run),
                Role::Sidecar | Role::Main => run.is_ready() && serves(observed),
                Role::Ephemeral => false,
            };
            let status = ContainerStatus {
                name: plan.name.clone(),
                image: plan.image.to_string(),
                image_id: run.image_id.clone().unwrap_or_default(),
                container_id: current.or(last_known).map(id),
                ready: is_ready,
                started: Some(run.running().is_some_and(Running::is_started)),
                restart_count: i32::try_from(run.restart_count()).unwrap_or(i32::MAX),
                state: Some(state(run, plan.role, lifecycle, &id)),
                last_state: last_state(run).map(|last| terminated(last, &id)),
                ..ContainerStatus::default()
            };
            (plan.role, status)
        })
        .collect()
}

fn last_state(run: &ContainerRun) -> Option<&Termination> {
    if run.is_done() {
        run.previous.as_ref()
    } else {
        run.last.as_ref()
    }
}

fn state(
    run: &ContainerRun,
    role: Role,
    lifecycle: &Lifecycle,
    id: &dyn Fn(u32) -> String,
) -> ContainerState {
    let creating = || match role {
        Role::Main if !lifecycle.is_initialized() => "PodInitializing",
        Role::Init | Role::Sidecar if run.is_idle() && !is_next(lifecycle, run) => {
            "PodInitializing"
        }
        Role::Init | Role::Sidecar | Role::Main | Role::Ephemeral => "ContainerCreating",
    };
    match &run.run {
        Run::Idle | Run::Pulling { attempts: 0 } | Run::Starting { attempts: 0, .. } => {
            waiting(creating(), None)
        }
        Run::Pulling { .. } => waiting("ErrImagePull", None),
        Run::PullBackOff {
            failure, attempts, ..
        } => waiting(
            pull_reason(failure.problem, *attempts),
            Some(&failure.message),
        ),
        Run::Starting { .. } => waiting("CreateContainerConfigError", None),
        Run::StartBackOff { failure, .. } => waiting(failure.reason(), Some(failure.message())),
        Run::Running(running) | Run::Stopping { running, .. } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(running.since)),
            }),
            ..ContainerState::default()
        },
        Run::CrashBackOff { .. } => waiting(
            "CrashLoopBackOff",
            Some("back-off restarting failed container"),
        ),
        Run::Done => match &run.last {
            Some(last) => terminated(last, id),
            None => waiting(creating(), None),
        },
    }
}

fn is_next(lifecycle: &Lifecycle, run: &ContainerRun) -> bool {
    let first = lifecycle.containers().iter().find(|run| !run.is_done());
    first.is_some_and(|first| std::ptr::eq(first, run))
}

/// The first failure is told as such, the following ones as back-off, as Kubernetes alternates. What
/// no further try is likely to mend keeps its name.
fn pull_reason(problem: PullProblem, attempts: u32) -> &'static str {
    match (problem, attempts) {
        (PullProblem::Never, _) => "ErrImageNeverPull",
        (PullProblem::CompileTimeout, _) => "CompileTimeout",
        (PullProblem::Missing | PullProblem::Other, 0 | 1) => "ErrImagePull",
        (PullProblem::Missing | PullProblem::Other, _) => "ImagePullBackOff",
    }
}

fn waiting(reason: &str, message: Option<&str>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: message.map(str::to_owned),
        }),
        ..ContainerState::default()
    }
}

/// What a termination message may hold, as in Kubernetes.
const MESSAGE_BYTES: usize = 4096;

fn terminated(last: &Termination, id: &dyn Fn(u32) -> String) -> ContainerState {
    let end = last.message.floor_char_boundary(MESSAGE_BYTES);
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(id(last.incarnation)),
            exit_code: last.code,
            reason: Some(last.reason.as_str().to_owned()),
            message: (end > 0).then(|| last.message[..end].to_owned()),
            started_at: Some(Time(last.started_at)),
            finished_at: Some(Time(last.finished_at)),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

/// The incarnation that a `containerID` made here names.
pub fn incarnation(id: &str) -> Option<u32> {
    id.rsplit_once('.')?.1.parse().ok()
}

/// An ending read back from a status, after the worker's own memory of it was lost.
pub fn termination(state: &ContainerStateTerminated, restarts: u32) -> Termination {
    let reason = match state.reason.as_deref() {
        Some("Completed") => TerminationReason::Completed,
        Some("OOMKilled") => TerminationReason::OomKilled,
        Some("DeadlineExceeded") => TerminationReason::DeadlineExceeded,
        Some("StartError") => TerminationReason::StartError,
        Some("ContainerStatusUnknown") => TerminationReason::Unknown,
        None | Some(_) => TerminationReason::Error,
    };
    let time = |time: &Option<Time>| time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Termination {
        incarnation: restarts,
        code: state.exit_code,
        reason,
        message: state.message.clone().unwrap_or_default(),
        started_at: time(&state.started_at),
        finished_at: time(&state.finished_at),
    }
}

#[cfg(test)]
mod tests;
