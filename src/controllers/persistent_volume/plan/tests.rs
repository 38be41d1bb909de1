//! Claims and volumes from birth to end, step by step, and what is said to whom must act.

#![expect(clippy::needless_pass_by_value, reason = "cases read better as values")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn claim(change: Value) -> PersistentVolumeClaim {
    let mut base = json!({
        "metadata": {"name": "data", "namespace": "default", "uid": "u1", "finalizers": [storage::CLAIM_PROTECTION]},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local", "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    });
    json_patch::merge(&mut base, &change);
    serde_json::from_value(base).unwrap()
}

fn volume(name: &str, change: Value) -> Arc<PersistentVolume> {
    let mut base = json!({
        "metadata": {"name": name, "uid": name, "finalizers": [storage::VOLUME_PROTECTION]},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local", "volumeMode": "Filesystem",
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/srv"}, "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"},
    });
    json_patch::merge(&mut base, &change);
    Arc::new(serde_json::from_value(base).unwrap())
}

fn class(provisioner: &str) -> StorageClass {
    serde_json::from_value(
        json!({"metadata": {"name": "local"}, "provisioner": provisioner,
        "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer"}),
    )
    .unwrap()
}

fn node() -> Node {
    serde_json::from_value(
        json!({"metadata": {"name": "dev-1", "labels": {"kubernetes.io/hostname": "dev-1"}}}),
    )
    .unwrap()
}

fn selected() -> Value {
    json!({"metadata": {"annotations": {storage::SELECTED_NODE: "dev-1"}}})
}

fn plan(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]) -> ClaimStep {
    plan_claim(&ClaimView {
        claim,
        class: Some(&class(storage::PROVISIONER)),
        volumes,
        node: Some(&node()),
        pods: &[],
    })
}

fn told(step: ClaimStep) -> (&'static str, String) {
    match step {
        ClaimStep::Tell(notice) => (notice.reason, notice.message),
        other => panic!("{other:?}"),
    }
}

/// Performs steps until nothing is left to do; returns the claim and its volumes.
fn settle(
    mut claim: PersistentVolumeClaim,
    mut volumes: Vec<Arc<PersistentVolume>>,
) -> (PersistentVolumeClaim, Vec<Arc<PersistentVolume>>) {
    for _ in 0..10 {
        match plan(&claim, &volumes) {
            ClaimStep::Rest | ClaimStep::Tell(_) => return (claim, volumes),
            ClaimStep::Update(updated) | ClaimStep::Status(updated, _) => claim = *updated,
            ClaimStep::TakeVolume(taken) => {
                volumes.retain(|volume| volume.metadata.name != taken.metadata.name);
                volumes.push(Arc::new(*taken));
            }
            ClaimStep::Provision(made, _) => volumes.push(Arc::new(*made)),
        }
    }
    panic!("it does not settle");
}

#[test]
fn a_directory_is_made_where_the_first_pod_goes() {
    let waiting = told(plan(&claim(json!({})), &[]));
    assert_eq!(waiting.0, "WaitForFirstConsumer");
    let (bound, volumes) = settle(claim(selected()), Vec::new());
    assert!(storage::is_bound(&bound));
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("pvc-u1"));
    assert_eq!(bound.status.unwrap().phase.as_deref(), Some("Bound"));
    let made = &volumes[0];
    assert_eq!(storage::node_of(made), Some("dev-1"));
    let spec = made.spec.as_ref().unwrap();
    assert_eq!(
        spec.persistent_volume_reclaim_policy.as_deref(),
        Some("Delete")
    );
    assert_eq!(spec.capacity.as_ref().unwrap()["storage"].0, "1Gi");
    assert!(has_finalizer(&made.metadata, storage::DIRECTORY));
}

