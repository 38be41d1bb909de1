//! How a container ended, in Kubernetes' words. It outlives its incarnation: it is what
//! `lastState` shows and what a checkpoint keeps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::runtime::spec::ExitReason;

/// How a container ended, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    pub incarnation: u32,
    pub code: i32,
    pub reason: TerminationReason,
    pub message: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

/// Kubernetes' words for an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminationReason {
    Completed,
    Error,
    OomKilled,
    DeadlineExceeded,
    /// It never ran: the runtime refused it.
    StartError,
    /// Its worker process ended with it.
    Unknown,
}

impl TerminationReason {
    /// The wire form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::StartError => "StartError",
            Self::Unknown => "ContainerStatusUnknown",
        }
    }
}

impl From<ExitReason> for TerminationReason {
    fn from(reason: ExitReason) -> Self {
        match reason {
            ExitReason::Completed => Self::Completed,
            ExitReason::Error | ExitReason::Killed => Self::Error,
            ExitReason::OomKilled => Self::OomKilled,
            ExitReason::DeadlineExceeded => Self::DeadlineExceeded,
        }
    }
}
