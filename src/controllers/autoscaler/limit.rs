//! How fast a wish may come true: stabilization windows and policies of `spec.behavior`. Pure.
//!
//! Going down, the highest wish of the window counts; going up, the lowest. Policies then bound the
//! step by what has been scaled within their periods.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec,
};

/// The window going down of an autoscaler that names none.
const DOWN_WINDOW: i32 = 300;
/// More is not remembered; the longest window has 240 looks of 15 seconds.
const MOST_REMEMBERED: usize = 2000;

/// What is remembered of an autoscaler between two looks. It begins anew with the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// What was wished for, and when.
    pub(super) wishes: Vec<(Timestamp, i32)>,
    /// By how much the target was scaled, and when.
    pub(super) changes: Vec<(Timestamp, i32)>,
}

impl Memory {
    pub(super) fn wish(&mut self, now: Timestamp, replicas: i32) {
        let oldest = back(now, 3600);
        self.wishes.retain(|(at, _)| *at >= oldest);
        self.changes.retain(|(at, _)| *at >= oldest);
        for list in [&mut self.wishes, &mut self.changes] {
            let surplus = list.len().saturating_sub(MOST_REMEMBERED);
            list.drain(..surplus);
        }
        self.wishes.push((now, replicas));
    }
}

/// Why the wish was not granted in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    None,
    StabilizedUp,
    StabilizedDown,
    UpLimit,
    DownLimit,
    TooMany,
    TooFew,
}

fn back(now: Timestamp, seconds: i32) -> Timestamp {
    let span = SignedDuration::from_secs(i64::from(seconds));
    now.saturating_sub(span).unwrap_or(now)
}

/// The replicas that may be set now, and what has held them back: stabilization, then limits.
pub(super) fn limit(
    spec: &HorizontalPodAutoscalerSpec,
    memory: &Memory,
    (current, wish): (i32, i32),
    now: Timestamp,
) -> (i32, [Bound; 2]) {
    let behavior = spec.behavior.clone().unwrap_or_default();
    let up = behavior.scale_up.unwrap_or_default();
    let down = behavior.scale_down.unwrap_or_default();
    let stable = stabilized(memory, (&up, &down), (current, wish), now);
    let first = match stable.cmp(&wish) {
        Ordering::Less => Bound::StabilizedUp,
        Ordering::Equal => Bound::None,
        Ordering::Greater => Bound::StabilizedDown,
    };
    let min = spec.min_replicas.unwrap_or(1);
    let (granted, second) = match stable.cmp(&current) {
        Ordering::Greater => {
            let ceiling = ceiling(&up, memory, current, now);
            let most = ceiling.min(spec.max_replicas);
            let bound = match (stable > most, ceiling < spec.max_replicas) {
                (false, _) => Bound::None,
                (true, true) => Bound::UpLimit,
                (true, false) => Bound::TooMany,
            };
            (stable.min(most), bound)
        }
        Ordering::Less => {
            let floor = floor(&down, memory, current, now);
            let least = floor.max(min);
            let bound = match (stable < least, floor > min) {
                (false, _) => Bound::None,
                (true, true) => Bound::DownLimit,
                (true, false) => Bound::TooFew,
            };
            (stable.max(least), bound)
        }
        Ordering::Equal => (stable, Bound::None),
    };
    (
        granted.clamp(min, spec.max_replicas.max(min)),
        [first, second],
    )
}

fn stabilized(
    memory: &Memory,
    (up, down): (&HPAScalingRules, &HPAScalingRules),
    (current, wish): (i32, i32),
    now: Timestamp,
) -> i32 {
    let since = |rules: &HPAScalingRules, usual: i32| {
        back(now, rules.stabilization_window_seconds.unwrap_or(usual))
    };
    let (up_since, down_since) = (since(up, 0), since(down, DOWN_WINDOW));
    let within = |from: Timestamp| memory.wishes.iter().filter(move |(at, _)| *at >= from);
    let lowest = within(up_since)
        .map(|(_, wish)| *wish)
        .min()
        .unwrap_or(wish)
        .min(wish);
    let highest = within(down_since)
        .map(|(_, wish)| *wish)
        .max()
        .unwrap_or(wish)
        .max(wish);
    current.max(lowest).min(highest)
}

