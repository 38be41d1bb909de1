//! Conditions: one sentence each about an object's state, with the time at which it changed.
//!
//! `lastTransitionTime` moves only when `status` does (API conventions, "Typical status
//! properties"); a controller that rewrites it on every pass makes every pass a write.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, ReplicaSetCondition};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition;
use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::api::core::v1::{NamespaceCondition, NodeCondition, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    /// The wire form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// What the condition types of the API have in common.
pub trait Condition: Sized {
    /// Builds one.
    fn new(kind: &str, status: Status, reason: &str, message: &str, since: Timestamp) -> Self;
    /// Its `type`.
    fn kind(&self) -> &str;
    /// Its `status`.
    fn status(&self) -> &str;
    /// Since when it has had that status.
    fn since(&self) -> Option<Timestamp>;
}

macro_rules! condition {
    ($($name:ident { $($optional:ident),* })*) => {$(
        impl Condition for $name {
            #[allow(clippy::needless_update, reason = "only some of the types have further fields")]
            fn new(kind: &str, status: Status, reason: &str, message: &str, since: Timestamp) -> Self {
                Self {
                    type_: kind.to_owned(),
                    status: status.as_str().to_owned(),
                    reason: (!reason.is_empty()).then(|| reason.to_owned()),
                    message: (!message.is_empty()).then(|| message.to_owned()),
                    last_transition_time: Some(Time(since)),
                    $($optional: Some(Time(since)),)*
                    ..Default::default()
                }
            }
            fn kind(&self) -> &str { &self.type_ }
            fn status(&self) -> &str { &self.status }
            fn since(&self) -> Option<Timestamp> { self.last_transition_time.as_ref().map(|time| time.0) }
        }
    )*};
}

condition! {
    PodCondition {}
    NodeCondition { last_heartbeat_time }
    DeploymentCondition { last_update_time }
    ReplicaSetCondition {}
    NamespaceCondition {}
    HorizontalPodAutoscalerCondition {}
    JobCondition { last_probe_time }
}

/// Finds a condition by type.
pub fn find<'a, C: Condition>(conditions: &'a [C], kind: &str) -> Option<&'a C> {
    conditions.iter().find(|condition| condition.kind() == kind)
}

/// Whether the condition is there and `True`.
pub fn is_true<C: Condition>(conditions: &[C], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status() == "True")
}

/// Sets a condition in place; the transition time moves only if the status changes.
pub fn set<C: Condition>(
    conditions: &mut Vec<C>,
    kind: &str,
    status: Status,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    match conditions
        .iter_mut()
        .find(|condition| condition.kind() == kind)
    {
        Some(condition) => {
            let unchanged = condition.status() == status.as_str();
            let since = condition.since().filter(|_| unchanged).unwrap_or(now);
            *condition = C::new(kind, status, reason, message, since);
        }
        None => conditions.push(C::new(kind, status, reason, message, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let (first, second) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let mut conditions: Vec<PodCondition> = Vec::new();
        set(&mut conditions, "Ready", Status::False, ("A", ""), first);
        set(&mut conditions, "Ready", Status::False, ("B", ""), second);
        assert_eq!(find(&conditions, "Ready").unwrap().since(), Some(first));
        set(&mut conditions, "Ready", Status::True, ("", ""), second);
        assert_eq!(find(&conditions, "Ready").unwrap().since(), Some(second));
        assert!(is_true(&conditions, "Ready"));
        assert_eq!(conditions.len(), 1);
    }
}
