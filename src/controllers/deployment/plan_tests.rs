//! Journeys of a Deployment through its plan, with ReplicaSets that obey at once.

use super::*;
use serde_json::{Value, json};

/// A Deployment and its ReplicaSets, and time.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    second: i64,
    living: Vec<String>,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut base = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}},
        });
        json_patch::merge(&mut base["spec"], &spec);
        base["spec"]["template"] = template_of("v1");
        Self {
            deployment: serde_json::from_value(base).unwrap(),
            sets: Vec::new(),
            second: 0,
            living: Vec::new(),
        }
    }

    fn spec(&mut self) -> &mut DeploymentSpec {
        self.deployment.spec.as_mut().unwrap()
    }

    fn image(&mut self, version: &str) {
        self.spec().template = serde_json::from_value(template_of(version)).unwrap();
    }

    /// Plans, does what is planned, and returns the plan's notices.
    fn step(&mut self) -> Vec<String> {
        self.second += 1;
        let observed = Observed {
            replica_sets: self.sets.iter().cloned().map(Arc::new).collect(),
            living_pods_of: self.living.clone(),
        };
        let now = Timestamp::from_second(self.second).unwrap();
        let plan = plan(&self.deployment, &observed, now).unwrap();
        for write in plan.writes {
            match write {
                Write::Create(set) => {
                    let mut set = *set;
                    set.metadata.uid = set.metadata.name.clone();
                    set.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
                    self.sets.push(set);
                }
                Write::Update(set) => {
                    let at = self
                        .sets
                        .iter()
                        .position(|s| s.metadata.name == set.metadata.name);
                    self.sets[at.unwrap()] = *set;
                }
                Write::Delete(set) => self.sets.retain(|s| s.metadata.name != set.metadata.name),
            }
        }
        if let Some(revision) = plan.revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(REVISION.to_owned(), revision);
        }
        self.deployment.status = Some(plan.status);
        plan.notices
            .into_iter()
            .map(|notice| notice.message)
            .collect()
    }

    /// All pods of every ReplicaSet come up.
    fn pods_come_up(&mut self) {
        for set in &mut self.sets {
            let replicas = set.spec.as_ref().unwrap().replicas.unwrap();
            set.status =
                serde_json::from_value(json!({"replicas": replicas, "readyReplicas": replicas,
                "availableReplicas": replicas, "observedGeneration": 0}))
                .unwrap();
        }
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            self.step();
            self.pods_come_up();
        }
        assert!(self.step().is_empty(), "a settled Deployment does nothing");
    }

    /// Sizes in order of age.
    fn sizes(&self) -> Vec<i32> {
        self.sets
            .iter()
            .map(|set| set.spec.as_ref().unwrap().replicas.unwrap())
            .collect()
    }

    fn revision(&self) -> &str {
        &self.deployment.metadata.annotations.as_ref().unwrap()[REVISION]
    }

    fn progressing(&self) -> &str {
        let conditions = self
            .deployment
            .status
            .as_ref()
            .unwrap()
            .conditions
            .as_ref()
            .unwrap();
        conditions
            .iter()
            .find(|c| c.type_ == "Progressing")
            .unwrap()
            .reason
            .as_deref()
            .unwrap()
    }
}

fn template_of(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": version}]}})
}

#[test]
fn the_first_template_is_created_whole() {
    let mut world = World::new(json!({}));
    let notices = world.step();
    assert_eq!(world.sizes(), [4]);
    let name = world.sets[0].metadata.name.clone().unwrap();
    assert_eq!(
        notices,
        [format!("Scaled up replica set {name} from 0 to 4")]
    );
    assert_eq!(world.revision(), "1");
    assert_eq!(world.progressing(), "NewReplicaSetCreated");
    let labels = world.sets[0].metadata.labels.as_ref().unwrap();
    assert_eq!(name, format!("web-{}", labels["pod-template-hash"]));
    world.settle();
    assert_eq!(world.progressing(), "NewReplicaSetAvailable");
}

#[test]
fn an_update_rolls_step_by_step_and_an_undo_finds_the_old_set_again() {
    let mut world = World::new(json!({}));
    world.settle();
    world.image("v2");
    world.step();
    assert_eq!(world.sizes(), [4, 1]);
    world.step();
    assert_eq!(
        world.sizes(),
        [3, 1],
        "one may be unavailable before the new one is up"
    );
    world.step();
    assert_eq!(world.sizes(), [3, 2], "the surge lets another begin");
    world.step();
    assert_eq!(
        world.sizes(),
        [3, 2],
        "nothing goes while the new pods are not available"
    );
    world.settle();
    assert_eq!(world.sizes(), [0, 4]);
    assert_eq!(world.revision(), "2");
    world.image("v1");
    world.settle();
    assert_eq!(world.sizes(), [4, 0], "the old ReplicaSet is used again");
    assert_eq!(world.revision(), "3");
}

#[test]
fn a_template_that_never_comes_up_stops_at_the_fences() {
    let mut world = World::new(
        json!({"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}),
    );
    world.settle();
    world.image("broken");
    for _ in 0..20 {
        world.step();
    }
    assert_eq!(world.sizes(), [8, 5]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate", "rollingUpdate": null}}));
    world.settle();
    world.image("v2");
    world.living = vec![world.sets[0].metadata.uid.clone().unwrap()];
    world.step();
    assert_eq!(world.sizes(), [0]);
    world.pods_come_up();
    world.step();
    assert_eq!(world.sizes(), [0], "a pod on its way out still runs");
    world.living.clear();
    world.settle();
    assert_eq!(world.sizes(), [0, 4]);
}

#[test]
fn scaling_during_a_rollout_is_proportional_and_a_pause_stops_the_rollout_only() {
    let mut world = World::new(
        json!({"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 5}}}),
    );
    world.settle();
    world.image("v2");
    for _ in 0..3 {
        world.step();
    }
    assert_eq!(world.sizes(), [5, 5]);
    world.spec().paused = Some(true);
    world.spec().replicas = Some(20);
    world.step();
    assert_eq!(world.sizes(), [10, 10]);
    assert_eq!(world.progressing(), "DeploymentPaused");
    world.pods_come_up();
    world.step();
    assert_eq!(world.sizes(), [10, 10], "paused");
    world.spec().paused = Some(false);
    world.settle();
    assert_eq!(world.sizes(), [0, 20]);
}

#[test]
fn scaling_to_zero_and_back() {
    let mut world = World::new(json!({}));
    world.settle();
    for replicas in [0, 7, 2] {
        world.spec().replicas = Some(replicas);
        world.settle();
        assert_eq!(world.sizes(), [replicas]);
        assert_eq!(
            world
                .deployment
                .status
                .as_ref()
                .unwrap()
                .replicas
                .unwrap_or(0),
            replicas
        );
    }
}

#[test]
fn history_is_kept_to_its_limit() {
    let mut world = World::new(json!({"revisionHistoryLimit": 2}));
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        world.image(version);
        world.settle();
    }
    assert_eq!(world.sizes(), [0, 0, 4]);
    assert_eq!(world.revision(), "5");
}

#[test]
fn a_deployment_on_its_way_out_changes_nothing() {
    let mut world = World::new(json!({}));
    world.settle();
    world.spec().replicas = Some(9);
    world.deployment.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
    );
    assert!(world.step().is_empty());
    assert_eq!(world.sizes(), [4]);
}
