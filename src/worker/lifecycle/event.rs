//! What the machine is told, and what it asks for in answer.

use std::sync::Arc;
use std::time::Duration;

use super::StartFailure;
use crate::runtime::spec::Exit;
use crate::worker::plan::{HookKind, PodPlan};
use crate::worker::probes::Kind;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    SandboxReady,
    SandboxFailed {
        reason: &'static str,
        message: String,
    },
    Pulled {
        container: usize,
        result: Result<String, PullFailure>,
    },
    Started {
        container: usize,
        incarnation: u32,
        result: Result<(), StartFailure>,
    },
    Exited {
        container: usize,
        incarnation: u32,
        exit: Exit,
    },
    Probed {
        container: usize,
        incarnation: u32,
        kind: Kind,
        result: Result<(), String>,
    },
    /// A hook has ended; the error is what the event says.
    Hooked {
        container: usize,
        incarnation: u32,
        kind: HookKind,
        result: Result<(), String>,
    },
    /// The spec has more ephemeral containers than before; all others are as they were.
    Extended(Arc<PodPlan>),
    /// Deletion asked for, with this much grace from now.
    Delete {
        grace: Duration,
    },
    /// The object is gone from the API, or the pod belongs to somebody else now.
    Removed,
    /// Nothing is in flight any more, and routers have had time to see it.
    Drained,
    /// The sandbox is closed.
    Closed,
    /// Time has passed.
    Tick,
}

/// Why an image is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullFailure {
    pub problem: PullProblem,
    pub message: String,
}

/// What an image's failure means for what is said and done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullProblem {
    /// The module or tag does not exist: likely to appear soon, so it is asked for often at first.
    Missing,
    /// `Never` and not on disk: there is nothing to back off from.
    Never,
    /// It is here, and the compiler needs longer for it than it may take.
    CompileTimeout,
    /// Anything else.
    Other,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Prepare,
    Pull {
        container: usize,
    },
    Start {
        container: usize,
        incarnation: u32,
    },
    Stop {
        container: usize,
    },
    Kill {
        container: usize,
    },
    Probe {
        container: usize,
        kind: Kind,
    },
    /// Do what the container's hook says; answered by [`Event::Hooked`].
    Hook {
        container: usize,
        kind: HookKind,
    },
    /// Nobody outside the pod gets a new connection any more.
    Refuse,
    /// Wait for requests in flight; answered by [`Event::Drained`].
    Drain {
        at_least: Duration,
        at_most: Duration,
    },
    CloseSandbox,
    /// Delete the object, grace 0, with its uid as precondition.
    Finalize,
    /// Drop checkpoint, logs and address.
    Forget,
    Record {
        is_warning: bool,
        reason: &'static str,
        message: String,
        container: Option<usize>,
    },
}

impl Effect {
    fn record(is_warning: bool, reason: &'static str, message: String, container: usize) -> Self {
        Self::Record {
            is_warning,
            reason,
            message,
            container: Some(container),
        }
    }

    pub(super) fn warning(reason: &'static str, message: String, container: usize) -> Self {
        Self::record(true, reason, message, container)
    }

    pub(super) fn normal(reason: &'static str, message: String, container: usize) -> Self {
        Self::record(false, reason, message, container)
    }
}
