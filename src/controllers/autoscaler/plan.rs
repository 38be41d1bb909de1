//! One look at an autoscaler: its wish, what is granted of it, and what is said of both. Pure.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::limit::{self, Bound, Memory};
use super::metric::Proposal;
use crate::api::condition::{self, Status};
use crate::controllers::events::Notice;

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The replicas to set, if they are others.
    pub(super) scale: Option<i32>,
    pub(super) status: HorizontalPodAutoscalerStatus,
    pub(super) notices: Vec<Notice>,
}

/// What was observed of the target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// `spec.replicas` of its scale.
    pub(super) wanted: i32,
    /// `status.replicas` of its scale.
    pub(super) there: i32,
}

type Conditions = Vec<HorizontalPodAutoscalerCondition>;

fn say(
    conditions: &mut Conditions,
    kind: &str,
    is_true: bool,
    words: (&str, &str),
    now: Timestamp,
) {
    condition::set(conditions, kind, Status::from(is_true), words, now);
}

/// The status when the target cannot be scaled at all.
pub(super) fn unscalable(scaler: &HorizontalPodAutoscaler, why: &str, now: Timestamp) -> Plan {
    let mut plan = begin(scaler);
    let conditions = plan.status.conditions.get_or_insert_default();
    let message = format!("the HPA controller was unable to get the target's current scale: {why}");
    say(
        conditions,
        "AbleToScale",
        false,
        ("FailedGetScale", &message),
        now,
    );
    plan.notices
        .push(Notice::warning("FailedGetScale", why.to_owned()));
    plan
}

fn begin(scaler: &HorizontalPodAutoscaler) -> Plan {
    let mut status = scaler.status.clone().unwrap_or_default();
    status.observed_generation = scaler.metadata.generation;
    Plan {
        status,
        ..Plan::default()
    }
}

