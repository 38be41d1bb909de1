//! Jobs, StatefulSets, DaemonSets and budgets from their making to their end.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};
use wasmorch::api::{condition, job, pod};
use wasmorch::registry::{Caller, DeleteOptions, Error, Patch, Propagation};

use super::{Cluster, NS};

fn template(labels: &Value, spec: &Value) -> Value {
    let mut template = json!({"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "hello"}]}});
    json_patch::merge(&mut template["spec"], spec);
    template
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

impl Cluster {
    /// Lets every running pod of a job end in this phase.
    async fn end_pods(&self, phase: &str) {
        let api = self.api::<Pod>();
        for pod in api.list(Some(NS)).unwrap() {
            if pod::phase(&pod) != pod::Phase::Running {
                continue;
            }
            let mut ended = pod.as_ref().clone();
            ended.status.get_or_insert_default().phase = Some(phase.to_owned());
            match api.update_status(NS, &ended).await {
                Ok(_) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn running(&self, count: usize) -> Vec<Arc<Pod>> {
        self.until::<Pod>(Some(NS), "running pods", |pods| {
            let runs = |pod: &&Arc<Pod>| pod::phase(pod) == pod::Phase::Running;
            pods.iter().filter(runs).count() == count
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_its_end() {
    let cluster = Cluster::new().await;
    let spec = json!({"completions": 3, "parallelism": 2,
        "template": template(&json!({}), &json!({"restartPolicy": "Never"}))});
    let object = json!({"metadata": {"name": "sum"}, "spec": spec});
    cluster.create::<Job>(NS, object).await;
    cluster.running(2).await;
    cluster.end_pods("Succeeded").await;
    cluster.running(1).await;
    cluster.end_pods("Succeeded").await;
    let jobs = cluster
        .until::<Job>(Some(NS), "the end of the job", |jobs| {
            job::is_complete(&jobs[0])
        })
        .await;
    let status = jobs[0].status.as_ref().unwrap();
    assert_eq!(
        (status.succeeded, status.failed, status.active),
        (Some(3), None, None)
    );
    assert!(condition::is_true(
        job::conditions(&jobs[0]),
        "SuccessCriteriaMet"
    ));
    let pods = cluster.api::<Pod>().list(Some(NS)).unwrap();
    assert_eq!(pods.len(), 3);
    assert!(
        pods.iter()
            .all(|pod| pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty))
    );
    cluster
        .delete::<Job>(NS, "sum", Propagation::Background)
        .await;
    cluster
        .until::<Pod>(Some(NS), "no pods", <[_]>::is_empty)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_and_one_that_goes_leave_no_pod_held() {
    let cluster = Cluster::new().await;
    let spec = json!({"backoffLimit": 0, "parallelism": 2, "completions": 2,
        "template": template(&json!({}), &json!({"restartPolicy": "Never"}))});
    let object = json!({"metadata": {"name": "bad"}, "spec": spec});
    cluster.create::<Job>(NS, object.clone()).await;
    cluster.running(2).await;
    cluster.end_pods("Failed").await;
    let jobs = cluster
        .until::<Job>(Some(NS), "the failure of the job", |jobs| {
            condition::is_true(job::conditions(&jobs[0]), "Failed")
        })
        .await;
    let failed = job::finished(&jobs[0]).unwrap();
    assert_eq!(failed.reason.as_deref(), Some("BackoffLimitExceeded"));
    cluster
        .delete::<Job>(NS, "bad", Propagation::Background)
        .await;
    cluster
        .until::<Pod>(Some(NS), "no pods", <[_]>::is_empty)
        .await;
    // A job that goes while its pods run.
    cluster.create::<Job>(NS, object).await;
    cluster.running(2).await;
    cluster
        .delete::<Job>(NS, "bad", Propagation::Foreground)
        .await;
    cluster
        .until::<Job>(Some(NS), "no job", <[_]>::is_empty)
        .await;
    cluster
        .until::<Pod>(Some(NS), "no pods", <[_]>::is_empty)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_makes_up_for_the_last_time_only() {
    let cluster = Cluster::new().await;
    let job =
        json!({"spec": {"template": template(&json!({}), &json!({"restartPolicy": "Never"}))}});
    let object = json!({"metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "suspend": true, "jobTemplate": job}});
    let made = cluster.create::<CronJob>(NS, object).await;
    let mut old = made.as_ref().clone();
    let hours_ago = jiff::SignedDuration::from_mins(90);
    let last = cluster.registry.clock().now() - hours_ago;
    old.status.get_or_insert_default().last_schedule_time =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(last));
    cluster
        .api::<CronJob>()
        .update_status(NS, &old)
        .await
        .unwrap();
    cluster
        .merge::<CronJob>("tick", json!({"spec": {"suspend": false}}))
        .await;
    let jobs = cluster
        .until::<Job>(Some(NS), "a job", |jobs| !jobs.is_empty())
        .await;
    let made = jobs[0].metadata.name.as_deref().unwrap();
    assert!(made.starts_with("tick-"), "{made}");
    let ticks = cluster
        .until::<CronJob>(Some(NS), "the job's mention", |all| {
            let status = all[0].status.as_ref().unwrap();
            status
                .active
                .as_ref()
                .is_some_and(|active| !active.is_empty())
        })
        .await;
    let status = ticks[0].status.as_ref().unwrap();
    assert!(status.last_schedule_time.as_ref().unwrap().0 > last);
}

fn stateful_set(change: &Value) -> Value {
    let mut object = json!({"metadata": {"name": "db"}, "spec": {
        "serviceName": "db", "replicas": 3, "selector": {"matchLabels": {"app": "db"}},
        "template": template(&json!({"app": "db"}), &json!({})),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}]}});
    json_patch::merge(&mut object, change);
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_keeps_names_and_storage() {
    let cluster = Cluster::new().await;
    let retention =
        json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}});
    cluster
        .create::<StatefulSet>(NS, stateful_set(&retention))
        .await;
    let ready = |count: i32| {
        move |sets: &[Arc<StatefulSet>]| {
            let status = sets[0].status.as_ref().unwrap();
            status.ready_replicas.unwrap_or(0) == count && status.replicas == count
        }
    };
    cluster
        .until::<StatefulSet>(Some(NS), "three replicas", ready(3))
        .await;
    let pods = cluster.running(3).await;
    assert_eq!(
        pods.iter().map(|pod| name(pod)).collect::<Vec<_>>(),
        ["db-0", "db-1", "db-2"]
    );
    let claims = cluster
        .api::<PersistentVolumeClaim>()
        .list(Some(NS))
        .unwrap();
    assert_eq!(claims.len(), 3);
    assert_eq!(claims[0].metadata.name.as_deref(), Some("data-db-0"));
    cluster
        .merge::<StatefulSet>("db", json!({"spec": {"replicas": 1}}))
        .await;
    cluster
        .until::<StatefulSet>(Some(NS), "one replica", ready(1))
        .await;
    cluster
        .until::<PersistentVolumeClaim>(Some(NS), "one claim", |claims| claims.len() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_rolls_and_rolls_back() {
    let cluster = Cluster::new().await;
    cluster
        .create::<StatefulSet>(
            NS,
            stateful_set(&json!({"spec": {"volumeClaimTemplates": null}})),
        )
        .await;
    let rolled = |sets: &[Arc<StatefulSet>]| {
        let (set, status) = (&sets[0], sets[0].status.as_ref().unwrap());
        status.observed_generation == set.metadata.generation
            && status.updated_replicas == Some(3)
            && status.ready_replicas == Some(3)
            && status.current_revision == status.update_revision
    };
    let first = cluster
        .until::<StatefulSet>(Some(NS), "the first rollout", rolled)
        .await;
    let image = json!([{"name": "main", "image": "hello:v2"}]);
    cluster
        .merge::<StatefulSet>(
            "db",
            json!({"spec": {"template": {"spec": {"containers": image}}}}),
        )
        .await;
    let second = cluster
        .until::<StatefulSet>(Some(NS), "the second rollout", rolled)
        .await;
    let revision =
        |sets: &[Arc<StatefulSet>]| sets[0].status.as_ref().unwrap().update_revision.clone();
    assert_ne!(revision(&first), revision(&second));
    let revisions = cluster.api::<ControllerRevision>().list(Some(NS)).unwrap();
    assert_eq!(revisions.len(), 2);
    // What `kubectl rollout undo` sends.
    let old = revisions.iter().find(|one| one.revision == 1).unwrap();
    let patch = Patch::Strategic(old.data.as_ref().unwrap().0.clone());
    cluster
        .api::<StatefulSet>()
        .patch(NS, "db", None, patch)
        .await
        .unwrap();
    let third = cluster
        .until::<StatefulSet>(Some(NS), "the way back", rolled)
        .await;
    assert_eq!(revision(&first), revision(&third));
    let revisions = cluster.api::<ControllerRevision>().list(Some(NS)).unwrap();
    assert_eq!(revisions.iter().map(|one| one.revision).max(), Some(3));
    assert_eq!(revisions.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_serves_each_node() {
    let cluster = Cluster::new().await;
    let object = json!({"metadata": {"name": "agent"}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}}, "template": template(&json!({"app": "agent"}), &json!({}))}});
    cluster.create::<DaemonSet>(NS, object).await;
    let served = |count: i32| {
        move |sets: &[Arc<DaemonSet>]| {
            let (set, status) = (&sets[0], sets[0].status.as_ref().unwrap());
            status.observed_generation == set.metadata.generation
                && status.desired_number_scheduled == count
                && status.number_available == Some(count)
                && status.updated_number_scheduled == Some(count)
        }
    };
    cluster
        .until::<DaemonSet>(Some(NS), "three nodes served", served(3))
        .await;
    cluster.kubelets.start("dev-4", json!({})).await;
    cluster
        .until::<DaemonSet>(Some(NS), "four nodes served", served(4))
        .await;
    let pods = cluster.running(4).await;
    let mut nodes: Vec<_> = pods.iter().filter_map(|pod| pod::node_name(pod)).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["dev-1", "dev-2", "dev-3", "dev-4"]);
    let image = json!([{"name": "main", "image": "hello:v2"}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": image}}}});
    cluster.merge::<DaemonSet>("agent", patch).await;
    cluster
        .until::<DaemonSet>(Some(NS), "the update", served(4))
        .await;
    let pods = cluster.running(4).await;
    let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone();
    assert!(
        pods.iter()
            .all(|pod| image(pod).as_deref() == Some("hello:v2"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_lets_one_pod_go_at_a_time() {
    let cluster = Cluster::new().await;
    cluster
        .create::<StatefulSet>(
            NS,
            stateful_set(
                &json!({"spec": {"volumeClaimTemplates": null, "podManagementPolicy": "Parallel"}}),
            ),
        )
        .await;
    let object = json!({"metadata": {"name": "two"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "db"}}}});
    cluster.create::<PodDisruptionBudget>(NS, object).await;
    let allows = |budgets: &[Arc<PodDisruptionBudget>]| {
        let status = budgets[0].status.as_ref().unwrap();
        (status.disruptions_allowed, status.expected_pods) == (1, 3)
    };
    cluster
        .until::<PodDisruptionBudget>(Some(NS), "a disruption to spare", allows)
        .await;
    let evict = async |name: &str| {
        let options = DeleteOptions::default();
        cluster
            .registry
            .evict(NS, name, &options, &Caller::system("test"))
            .await
    };
    let pods = cluster.running(3).await;
    evict(name(&pods[0])).await.unwrap();
    let refused = evict(name(&pods[1])).await;
    assert!(
        matches!(refused, Err(Error::DisruptionBudget { .. })),
        "{refused:?}"
    );
    // It comes back, and then the next may go.
    cluster
        .until::<PodDisruptionBudget>(Some(NS), "another disruption", allows)
        .await;
    evict(name(&pods[1])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_high_priority_takes_the_room_of_lower_ones() {
    let cluster = Cluster::empty().await;
    cluster.kubelets.start("dev-1", json!({})).await;
    let pod = |name: &str, cpu: &str, class: Option<&str>| {
        let resources = json!({"requests": {"cpu": cpu}});
        json!({"metadata": {"name": name}, "spec": {"priorityClassName": class,
            "containers": [{"name": "main", "image": "hello", "resources": resources}]}})
    };
    for name in ["low-1", "low-2"] {
        cluster.create::<Pod>(NS, pod(name, "2", None)).await;
    }
    cluster.running(2).await;
    let unknown: Pod = super::decoded(pod("odd", "1", Some("none")));
    let refused = cluster.api::<Pod>().create(NS, &unknown).await;
    assert!(
        matches!(refused, Err(Error::Forbidden { .. })),
        "{refused:?}"
    );
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    cluster.create::<PriorityClass>("", class).await;
    let high = cluster
        .create::<Pod>(NS, pod("high", "3", Some("high")))
        .await;
    assert_eq!(high.spec.as_ref().unwrap().priority, Some(1000));
    let left = cluster
        .until::<Pod>(Some(NS), "the high pod alone", |pods| {
            pods.len() == 1 && pod::phase(&pods[0]) == pod::Phase::Running
        })
        .await;
    assert_eq!(name(&left[0]), "high");
    let status = left[0].status.as_ref().unwrap();
    assert_eq!(status.nominated_node_name.as_deref(), Some("dev-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_does_what_a_replica_set_does() {
    let cluster = Cluster::new().await;
    let spec = json!({"replicas": 2, "template": template(&json!({"app": "old"}), &json!({}))});
    let object = json!({"metadata": {"name": "old"}, "spec": spec});
    let made = cluster.create::<ReplicationController>(NS, object).await;
    for pod in cluster.running(2).await {
        let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
        let found = (owner.api_version.as_str(), owner.kind.as_str(), &owner.uid);
        let uid = made.metadata.uid.as_ref().unwrap();
        assert_eq!(found, ("v1", "ReplicationController", uid));
    }
    cluster
        .until::<ReplicationController>(Some(NS), "two ready replicas", |all| {
            let status = all[0].status.as_ref().unwrap();
            status.ready_replicas == Some(2) && status.fully_labeled_replicas == Some(2)
        })
        .await;
    cluster
        .until::<Event>(Some(NS), "who made them", |events| {
            let is_it = |event: &Arc<Event>| {
                event.involved_object.kind.as_deref() == Some("ReplicationController")
                    && event.reason.as_deref() == Some("SuccessfulCreate")
            };
            events.iter().filter(|event| is_it(event)).count() == 2
        })
        .await;
    // An orphan that it selects is its own, and then one too many.
    let mut orphan = template(&json!({"app": "old"}), &json!({}));
    orphan["metadata"]["name"] = "orphan".into();
    cluster.create::<Pod>(NS, orphan).await;
    cluster
        .until::<Pod>(Some(NS), "two of them again", |pods| {
            let owned = pods
                .iter()
                .all(|pod| pod.metadata.owner_references.is_some());
            owned && pods.len() == 2
        })
        .await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": "50%",
        "selector": {"matchLabels": {"app": "old"}}}});
    cluster.create::<PodDisruptionBudget>(NS, budget).await;
    cluster
        .until::<PodDisruptionBudget>(Some(NS), "a counted budget", |all| {
            let status = all[0].status.as_ref();
            status.is_some_and(|status| status.expected_pods == 2)
        })
        .await;
    cluster
        .delete::<ReplicationController>(NS, "old", Propagation::Background)
        .await;
    cluster
        .until::<Pod>(Some(NS), "no pods", <[Arc<Pod>]>::is_empty)
        .await;
}