fn policies(rules: &HPAScalingRules, usual: &[(&str, i32)]) -> Vec<HPAScalingPolicy> {
    let given = rules.policies.clone().unwrap_or_default();
    if !given.is_empty() {
        return given;
    }
    let policy = |(kind, value): &(&str, i32)| HPAScalingPolicy {
        type_: (*kind).to_owned(),
        value: *value,
        period_seconds: 15,
    };
    usual.iter().map(policy).collect()
}

/// The most replicas that the policies let the target grow to.
fn ceiling(rules: &HPAScalingRules, memory: &Memory, current: i32, now: Timestamp) -> i32 {
    let select = rules.select_policy.as_deref().unwrap_or("Max");
    if select == "Disabled" {
        return current;
    }
    let policies = policies(rules, &[("Pods", 4), ("Percent", 100)]);
    let grown = policies.iter().map(|policy| {
        let start = current - changed(memory, policy.period_seconds, now, 1);
        if policy.type_ == "Percent" {
            let share = f64::from(start) * (1.0 + f64::from(policy.value) / 100.0);
            share.ceil() as i32
        } else {
            start.saturating_add(policy.value)
        }
    });
    let found = if select == "Min" {
        grown.min()
    } else {
        grown.max()
    };
    found.unwrap_or(current).max(current)
}

/// The fewest replicas that the policies let the target shrink to.
fn floor(rules: &HPAScalingRules, memory: &Memory, current: i32, now: Timestamp) -> i32 {
    let select = rules.select_policy.as_deref().unwrap_or("Max");
    if select == "Disabled" {
        return current;
    }
    let policies = policies(rules, &[("Percent", 100)]);
    let shrunk = policies.iter().map(|policy| {
        let start = current + changed(memory, policy.period_seconds, now, -1);
        if policy.type_ == "Percent" {
            (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32
        } else {
            start.saturating_sub(policy.value)
        }
    });
    // The policy that changes most is the one that leaves fewest.
    let found = if select == "Min" {
        shrunk.max()
    } else {
        shrunk.min()
    };
    found.unwrap_or(current).min(current)
}

/// What was added (`sign` 1) or taken away (-1) within a period.
fn changed(memory: &Memory, period: i32, now: Timestamp, sign: i32) -> i32 {
    let since = back(now, period);
    let changes = memory.changes.iter().filter(|(at, _)| *at > since);
    changes.map(|(_, change)| (change * sign).max(0)).sum()
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use Bound::{DownLimit, None as Free, StabilizedDown, StabilizedUp, TooFew, TooMany, UpLimit};
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn check(
        behavior: Value,
        memory: &Memory,
        now: i64,
        (current, wish): (i32, i32),
        expected: i32,
        bounds: [Bound; 2],
    ) {
        let spec = json!({"minReplicas": 2, "maxReplicas": 20, "scaleTargetRef": {"kind": "", "name": ""}, "behavior": behavior});
        let spec: HorizontalPodAutoscalerSpec = serde_json::from_value(spec).unwrap();
        let found = limit(&spec, memory, (current, wish), at(now));
        assert_eq!(found, (expected, bounds), "{behavior} {current} -> {wish}");
    }

    #[test]
    fn steps_are_bounded_and_slow_going_down() {
        let none = Memory::default();
        check(json!(null), &none, 0, (3, 5), 5, [Free, Free]);
        // Four more, or twice as many.
        check(json!(null), &none, 0, (3, 20), 7, [Free, UpLimit]);
        check(json!(null), &none, 0, (12, 30), 20, [Free, TooMany]);
        check(json!(null), &none, 0, (5, 1), 2, [Free, TooFew]);
        let busy = Memory {
            wishes: vec![(at(100), 9), (at(300), 4)],
            changes: vec![],
        };
        check(json!(null), &busy, 350, (9, 4), 9, [StabilizedDown, Free]);
        check(json!(null), &busy, 500, (9, 4), 4, [Free, Free]);
        let slow_up = json!({"scaleUp": {"stabilizationWindowSeconds": 300}});
        check(slow_up, &busy, 350, (3, 9), 4, [StabilizedUp, Free]);
        let grown = Memory {
            wishes: vec![],
            changes: vec![(at(95), 4)],
        };
        check(json!(null), &grown, 100, (7, 20), 7, [Free, UpLimit]);
        check(json!(null), &grown, 111, (7, 20), 14, [Free, UpLimit]);
        let one_down = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}});
        check(one_down, &none, 0, (9, 2), 8, [Free, DownLimit]);
        let never = json!({"scaleDown": {"selectPolicy": "Disabled"}});
        check(never, &none, 0, (9, 2), 9, [Free, DownLimit]);
    }
}
