//! THE TABLE: one row per kind, everything that the verbs, discovery and tables need to know of it.
//!
//! A row holds names and shapes; its behaviour is the kind's strategy (`resources/<kind>.rs`),
//! reached through `hooks`. Two rows may share one `storage`: Events are served in two groups from
//! the same objects.

mod row;
mod subresource;

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
    PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::custom;
use super::resources;
use super::strategy::Strategy;
use crate::api::module::Module;

pub use row::ResourceInfo;
pub(super) use row::VERBS;
pub use subresource::SubresourceInfo;

use row::row;
use subresource::{SCALE, own, proxy, status};

/// Every kind that is served.
pub(super) static TABLE: &[ResourceInfo] = &[
    ResourceInfo {
        short_names: &["ns"],
        namespaced: false,
        // Too much to lose by leaving out a name.
        verbs: &[
            "create", "delete", "get", "list", "patch", "update", "watch",
        ],
        subresources: &[
            status::<Namespace>(),
            SubresourceInfo {
                verbs: &["update"],
                ..own::<Namespace>("finalize")
            },
        ],
        columns: resources::namespace::COLUMNS,
        fields: resources::namespace::FIELDS,
        ..row::<Namespace>("namespaces", "namespace")
    },
    ResourceInfo {
        short_names: &["no"],
        namespaced: false,
        subresources: &[status::<Node>(), proxy::<Node>("NodeProxyOptions")],
        columns: resources::node::COLUMNS,
        fields: resources::node::FIELDS,
        ..row::<Node>("nodes", "node")
    },
    ResourceInfo {
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            status::<Pod>(),
            SubresourceInfo {
                kind: "Binding",
                verbs: &["create"],
                ..own::<Pod>("binding")
            },
            SubresourceInfo {
                name: "eviction",
                kind: "Eviction",
                group: "policy",
                version: "v1",
                verbs: &["create"],
            },
            SubresourceInfo {
                verbs: &["get"],
                ..own::<Pod>("log")
            },
            SubresourceInfo {
                kind: "PodExecOptions",
                verbs: &["create", "get"],
                ..own::<Pod>("exec")
            },
            SubresourceInfo {
                kind: "PodAttachOptions",
                verbs: &["create", "get"],
                ..own::<Pod>("attach")
            },
            SubresourceInfo {
                kind: "PodPortForwardOptions",
                verbs: &["create", "get"],
                ..own::<Pod>("portforward")
            },
            proxy::<Pod>("PodProxyOptions"),
            own::<Pod>("ephemeralcontainers"),
        ],
        columns: resources::pod::COLUMNS,
        fields: resources::pod::FIELDS,
        ..row::<Pod>("pods", "pod")
    },
    ResourceInfo {
        short_names: &["rc"],
        categories: &["all"],
        subresources: &[status::<ReplicationController>(), SCALE],
        columns: resources::replica_set::COLUMNS,
        fields: resources::replica_set::FIELDS,
        ..row::<ReplicationController>("replicationcontrollers", "replicationcontroller")
    },
    ResourceInfo {
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[status::<ReplicaSet>(), SCALE],
        columns: resources::replica_set::COLUMNS,
        fields: resources::replica_set::FIELDS,
        ..row::<ReplicaSet>("replicasets.apps", "replicaset")
    },
    ResourceInfo {
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[status::<Deployment>(), SCALE],
        columns: resources::deployment::COLUMNS,
        ..row::<Deployment>("deployments.apps", "deployment")
    },
    ResourceInfo {
        short_names: &["sts"],
        categories: &["all"],
        subresources: &[status::<StatefulSet>(), SCALE],
        columns: resources::stateful_set::COLUMNS,
        ..row::<StatefulSet>("statefulsets.apps", "statefulset")
    },
    ResourceInfo {
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[status::<DaemonSet>()],
        columns: resources::daemon_set::COLUMNS,
        ..row::<DaemonSet>("daemonsets.apps", "daemonset")
    },
    ResourceInfo {
        columns: resources::controller_revision::COLUMNS,
        ..row::<ControllerRevision>("controllerrevisions.apps", "controllerrevision")
    },
    ResourceInfo {
        categories: &["all"],
        subresources: &[status::<Job>()],
        columns: resources::job::COLUMNS,
        fields: resources::job::FIELDS,
        ..row::<Job>("jobs.batch", "job")
    },
    ResourceInfo {
        short_names: &["cj"],
        categories: &["all"],
        subresources: &[status::<CronJob>()],
        columns: resources::cron_job::COLUMNS,
        ..row::<CronJob>("cronjobs.batch", "cronjob")
    },
    ResourceInfo {
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[status::<Service>(), proxy::<Service>("ServiceProxyOptions")],
        columns: resources::service::COLUMNS,
        fields: resources::service::FIELDS,
        ..row::<Service>("services", "service")
    },
    ResourceInfo {
        columns: resources::endpoint_slice::COLUMNS,
        ..row::<EndpointSlice>("endpointslices.discovery.k8s.io", "endpointslice")
    },
    ResourceInfo {
        short_names: &["ep"],
        columns: resources::endpoints::COLUMNS,
        ..row::<Endpoints>("endpoints", "endpoints")
    },
    ResourceInfo {
        short_names: &["cm"],
        columns: resources::config_map::COLUMNS,
        ..row::<ConfigMap>("configmaps", "configmap")
    },
    ResourceInfo {
        columns: resources::secret::COLUMNS,
        fields: resources::secret::FIELDS,
        ..row::<Secret>("secrets", "secret")
    },
    ResourceInfo {
        short_names: &["ev"],
        columns: resources::event::COLUMNS,
        fields: resources::event::FIELDS,
        ..row::<Event>("events", "event")
    },
    ResourceInfo {
        group: "events.k8s.io",
        qualified: "events.events.k8s.io",
        short_names: &["ev"],
        columns: resources::event::COLUMNS,
        fields: resources::event::FIELDS_V1,
        sample: resources::event::sample_v1,
        hooks: resources::event::HOOKS_V1,
        ..row::<Event>("events", "event")
    },
    ResourceInfo {
        columns: resources::lease::COLUMNS,
        ..row::<Lease>("leases.coordination.k8s.io", "lease")
    },
    ResourceInfo {
        short_names: &["sa"],
        subresources: &[SubresourceInfo {
            name: "token",
            kind: "TokenRequest",
            group: "authentication.k8s.io",
            version: "v1",
            verbs: &["create"],
        }],
        columns: resources::service_account::COLUMNS,
        ..row::<ServiceAccount>("serviceaccounts", "serviceaccount")
    },
    ResourceInfo {
        short_names: &["ing"],
        subresources: &[status::<Ingress>()],
        columns: resources::ingress::COLUMNS,
        ..row::<Ingress>("ingresses.networking.k8s.io", "ingress")
    },
    ResourceInfo {
        namespaced: false,
        columns: resources::ingress_class::COLUMNS,
        ..row::<IngressClass>("ingressclasses.networking.k8s.io", "ingressclass")
    },
    ResourceInfo {
        short_names: &["netpol"],
        columns: resources::network_policy::COLUMNS,
        ..row::<NetworkPolicy>("networkpolicies.networking.k8s.io", "networkpolicy")
    },
    ResourceInfo {
        short_names: &["pv"],
        namespaced: false,
        subresources: &[status::<PersistentVolume>()],
        columns: resources::persistent_volume::COLUMNS,
        ..row::<PersistentVolume>("persistentvolumes", "persistentvolume")
    },
    ResourceInfo {
        short_names: &["pvc"],
        subresources: &[status::<PersistentVolumeClaim>()],
        columns: resources::persistent_volume_claim::COLUMNS,
        ..row::<PersistentVolumeClaim>("persistentvolumeclaims", "persistentvolumeclaim")
    },
    ResourceInfo {
        short_names: &["sc"],
        namespaced: false,
        columns: resources::storage_class::COLUMNS,
        ..row::<StorageClass>("storageclasses.storage.k8s.io", "storageclass")
    },
    ResourceInfo {
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        namespaced: false,
        subresources: &[status::<CustomResourceDefinition>()],
        columns: resources::custom_resource_definition::COLUMNS,
        ..row::<CustomResourceDefinition>(custom::DEFINITIONS, "customresourcedefinition")
    },
    ResourceInfo {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[status::<HorizontalPodAutoscaler>()],
        columns: resources::horizontal_pod_autoscaler::COLUMNS,
        ..row::<HorizontalPodAutoscaler>(AUTOSCALERS, "horizontalpodautoscaler")
    },
    ResourceInfo {
        version: "v1",
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[SubresourceInfo {
            version: "v1",
            ..status::<HorizontalPodAutoscaler>()
        }],
        columns: resources::horizontal_pod_autoscaler::COLUMNS,
        sample: resources::horizontal_pod_autoscaler::sample_v1,
        hooks: resources::horizontal_pod_autoscaler::HOOKS_V1,
        ..row::<HorizontalPodAutoscaler>(AUTOSCALERS, "horizontalpodautoscaler")
    },
    ResourceInfo {
        short_names: &["pdb"],
        subresources: &[status::<PodDisruptionBudget>()],
        columns: resources::pod_disruption_budget::COLUMNS,
        ..row::<PodDisruptionBudget>("poddisruptionbudgets.policy", "poddisruptionbudget")
    },
    ResourceInfo {
        short_names: &["pc"],
        namespaced: false,
        columns: resources::priority_class::COLUMNS,
        ..row::<PriorityClass>("priorityclasses.scheduling.k8s.io", "priorityclass")
    },
    ResourceInfo {
        columns: resources::pod_template_object::COLUMNS,
        ..row::<PodTemplate>("podtemplates", "podtemplate")
    },
    ResourceInfo {
        short_names: &["limits"],
        columns: resources::limit_range::COLUMNS,
        ..row::<LimitRange>("limitranges", "limitrange")
    },
    ResourceInfo {
        short_names: &["quota"],
        subresources: &[status::<ResourceQuota>()],
        columns: resources::resource_quota::COLUMNS,
        ..row::<ResourceQuota>("resourcequotas", "resourcequota")
    },
    ResourceInfo {
        columns: resources::role::COLUMNS,
        ..row::<Role>("roles.rbac.authorization.k8s.io", "role")
    },
    ResourceInfo {
        namespaced: false,
        columns: resources::role::COLUMNS,
        ..row::<ClusterRole>("clusterroles.rbac.authorization.k8s.io", "clusterrole")
    },
    ResourceInfo {
        columns: resources::role_binding::COLUMNS,
        ..row::<RoleBinding>("rolebindings.rbac.authorization.k8s.io", "rolebinding")
    },
    ResourceInfo {
        namespaced: false,
        columns: resources::role_binding::COLUMNS,
        ..row::<ClusterRoleBinding>(
            "clusterrolebindings.rbac.authorization.k8s.io",
            "clusterrolebinding",
        )
    },
    ResourceInfo {
        short_names: &["mod"],
        categories: &["wasmorch"],
        subresources: &[SubresourceInfo {
            verbs: &["create", "get", "update"],
            ..own::<Module>("content")
        }],
        columns: resources::module::COLUMNS,
        ..row::<Module>("modules.wasmorch.dev", "module")
    },
];

const AUTOSCALERS: &str = "horizontalpodautoscalers.autoscaling";

/// The row of a kind. Where two rows share their objects, the first: the one that shows them as
/// they are stored.
pub(super) fn row_of<K: Strategy>() -> &'static ResourceInfo {
    let wanted = std::any::TypeId::of::<K>();
    TABLE
        .iter()
        .find(|row| (row.hooks.type_id)() == wanted)
        .expect("whoever has a strategy has a row; a test looks at each")
}
