//! The annotation, label and taint keys that wasmorch gives a meaning to, in one place, so that no
//! two rooms spell one differently.

/// Names the node that an object belongs to (`kubernetes.io/hostname`).
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// On ReplicaSets and pods of a Deployment: the hash of the pod template.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// On Deployments and ReplicaSets: the revision number of the rollout.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// On ReplicaSets: the replicas that the Deployment wants, for proportional scaling.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// On ReplicaSets: desired replicas plus the allowed surge.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// On pod templates: set by `rollout restart`.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// On EndpointSlices and Endpoints: the Service they belong to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// On Secrets of type `kubernetes.io/service-account-token`: whose token it is.
pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
/// On the same: the uid of that account.
pub const SERVICE_ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The type of such a Secret.
pub const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
/// On EndpointSlices: who writes them.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// On Nodes: the `host:port` where the worker takes connections for its pods (the wire plane).
pub const WIRE_ADDRESS: &str = "wasmorch.dev/wire-address";
/// On Nodes: the process id of the worker, for `dev` and the dashboard.
pub const WORKER_PID: &str = "wasmorch.dev/pid";
/// On Pods: `"false"` keeps the pod's guests from addresses outside the cluster.
pub const EGRESS: &str = "wasmorch.dev/egress";
/// On Pods: the volume in which `wasi:keyvalue` keeps its buckets; in the worker's memory without it.
pub const KEYVALUE_VOLUME: &str = "wasmorch.dev/keyvalue-volume";
/// On Pods: how long a handler may take to its response, and then to each next piece of it (`30s`).
pub const REQUEST_TIMEOUT: &str = "wasmorch.dev/request-timeout";
/// On Pods: how many requests one handler instance may serve before it is dropped; default 1.
pub const INSTANCE_REUSE: &str = "wasmorch.dev/instance-reuse";

/// The taint on a node whose lease is stale (value-less, `NoExecute`).
pub const TAINT_UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The taint on a node that reports itself not ready (`NoExecute`).
pub const TAINT_NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint on a cordoned node (`NoSchedule`).
pub const TAINT_UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
