//! From what pods use to how many there should be, one metric at a time. Pure; the rules are those
//! of Kubernetes' `replica_calculator.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
    ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::pod::{self, Phase};
use crate::api::quantity;
use crate::registry::usage::PodUsage;

/// Less than a tenth off the target is on target.
const TOLERANCE: f64 = 0.1;

/// What one metric asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// `cpu resource utilization (percentage of request)`.
    pub(super) name: String,
    pub(super) status: MetricStatus,
}

/// The pods of the target and what they use, by uid.
pub(super) struct Seen<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) usage: &'a BTreeMap<String, PodUsage>,
}

/// What a metric is about: a resource of all containers, or of one.
struct Subject<'a> {
    resource: &'a str,
    container: Option<&'a str>,
    target: &'a MetricTarget,
}

/// One pod's amount in thousandths: of a core, or of a byte.
struct Measured {
    used: BTreeMap<usize, i128>,
    missing: Vec<usize>,
    unready: Vec<usize>,
}

pub(super) fn propose(
    metric: &MetricSpec,
    seen: &Seen<'_>,
    current: i32,
) -> Result<Proposal, String> {
    let subject = match (&metric.resource, &metric.container_resource) {
        (Some(it), _) => Subject {
            resource: &it.name,
            container: None,
            target: &it.target,
        },
        (None, Some(it)) => Subject {
            resource: &it.name,
            container: Some(&it.container),
            target: &it.target,
        },
        (None, None) => return Err(format!("unknown metric source type {:?}", metric.type_)),
    };
    if seen.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let measured = measure(&subject, seen);
    if measured.used.is_empty() {
        return Err(format!(
            "did not receive metrics for targeted pods (pods might be unready): {}",
            subject.resource
        ));
    }
    let targets = targets(&subject, seen.pods)?;
    let replicas = count(&measured, &targets, current);
    let total: i128 = measured.used.values().sum();
    let average = total / measured.used.len() as i128;
    let percent = subject.target.average_utilization.map(|_| {
        let requested: i128 = measured.used.keys().map(|index| targets.base[*index]).sum();
        (total * 100 / requested.max(1)) as i32
    });
    let value = MetricValueStatus {
        average_utilization: percent,
        average_value: Some(shown(subject.resource, average)),
        value: None,
    };
    Ok(Proposal {
        replicas,
        name: name(&subject),
        status: status(&subject, value),
    })
}

