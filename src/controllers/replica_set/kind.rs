//! The two kinds of sets of replicas. The controller is one; what it looks at is a ReplicaSet, and
//! a ReplicationController is looked at as one (`api/replication_controller.rs`).

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::ReplicationController;

use crate::api::replication_controller;
use crate::api::selector::Labels;
use crate::controllers::runtime::{Source, Sources};
use crate::registry::ApiKind;

pub(in crate::controllers) trait Replicas: ApiKind {
    /// The controller's name among the others.
    const CONTROLLER: &'static str;
    /// Who speaks in events.
    const COMPONENT: &'static str;

    fn source(sources: &mut Sources) -> &mut Source<Self>;
    fn view(&self) -> Cow<'_, ReplicaSet>;
    fn selector(&self) -> Option<Labels>;
    fn set_status(&mut self, status: ReplicaSetStatus);
}

impl Replicas for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset";
    const COMPONENT: &'static str = "replicaset-controller";

    fn source(sources: &mut Sources) -> &mut Source<Self> {
        &mut sources.replica_sets
    }

    fn view(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn selector(&self) -> Option<Labels> {
        Labels::from_selector(&self.spec.as_ref()?.selector).ok()
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl Replicas for ReplicationController {
    const CONTROLLER: &'static str = "replicationcontroller";
    const COMPONENT: &'static str = "replication-controller";

    fn source(sources: &mut Sources) -> &mut Source<Self> {
        &mut sources.replication_controllers
    }

    fn view(&self) -> Cow<'_, ReplicaSet> {
        Cow::Owned(replication_controller::as_replica_set(self))
    }

    fn selector(&self) -> Option<Labels> {
        Some(Labels::from_map(self.spec.as_ref()?.selector.as_ref()?))
    }

    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(replication_controller::status_of(status));
    }
}