#[test]
fn the_smallest_volume_that_serves_is_taken() {
    let volumes = [
        volume("huge", json!({"spec": {"capacity": {"storage": "9Gi"}}})),
        volume("small", json!({"spec": {"capacity": {"storage": "10Mi"}}})),
        volume(
            "taken",
            json!({"spec": {"claimRef": {"namespace": "default", "name": "other", "uid": "u9"}}}),
        ),
        volume("other-class", json!({"spec": {"storageClassName": "slow"}})),
        volume(
            "other-mode",
            json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
        ),
        volume(
            "elsewhere",
            json!({"spec": {"nodeAffinity": serde_json::to_value(storage::only_on("dev-2")).unwrap()}}),
        ),
        volume(
            "going",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ),
        volume(
            "good",
            json!({"spec": {"capacity": {"storage": "2Gi"}, "nodeAffinity": serde_json::to_value(storage::only_on("dev-1")).unwrap()}}),
        ),
    ];
    let (bound, _) = settle(claim(selected()), volumes.to_vec());
    assert_eq!(storage::volume_name(&bound), Some("good"));
}

#[test]
fn a_volume_kept_for_a_claim_waits_for_nobody() {
    let kept = volume(
        "kept",
        json!({"spec": {"claimRef": {"namespace": "default", "name": "data"}}}),
    );
    let (bound, volumes) = settle(claim(json!({})), vec![kept]);
    assert_eq!(storage::volume_name(&bound), Some("kept"));
    let reference = volumes[0]
        .spec
        .as_ref()
        .unwrap()
        .claim_ref
        .as_ref()
        .unwrap();
    assert_eq!(reference.uid.as_deref(), Some("u1"));
}

#[test]
fn a_volume_that_is_chosen_must_be_what_is_asked_for() {
    let chosen = claim(json!({"spec": {"volumeName": "v"}}));
    let cases = [
        (
            json!({"capacity": {"storage": "1Ki"}}),
            "requested PV is too small",
        ),
        (json!({"volumeMode": "Block"}), "incompatible volumeMode"),
        (
            json!({"accessModes": ["ReadOnlyMany"]}),
            "incompatible accessMode",
        ),
        (
            json!({"storageClassName": "slow"}),
            "storageClassName does not match",
        ),
    ];
    for (spec, why) in cases {
        let told = told(plan(&chosen, &[volume("v", json!({"spec": spec}))]));
        let message = format!("Cannot bind to requested volume \"v\": {why}");
        assert_eq!(told, ("VolumeMismatch", message));
    }
    let step = plan(&chosen, &[volume("v", json!({}))]);
    assert!(matches!(step, ClaimStep::TakeVolume(_)), "{step:?}");
    // One that is kept for the claim and is too small is passed over.
    let kept = json!({"spec": {"claimRef": {"namespace": "default", "name": "data"}, "capacity": {"storage": "1Ki"}}});
    let told = told(plan(&claim(json!({})), &[volume("v", kept)]));
    assert_eq!(told.0, "WaitForFirstConsumer");
}

#[test]
fn who_must_act_is_told() {
    let with = |change: Value, class: Option<StorageClass>| {
        let mut wanted = selected();
        json_patch::merge(&mut wanted, &change);
        told(plan_claim(&ClaimView {
            claim: &claim(wanted),
            class: class.as_ref(),
            volumes: &[volume(
                "v",
                json!({"spec": {"claimRef": {"namespace": "x", "name": "y", "uid": "z"}}}),
            )],
            node: Some(&node()),
            pods: &[],
        }))
    };
    let ours = || Some(class(storage::PROVISIONER));
    let cases = [
        (
            json!({}),
            None,
            "ProvisioningFailed",
            "storageclass.storage.k8s.io \"local\" not found",
        ),
        (
            json!({"spec": {"storageClassName": ""}}),
            None,
            "FailedBinding",
            "no storage class is set",
        ),
        (
            json!({}),
            Some(class("ebs.csi")),
            "ExternalProvisioning",
            "'ebs.csi'",
        ),
        (
            json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
            ours(),
            "ProvisioningFailed",
            "only ReadWriteOnce",
        ),
        (
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}),
            ours(),
            "ProvisioningFailed",
            "Selector",
        ),
        (
            json!({"spec": {"volumeName": "v"}}),
            ours(),
            "FailedBinding",
            "already bound",
        ),
    ];
    for (change, class, reason, words) in cases {
        let (found, message) = with(change, class);
        assert_eq!(found, reason);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_selected_node_that_is_gone_is_selected_again() {
    let claim = claim(selected());
    let step = plan_claim(&ClaimView {
        claim: &claim,
        class: Some(&class(storage::PROVISIONER)),
        volumes: &[],
        node: None,
        pods: &[],
    });
    let ClaimStep::Update(updated) = step else {
        panic!("{step:?}")
    };
    assert_eq!(storage::selected_node(&updated), None);
}

#[test]
fn a_claim_stays_while_a_pod_uses_it() {
    let going = claim(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let pod = |node: &str, phase: &str| -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": phase}, "spec": {
            "nodeName": node, "containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}))
        .unwrap())
    };
    let check = |pods: &[Arc<Pod>]| {
        plan_claim(&ClaimView {
            claim: &going,
            class: None,
            volumes: &[],
            node: None,
            pods,
        })
    };
    assert_eq!(check(&[pod("dev-1", "Running")]), ClaimStep::Rest);
    for pods in [
        vec![],
        vec![pod("", "Pending")],
        vec![pod("dev-1", "Succeeded")],
    ] {
        let ClaimStep::Update(updated) = check(&pods) else {
            panic!("{pods:?}")
        };
        assert!(!has_finalizer(&updated.metadata, storage::CLAIM_PROTECTION));
    }
}

