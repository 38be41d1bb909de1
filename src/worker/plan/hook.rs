//! Lifecycle hooks, parsed: what is done right after a container's start and right before its stop.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::Error;
use crate::worker::probes::{self, Action};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    PostStart,
    PreStop,
}

impl HookKind {
    /// The reason of the event that tells of its failure.
    pub fn failure(self) -> &'static str {
        match self {
            Self::PostStart => "FailedPostStartHook",
            Self::PreStop => "FailedPreStopHook",
        }
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    Sleep(Duration),
    /// `exec` or `httpGet`.
    Ask(Action),
}

/// The hooks of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    pub post_start: Option<Hook>,
    pub pre_stop: Option<Hook>,
}

impl Hooks {
    /// Parses.
    pub(super) fn of(container: &Container) -> Result<Self, Error> {
        let Some(lifecycle) = &container.lifecycle else {
            return Ok(Self::default());
        };
        let parse = |what, handler: &Option<LifecycleHandler>| {
            handler
                .as_ref()
                .map(|handler| hook(what, handler, container))
                .transpose()
        };
        Ok(Self {
            post_start: parse("postStart hook", &lifecycle.post_start)?,
            pre_stop: parse("preStop hook", &lifecycle.pre_stop)?,
        })
    }

    pub fn get(&self, kind: HookKind) -> Option<&Hook> {
        match kind {
            HookKind::PostStart => self.post_start.as_ref(),
            HookKind::PreStop => self.pre_stop.as_ref(),
        }
    }

    /// How long `preStop` sleeps.
    pub fn pre_stop_sleep(&self) -> Duration {
        match self.pre_stop {
            Some(Hook::Sleep(length)) => length,
            Some(Hook::Ask(_)) | None => Duration::ZERO,
        }
    }
}

fn hook(
    what: &'static str,
    handler: &LifecycleHandler,
    container: &Container,
) -> Result<Hook, Error> {
    let failed = |source| Error::Hook {
        container: container.name.clone(),
        source,
    };
    if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
        return Ok(Hook::Sleep(Duration::from_secs(seconds)));
    }
    let action = match (&handler.exec, &handler.http_get) {
        (Some(exec), _) => probes::exec_action(what, exec),
        (None, Some(http)) => probes::http_action(what, http, container),
        (None, None) => Err(probes::Error::Empty(what)),
    };
    action.map(Hook::Ask).map_err(failed)
}