fn measure(subject: &Subject<'_>, seen: &Seen<'_>) -> Measured {
    let mut measured = Measured {
        used: BTreeMap::new(),
        missing: Vec::new(),
        unready: Vec::new(),
    };
    for (index, pod) in seen.pods.iter().enumerate() {
        if pod::is_terminating(pod) || pod::phase(pod) == Phase::Failed {
            continue;
        }
        if pod::phase(pod) == Phase::Pending {
            measured.unready.push(index);
            continue;
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let amount = seen.usage.get(uid).and_then(|usage| used(subject, usage));
        match amount {
            None => measured.missing.push(index),
            // What a pod does while it starts says nothing about the load.
            Some(_) if subject.resource == "cpu" && !pod::is_ready(pod) => {
                measured.unready.push(index);
            }
            Some(amount) => {
                measured.used.insert(index, amount);
            }
        }
    }
    measured
}

fn used(subject: &Subject<'_>, usage: &PodUsage) -> Option<i128> {
    let amounts = match subject.container {
        None => usage.total(),
        Some(container) => *usage.containers.get(container)?,
    };
    Some(match subject.resource {
        "cpu" => i128::from(amounts.cpu_nanos.div_ceil(1_000_000)),
        _ => i128::from(amounts.memory_bytes) * 1000,
    })
}

/// What each pod should use, and what its percentage is of.
struct Targets {
    wanted: Vec<i128>,
    base: Vec<i128>,
    /// What a pod without figures is taken to use when there seem to be too many.
    fallback: Vec<i128>,
}

fn targets(subject: &Subject<'_>, pods: &[Arc<Pod>]) -> Result<Targets, String> {
    let Some(percent) = subject.target.average_utilization else {
        let value = subject.target.average_value.as_ref();
        let value = value
            .and_then(|value| quantity::millis(value).ok())
            .unwrap_or(0);
        let all = vec![value; pods.len()];
        return Ok(Targets {
            wanted: all.clone(),
            base: all.clone(),
            fallback: all,
        });
    };
    let requests: Result<Vec<i128>, String> =
        pods.iter().map(|pod| request(subject, pod)).collect();
    let requests = requests?;
    let share = |percent: i128| {
        requests
            .iter()
            .map(|request| request * percent / 100)
            .collect()
    };
    Ok(Targets {
        wanted: share(i128::from(percent)),
        fallback: share(i128::from(percent.max(100))),
        base: requests,
    })
}

fn request(subject: &Subject<'_>, pod: &Pod) -> Result<i128, String> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let sidecars = spec.init_containers.iter().flatten();
    let containers = spec
        .containers
        .iter()
        .chain(sidecars.filter(|it| pod::is_sidecar(it)));
    let mut sum = 0;
    for container in containers {
        if subject.container.is_some_and(|name| name != container.name) {
            continue;
        }
        let resources = container.resources.as_ref();
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        let request = requests.and_then(|requests| requests.get(subject.resource));
        let request = request.and_then(|request| quantity::millis(request).ok());
        sum += request.ok_or_else(|| {
            format!(
                "missing request for {} in container {} of Pod {}",
                subject.resource,
                container.name,
                pod.metadata.name.as_deref().unwrap_or_default()
            )
        })?;
    }
    if sum == 0 {
        return Err(format!("missing request for {}", subject.resource));
    }
    Ok(sum)
}

/// How many replicas would be on target. Pods without figures weigh against the change: as idle
/// when more are called for, as fully used when fewer are.
fn count(measured: &Measured, targets: &Targets, current: i32) -> i32 {
    let ratio = |used: &BTreeMap<usize, i128>| {
        let total: i128 = used.values().sum();
        let wanted: i128 = used.keys().map(|index| targets.wanted[*index]).sum();
        total as f64 / wanted.max(1) as f64
    };
    let first = ratio(&measured.used);
    let is_unsure = !measured.missing.is_empty() || (first > 1.0 && !measured.unready.is_empty());
    if !is_unsure {
        if (first - 1.0).abs() <= TOLERANCE {
            return current;
        }
        return (first * measured.used.len() as f64).ceil() as i32;
    }
    let mut all = measured.used.clone();
    for index in &measured.missing {
        let guess = if first < 1.0 {
            targets.fallback[*index]
        } else {
            0
        };
        all.insert(*index, guess);
    }
    if first > 1.0 {
        all.extend(measured.unready.iter().map(|index| (*index, 0)));
    }
    let second = ratio(&all);
    let is_turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    if (second - 1.0).abs() <= TOLERANCE || is_turned {
        return current;
    }
    let replicas = (second * all.len() as f64).ceil() as i32;
    let is_against = (second < 1.0 && replicas > current) || (second > 1.0 && replicas < current);
    if is_against { current } else { replicas }
}

fn name(subject: &Subject<'_>) -> String {
    let resource = subject.resource;
    let of = if subject.container.is_some() {
        "container resource"
    } else {
        "resource"
    };
    match subject.target.average_utilization {
        Some(_) => format!("{resource} {of} utilization (percentage of request)"),
        None => format!("{resource} {of}"),
    }
}

fn shown(resource: &str, thousandths: i128) -> Quantity {
    let amount = u64::try_from(thousandths).unwrap_or(0);
    match resource {
        "cpu" => quantity::from_millis(amount),
        _ => Quantity((amount / 1000).to_string()),
    }
}

fn status(subject: &Subject<'_>, current: MetricValueStatus) -> MetricStatus {
    match subject.container {
        None => MetricStatus {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricStatus {
                name: subject.resource.to_owned(),
                current,
            }),
            ..MetricStatus::default()
        },
        Some(container) => MetricStatus {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(ContainerResourceMetricStatus {
                name: subject.resource.to_owned(),
                container: container.to_owned(),
                current,
            }),
            ..MetricStatus::default()
        },
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use crate::registry::usage::Amounts;
    use serde_json::{Value, json};

    /// Pods that ask for 100 millicores and use so many; `None`: no figures; negative: not ready.
    fn propose_for(used: &[Option<i64>], target: Value, current: i32) -> Result<Proposal, String> {
        let mut usage = BTreeMap::new();
        let mut pods = Vec::new();
        for (index, used) in used.iter().enumerate() {
            let uid = format!("u{index}");
            let ready = if used.is_some_and(|used| used < 0) {
                "False"
            } else {
                "True"
            };
            let pod = json!({"metadata": {"name": uid, "uid": uid},
                "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "100m"}}}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
            pods.push(Arc::new(serde_json::from_value(pod).unwrap()));
            if let Some(used) = used {
                let amounts = Amounts {
                    cpu_nanos: used.unsigned_abs() * 1_000_000,
                    memory_bytes: 1 << 20,
                };
                let of_pod = PodUsage {
                    namespace: "default".into(),
                    name: uid.clone(),
                    uid: uid.clone(),
                    at: jiff::Timestamp::UNIX_EPOCH,
                    window: std::time::Duration::from_secs(1),
                    containers: BTreeMap::from([("main".to_owned(), amounts)]),
                };
                usage.insert(uid, of_pod);
            }
        }
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        let metric: MetricSpec = serde_json::from_value(metric).unwrap();
        let seen = Seen {
            pods: &pods,
            usage: &usage,
        };
        propose(&metric, &seen, current)
    }

    fn check(used: &[Option<i64>], expected: i32) {
        let target = json!({"type": "Utilization", "averageUtilization": 50});
        let proposal = propose_for(used, target, used.len() as i32).unwrap();
        assert_eq!(proposal.replicas, expected, "{used:?}");
    }

    #[test]
    fn replicas_follow_the_load() {
        check(&[Some(50)], 1);
        check(&[Some(54)], 1);
        check(&[Some(60)], 2);
        check(&[Some(100), Some(100)], 4);
        check(&[Some(10), Some(10), Some(10)], 1);
        check(&[Some(0)], 0);
        // Without figures: idle when more are called for, busy when fewer are.
        check(&[Some(100), None], 2);
        check(&[Some(200), None], 4);
        check(&[Some(10), None], 2);
        // A pod that starts does not call for more.
        check(&[Some(100), Some(-100)], 2);
        check(&[Some(10), Some(-100)], 1);
    }

    #[test]
    fn values_and_percentages_are_told() {
        let target = json!({"type": "Utilization", "averageUtilization": 50});
        let proposal = propose_for(&[Some(60), Some(40)], target, 2).unwrap();
        assert_eq!(
            proposal.name,
            "cpu resource utilization (percentage of request)"
        );
        let current = proposal.status.resource.unwrap().current;
        assert_eq!(current.average_utilization, Some(50));
        assert_eq!(current.average_value.unwrap().0, "50m");
        let target = json!({"type": "AverageValue", "averageValue": "20m"});
        assert_eq!(
            propose_for(&[Some(60), Some(40)], target, 2)
                .unwrap()
                .replicas,
            5
        );
    }

    #[test]
    fn what_cannot_be_computed_is_said() {
        let target = || json!({"type": "Utilization", "averageUtilization": 50});
        assert!(
            propose_for(&[], target(), 0)
                .unwrap_err()
                .starts_with("no pods")
        );
        assert!(
            propose_for(&[None], target(), 1)
                .unwrap_err()
                .starts_with("did not receive")
        );
    }
}