pub(super) fn plan(
    scaler: &HorizontalPodAutoscaler,
    spec: &HorizontalPodAutoscalerSpec,
    target: Target,
    proposals: Vec<Result<Proposal, String>>,
    memory: &mut Memory,
    now: Timestamp,
) -> Plan {
    let mut plan = begin(scaler);
    plan.status.current_replicas = Some(target.there);
    let mut conditions = plan.status.conditions.take().unwrap_or_default();
    let found = (
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    say(&mut conditions, "AbleToScale", true, found, now);
    let min = spec.min_replicas.unwrap_or(1);
    let (granted, reason) = if target.wanted == 0 {
        let words = (
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero",
        );
        say(&mut conditions, "ScalingActive", false, words, now);
        (0, String::new())
    } else if target.wanted > spec.max_replicas {
        let reason = "Current number of replicas above Spec.MaxReplicas";
        (spec.max_replicas, reason.to_owned())
    } else if target.wanted < min {
        (
            min,
            "Current number of replicas below Spec.MinReplicas".to_owned(),
        )
    } else {
        follow(
            &mut plan,
            &mut conditions,
            spec,
            target,
            proposals,
            (memory, now),
        )
    };
    if granted != target.wanted {
        let message =
            format!("the HPA controller was able to update the target scale to {granted}");
        say(
            &mut conditions,
            "AbleToScale",
            true,
            ("SucceededRescale", &message),
            now,
        );
        let notice = format!("New size: {granted}; reason: {reason}");
        plan.notices
            .push(Notice::normal("SuccessfulRescale", notice));
        plan.scale = Some(granted);
        plan.status.last_scale_time = Some(Time(now));
        memory.changes.push((now, granted - target.wanted));
    }
    plan.status.desired_replicas = granted;
    plan.status.conditions = Some(conditions);
    plan
}

/// The wish of the metrics, held within what is allowed.
fn follow(
    plan: &mut Plan,
    conditions: &mut Conditions,
    spec: &HorizontalPodAutoscalerSpec,
    target: Target,
    proposals: Vec<Result<Proposal, String>>,
    (memory, now): (&mut Memory, Timestamp),
) -> (i32, String) {
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    let mut failure = None;
    let mut best: Option<Proposal> = None;
    let mut statuses = Vec::new();
    for (metric, proposal) in metrics.iter().zip(proposals) {
        match proposal {
            Ok(proposal) => {
                statuses.push(proposal.status.clone());
                if best
                    .as_ref()
                    .is_none_or(|best| proposal.replicas > best.replicas)
                {
                    best = Some(proposal);
                }
            }
            Err(why) => {
                let reason = if metric.type_ == "ContainerResource" {
                    "FailedGetContainerResourceMetric"
                } else {
                    "FailedGetResourceMetric"
                };
                failure.get_or_insert((reason, why));
            }
        }
    }
    plan.status.current_metrics = Some(statuses).filter(|all| !all.is_empty());
    // A figure that is missing may be one that calls for more: without it nothing shrinks.
    let is_safe = |best: &Proposal| failure.is_none() || best.replicas >= target.wanted;
    let Some(best) = best.filter(is_safe) else {
        let (reason, why) = failure.unwrap_or(("InvalidMetricSourceType", "no metrics".to_owned()));
        let message = format!(
            "the HPA was unable to compute the replica count: failed to get the metrics: {why}"
        );
        say(conditions, "ScalingActive", false, (reason, &message), now);
        plan.notices.push(Notice::warning(reason, why.clone()));
        let message = format!("invalid metrics, first error is: {why}");
        plan.notices
            .push(Notice::warning("FailedComputeMetricsReplicas", message));
        return (target.wanted, String::new());
    };
    let message = format!(
        "the HPA was able to successfully calculate a replica count from {}",
        best.name
    );
    say(
        conditions,
        "ScalingActive",
        true,
        ("ValidMetricFound", &message),
        now,
    );
    memory.wish(now, best.replicas);
    let (granted, bounds) = limit::limit(spec, memory, (target.wanted, best.replicas), now);
    tell_bounds(conditions, spec, bounds, now);
    let reason = if granted > target.wanted {
        format!("{} above target", best.name)
    } else {
        "All metrics below target".to_owned()
    };
    (granted, reason)
}

fn tell_bounds(
    conditions: &mut Conditions,
    spec: &HorizontalPodAutoscalerSpec,
    bounds: [Bound; 2],
    now: Timestamp,
) {
    let mut is_limited = false;
    for bound in bounds {
        let (reason, message) = match bound {
            Bound::None => continue,
            Bound::StabilizedDown => {
                let words = (
                    "ScaleDownStabilized",
                    "recent recommendations were higher than current one, applying the highest recent recommendation",
                );
                say(conditions, "AbleToScale", true, words, now);
                continue;
            }
            Bound::StabilizedUp => {
                let words = (
                    "ScaleUpStabilized",
                    "recent recommendations were lower than current one, applying the lowest recent recommendation",
                );
                say(conditions, "AbleToScale", true, words, now);
                continue;
            }
            Bound::UpLimit => (
                "ScaleUpLimit",
                "the desired replica count is increasing faster than the maximum scale rate",
            ),
            Bound::DownLimit => (
                "ScaleDownLimit",
                "the desired replica count is decreasing faster than the maximum scale rate",
            ),
            Bound::TooMany => (
                "TooManyReplicas",
                "the desired replica count is more than the maximum replica count",
            ),
            Bound::TooFew => (
                "TooFewReplicas",
                "the desired replica count is less than the minimum replica count",
            ),
        };
        is_limited = true;
        say(conditions, "ScalingLimited", true, (reason, message), now);
    }
    if bounds[0] == Bound::None && spec.behavior.is_none() {
        let words = ("ReadyForNewScale", "recommended size matches current size");
        say(conditions, "AbleToScale", true, words, now);
    }
    if !is_limited {
        let words = (
            "DesiredWithinRange",
            "the desired count is within the acceptable range",
        );
        say(conditions, "ScalingLimited", false, words, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::autoscaling::v2::MetricStatus;
    use serde_json::json;

    fn look(wanted: i32, proposals: &[Result<i32, &str>]) -> Plan {
        let metric = json!({"type": "Resource"});
        let metrics: Vec<_> = proposals.iter().map(|_| metric.clone()).collect();
        let scaler: HorizontalPodAutoscaler = serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"minReplicas": 2, "maxReplicas": 9, "scaleTargetRef": {"kind": "", "name": ""}, "metrics": metrics}}))
        .unwrap();
        let proposal = |replicas: &i32| Proposal {
            replicas: *replicas,
            name: "cpu resource utilization (percentage of request)".into(),
            status: MetricStatus::default(),
        };
        let proposals = proposals
            .iter()
            .map(|it| it.as_ref().map(proposal).map_err(|why| (*why).to_owned()));
        let target = Target {
            wanted,
            there: wanted,
        };
        plan(
            &scaler,
            scaler.spec.as_ref().unwrap(),
            target,
            proposals.collect(),
            &mut Memory::default(),
            Timestamp::UNIX_EPOCH,
        )
    }

    fn reason<'a>(plan: &'a Plan, kind: &str) -> (&'a str, &'a str) {
        let conditions = plan.status.conditions.as_deref().unwrap();
        let found = condition::find(conditions, kind).unwrap();
        (&found.status, found.reason.as_deref().unwrap())
    }

    #[test]
    fn the_greatest_wish_is_granted_within_bounds() {
        let more = look(3, &[Ok(4), Ok(5)]);
        assert_eq!((more.scale, more.status.desired_replicas), (Some(5), 5));
        assert_eq!(reason(&more, "AbleToScale"), ("True", "SucceededRescale"));
        assert_eq!(reason(&more, "ScalingActive"), ("True", "ValidMetricFound"));
        assert_eq!(
            reason(&more, "ScalingLimited"),
            ("False", "DesiredWithinRange")
        );
        assert_eq!(
            more.notices[0].message,
            "New size: 5; reason: cpu resource utilization (percentage of request) above target"
        );
        let too_few = look(3, &[Ok(1)]);
        assert_eq!(too_few.scale, Some(2));
        assert_eq!(
            reason(&too_few, "ScalingLimited"),
            ("True", "TooFewReplicas")
        );
        let same = look(3, &[Ok(3)]);
        assert_eq!((same.scale, same.notices.len()), (None, 0));
        assert_eq!(reason(&same, "AbleToScale"), ("True", "ReadyForNewScale"));
    }

    #[test]
    fn nothing_shrinks_without_its_figures() {
        let none = look(3, &[Err("no figures")]);
        assert_eq!((none.scale, none.status.desired_replicas), (None, 3));
        assert_eq!(
            reason(&none, "ScalingActive"),
            ("False", "FailedGetResourceMetric")
        );
        assert_eq!(look(3, &[Err("no figures"), Ok(2)]).scale, None);
        assert_eq!(look(3, &[Err("no figures"), Ok(5)]).scale, Some(5));
    }

    #[test]
    fn a_target_at_zero_rests_and_one_out_of_bounds_is_brought_back() {
        let off = look(0, &[Ok(5)]);
        assert_eq!(off.scale, None);
        assert_eq!(reason(&off, "ScalingActive"), ("False", "ScalingDisabled"));
        assert_eq!(look(12, &[Ok(12)]).scale, Some(9));
        assert_eq!(look(1, &[Ok(1)]).scale, Some(2));
    }
}
