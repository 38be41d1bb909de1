//! What a pod's claims say about where it may go.
//!
//! Read live from the registry at each decision: a claim that is bound ties the pod to the nodes
//! that its volume reaches; one that waits for its first consumer takes whichever node is chosen,
//! which is then written on it, and the pod is bound once the claim is. Until the write comes back,
//! and for other pods of the same batch, the choice is remembered here.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use super::pod_info::{Operator, PodInfo, Term, Wanted, terms};
use crate::api::storage;
use crate::registry::{Api, Caller, Error, Registry};

pub(super) struct Claims {
    claims: Api<PersistentVolumeClaim>,
    volumes: Api<PersistentVolume>,
    classes: Api<StorageClass>,
    nodes: Api<Node>,
    /// By the claim's uid: the node chosen in this batch.
    chosen: HashMap<String, String>,
}

/// What a look at a pod's claims gave.
pub(super) enum Reach {
    /// Each group of terms must hold with one of its terms. The claims have no volume yet.
    Nodes {
        groups: Vec<Vec<Term>>,
        unbound: Vec<PersistentVolumeClaim>,
    },
    /// Something must happen first.
    Wait(String),
}

impl Claims {
    pub(super) fn new(registry: &Registry) -> Self {
        let caller = || Caller::system(super::COMPONENT);
        Self {
            claims: registry.api(caller()),
            volumes: registry.api(caller()),
            classes: registry.api(caller()),
            nodes: registry.api(caller()),
            chosen: HashMap::new(),
        }
    }

    /// Where the pod's claims let it go.
    pub(super) fn reach(&self, info: &PodInfo) -> Result<Reach, Error> {
        let (mut groups, mut unbound) = (Vec::new(), Vec::new());
        for name in storage::claims_of(&info.pod) {
            let Some(claim) = self.claims.try_get(&info.namespace, name)? else {
                return Ok(Reach::Wait(format!(
                    "persistentvolumeclaim {name:?} not found"
                )));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Ok(Reach::Wait(format!(
                    "persistentvolumeclaim {name:?} is being deleted"
                )));
            }
            if storage::is_bound(&claim) {
                let volume = storage::volume_name(&claim).unwrap_or_default();
                let Some(volume) = self.volumes.try_get("", volume)? else {
                    return Ok(Reach::Wait(format!(
                        "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                    )));
                };
                groups.extend(affinity(&volume));
                continue;
            }
            if !self.waits_for_consumer(&claim)? {
                let message = "pod has unbound immediate PersistentVolumeClaims";
                return Ok(Reach::Wait(message.to_owned()));
            }
            let uid = claim.metadata.uid.as_deref().unwrap_or_default();
            let chosen = self.chosen.get(uid).map(String::as_str);
            if let Some(node) = chosen.or_else(|| storage::selected_node(&claim)) {
                // The controller is making the volume there; a node that is gone is chosen anew.
                if self.nodes.try_get("", node)?.is_some() {
                    groups.push(vec![named(node)]);
                }
            }
            unbound.push(claim.as_ref().clone());
        }
        Ok(Reach::Nodes { groups, unbound })
    }

    fn waits_for_consumer(&self, claim: &PersistentVolumeClaim) -> Result<bool, Error> {
        let class = self.classes.try_get("", storage::class_of(claim))?;
        let mode = class.and_then(|class| class.volume_binding_mode.clone());
        Ok(mode.as_deref() == Some("WaitForFirstConsumer"))
    }

    /// Remembers the node for the rest of the batch.
    pub(super) fn choose(&mut self, claims: &[PersistentVolumeClaim], node: &str) {
        for claim in claims {
            let uid = claim.metadata.uid.clone().unwrap_or_default();
            self.chosen.insert(uid, node.to_owned());
        }
    }

    /// Writes the choice on the claims.
    pub(super) async fn select(
        &self,
        claims: &[PersistentVolumeClaim],
        node: &str,
    ) -> Result<(), Error> {
        for claim in claims {
            if storage::selected_node(claim) == Some(node) {
                continue;
            }
            let mut updated = claim.clone();
            let annotations = updated.metadata.annotations.get_or_insert_default();
            annotations.insert(storage::SELECTED_NODE.to_owned(), node.to_owned());
            let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
            self.claims.update(namespace, &updated).await?;
        }
        Ok(())
    }

    /// What was chosen is written, or has failed and will be chosen again.
    pub(super) fn forget(&mut self) {
        self.chosen.clear();
    }
}

/// Whether the pod has any claim.
pub(super) fn has_claims(pod: &Pod) -> bool {
    storage::claims_of(pod).next().is_some()
}

fn affinity(volume: &PersistentVolume) -> Option<Vec<Term>> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    Some(terms(affinity.required.as_ref()?))
}

fn named(node: &str) -> Term {
    Term {
        labels: Vec::new(),
        fields: vec![Wanted {
            key: "metadata.name".to_owned(),
            operator: Operator::In,
            values: vec![node.to_owned()],
        }],
    }
}
