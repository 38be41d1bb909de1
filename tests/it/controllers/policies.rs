//! Jobs by their policies, and updates that take several at a time or none away.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use wasmorch::api::{condition, job, pod};
use wasmorch::registry::Error;

use super::{Cluster, NS, by_node, image};

impl Cluster {
    /// Lets a running pod of an index end with a code.
    async fn end_index(&self, index: &str, code: i32) {
        let key = "batch.kubernetes.io/job-completion-index";
        let is_it = |pod: &&Arc<Pod>| {
            let labels = pod.metadata.labels.as_ref().unwrap();
            pod::phase(pod) == pod::Phase::Running && labels.get(key).is_some_and(|it| it == index)
        };
        let found = self
            .until::<Pod>(Some(NS), "the pod of the index", |pods| {
                pods.iter().any(|pod| is_it(&pod))
            })
            .await;
        let mut ended = found.iter().find(is_it).unwrap().as_ref().clone();
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let status = ended.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        let container = json!([{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}}]);
        status.container_statuses = Some(serde_json::from_value(container).unwrap());
        match self.api::<Pod>().update_status(NS, &ended).await {
            Ok(_) => {}
            Err(Error::Conflict { .. }) => Box::pin(self.end_index(index, code)).await,
            Err(error) => panic!("{error}"),
        }
    }

    async fn job(&self, spec: Value) {
        let mut job = json!({"metadata": {"name": "work"}, "spec": {
            "completionMode": "Indexed", "completions": 2, "parallelism": 2,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "hello"}]}}}});
        json_patch::merge(&mut job["spec"], &spec);
        self.create::<Job>(NS, job).await;
    }

    /// Waits for the job's end; the condition, its reason and words.
    async fn ended(&self) -> (Arc<Job>, String, String) {
        let jobs = self
            .until::<Job>(Some(NS), "the end of the job", |jobs| {
                job::finished(&jobs[0]).is_some()
            })
            .await;
        let end = job::finished(&jobs[0]).unwrap();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (Arc::clone(&jobs[0]), text(&end.reason), text(&end.message))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_fails_leaves_the_others_to_succeed() {
    let cluster = Cluster::new().await;
    let rules = json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7]}}]);
    cluster
        .job(json!({"backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": rules}}))
        .await;
    cluster.end_index("0", 7).await;
    cluster.end_index("1", 0).await;
    let (job, reason, words) = cluster.ended().await;
    assert_eq!(
        (reason.as_str(), words.as_str()),
        ("FailedIndexes", "Job has failed indexes")
    );
    let status = job.status.as_ref().unwrap();
    assert_eq!(status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(status.completed_indexes.as_deref(), Some("1"));
    assert_eq!((status.succeeded, status.failed), (Some(1), Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_may_end_the_job_and_a_success_complete_it() {
    let cluster = Cluster::new().await;
    let rules = json!([{"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}}]);
    cluster
        .job(json!({"podFailurePolicy": {"rules": rules}}))
        .await;
    cluster.end_index("1", 42).await;
    let (job, reason, words) = cluster.ended().await;
    assert_eq!(reason, "PodFailurePolicy");
    assert!(
        words.ends_with("failed with exit code 42 matching FailJob rule at index 0"),
        "{words}"
    );
    assert!(condition::is_true(job::conditions(&job), "Failed"));

    let cluster = Cluster::new().await;
    let rules = json!([{"succeededIndexes": "1", "succeededCount": 1}]);
    cluster
        .job(json!({"successPolicy": {"rules": rules}}))
        .await;
    cluster.end_index("1", 0).await;
    let (job, reason, words) = cluster.ended().await;
    assert_eq!(
        (reason.as_str(), words.as_str()),
        ("SuccessPolicy", "Matched rules at index 0")
    );
    assert!(condition::is_true(job::conditions(&job), "Complete"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_surges() {
    let cluster = Cluster::new().await;
    let labels = json!({"app": "agent"});
    let set = json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": labels},
        "updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "hello:v1"}]}}}});
    cluster.create::<DaemonSet>(NS, set).await;
    let is_done = |sets: &[Arc<DaemonSet>]| {
        let status = sets[0].status.as_ref();
        status.is_some_and(|it| {
            it.updated_number_scheduled == Some(3)
                && it.number_available == Some(3)
                && it.observed_generation == sets[0].metadata.generation
        })
    };
    cluster
        .until::<DaemonSet>(Some(NS), "all nodes served", is_done)
        .await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "hello:v2"}]}}}});
    cluster.merge::<DaemonSet>("agent", patch).await;
    let unavailable = |set: &DaemonSet| set.status.as_ref().and_then(|it| it.number_unavailable);
    cluster
        .until::<DaemonSet>(Some(NS), "the update", |sets| {
            assert_eq!(unavailable(&sets[0]), None, "a node is without");
            is_done(sets)
        })
        .await;
    let pods = cluster
        .until::<Pod>(Some(NS), "no old pods", |pods| pods.len() == 3)
        .await;
    assert_eq!(by_node(&pods).len(), 3);
    assert!(
        pods.iter().all(
            |pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("hello:v2")
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_updates_several_at_a_time() {
    let cluster = Cluster::new().await;
    let labels = json!({"app": "db"});
    let set = json!({"metadata": {"name": "db"}, "spec": {"replicas": 4, "serviceName": "db",
        "podManagementPolicy": "Parallel", "selector": {"matchLabels": labels},
        "updateStrategy": {"rollingUpdate": {"maxUnavailable": "50%", "partition": 1}},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "hello:v1"}]}}}});
    cluster.create::<StatefulSet>(NS, set).await;
    let ready = |sets: &[Arc<StatefulSet>]| {
        let status = sets[0].status.as_ref();
        status.is_some_and(|it| it.ready_replicas == Some(4))
    };
    cluster
        .until::<StatefulSet>(Some(NS), "all ready", ready)
        .await;
    cluster
        .merge::<StatefulSet>(
            "db",
            json!({"spec": {"template": image("v2")["spec"]["template"]}}),
        )
        .await;
    let pods = cluster
        .until::<Pod>(Some(NS), "the update", |pods| {
            let images = images(pods);
            pods.len() == 4 && images.values().filter(|it| *it == "hello:v2").count() == 3
        })
        .await;
    assert_eq!(images(&pods)["db-0"], "hello:v1");
}

fn images(pods: &[Arc<Pod>]) -> BTreeMap<String, String> {
    let image = |pod: &Arc<Pod>| {
        let image = pod.spec.as_ref()?.containers[0].image.clone()?;
        Some((pod.metadata.name.clone()?, image))
    };
    pods.iter().filter_map(image).collect()
}