#[test]
fn a_bound_claim_that_lost_its_volume_says_so() {
    let (bound, _) = settle(claim(selected()), Vec::new());
    let ClaimStep::Status(lost, Some(notice)) = plan(&bound, &[]) else {
        panic!("not lost")
    };
    assert_eq!(lost.status.unwrap().phase.as_deref(), Some("Lost"));
    assert_eq!(notice.reason, "ClaimLost");
}

#[test]
fn the_end_of_a_volume() {
    let (bound, volumes) = settle(claim(selected()), Vec::new());
    let ours = volumes[0].as_ref();
    let view = |volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>, has_node| {
        plan_volume(&VolumeView {
            volume,
            claim,
            has_node,
        })
    };
    let phase = |step: VolumeStep| match step {
        VolumeStep::Status(volume, _) => volume.status.unwrap().phase.unwrap(),
        other => format!("{other:?}"),
    };
    assert_eq!(phase(view(ours, Some(&bound), true)), "Bound");
    assert_eq!(view(ours, None, true), VolumeStep::Delete);
    // Another claim of the same name is another claim.
    let successor = claim(json!({"metadata": {"uid": "u2"}}));
    assert_eq!(view(ours, Some(&successor), true), VolumeStep::Delete);
    let mut retained = ours.clone();
    retained
        .spec
        .as_mut()
        .unwrap()
        .persistent_volume_reclaim_policy = Some("Retain".into());
    assert_eq!(phase(view(&retained, None, true)), "Released");
    let by_hand = volume(
        "v",
        json!({"spec": {"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"name": "x", "uid": "y"}}}),
    );
    assert_eq!(phase(view(&by_hand, None, true)), "Failed");
    assert_eq!(view(&volume("v", json!({})), None, true), VolumeStep::Rest);

    let mut going = ours.clone();
    going.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(view(&going, Some(&bound), true), VolumeStep::Rest);
    let left = |step: VolumeStep| match step {
        VolumeStep::Update(volume) => volume.metadata.finalizers.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(left(view(&going, None, true)), [storage::DIRECTORY]);
    assert!(left(view(&going, None, false)).is_empty());
}

proptest! {
    /// Whatever volumes there are, claims settle, and no volume has two of them.
    #[test]
    fn no_volume_is_given_twice(sizes in prop::collection::vec(1_u32..5, 0..6), asked in prop::collection::vec(1_u32..5, 1..6)) {
        let mut volumes: Vec<_> = sizes.iter().enumerate()
            .map(|(n, size)| volume(&format!("v{n}"), json!({"spec": {"capacity": {"storage": format!("{size}Gi")}}})))
            .collect();
        let mut taken = std::collections::BTreeSet::new();
        for (n, size) in asked.iter().enumerate() {
            let mut change = selected();
            json_patch::merge(&mut change, &json!({"metadata": {"name": format!("c{n}"), "uid": format!("u{n}")},
                "spec": {"resources": {"requests": {"storage": format!("{size}Gi")}}}}));
            let (bound, after) = settle(claim(change), volumes);
            volumes = after;
            prop_assert!(storage::is_bound(&bound));
            prop_assert!(taken.insert(storage::volume_name(&bound).unwrap().to_owned()));
        }
    }
}
