//! A pod's spec, parsed once at the border into what the lifecycle asks of it.
//!
//! What this worker cannot do is found here and refused in words; nothing is silently ignored. The
//! API server refuses most of it earlier, at create; the check here holds for pods that came
//! another way.

mod hook;

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::probes::{self, Specs};
use super::restart::{RestartPolicy, Role};
use crate::api::image::{self, ImageRef};
use crate::api::pod::as_container;
pub use hook::{Hook, HookKind, Hooks};

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Looks the tag up again before each start.
    Always,
    /// Looks it up once; a digest that is on disk is not asked for.
    IfNotPresent,
    /// Only what is on disk.
    Never,
}

/// One container as the lifecycle sees it.
#[derive(Clone, Debug)]
pub struct ContainerPlan {
    pub name: String,
    pub role: Role,
    pub image: ImageRef,
    pub pull_policy: PullPolicy,
    pub probes: Specs,
    pub hooks: Hooks,
}

/// A pod as the lifecycle sees it.
#[derive(Clone, Debug)]
pub struct PodPlan {
    pub restart_policy: RestartPolicy,
    pub grace: Duration,
    pub active_deadline: Option<Duration>,
    /// Init containers and sidecars in their order, then main containers, then ephemeral ones.
    pub containers: Vec<ContainerPlan>,
    /// In `[0, 1)`, from the uid: spreads what pods would otherwise do together.
    pub jitter: f64,
}

/// Why a pod cannot run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the pod has no spec")]
    NoSpec,
    #[error("spec.{0} is not implemented by wasmorch workers")]
    Unsupported(&'static str),
    #[error("container `{container}`")]
    Image {
        container: String,
        #[source]
        source: image::Error,
    },
    #[error("container `{container}`")]
    Probe {
        container: String,
        #[source]
        source: probes::Error,
    },
    #[error("container `{container}`")]
    Hook {
        container: String,
        #[source]
        source: probes::Error,
    },
    #[error("spec.restartPolicy `{0}` is not one of Always, OnFailure, Never")]
    RestartPolicy(String),
}

impl PodPlan {
    /// Parses.
    pub fn of(pod: &Pod) -> Result<Self, Error> {
        let spec = pod.spec.as_ref().ok_or(Error::NoSpec)?;
        refuse_unsupported(spec)?;
        let containers = containers(spec)
            .map(|(container, role)| container_plan(&container, role))
            .collect::<Result<_, _>>()?;
        let seconds = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        Ok(Self {
            restart_policy: restart_policy(spec.restart_policy.as_deref())?,
            grace: Duration::from_secs(
                seconds(spec.termination_grace_period_seconds).unwrap_or(30),
            ),
            active_deadline: seconds(spec.active_deadline_seconds).map(Duration::from_secs),
            containers,
            jitter: jitter(pod.metadata.uid.as_deref().unwrap_or_default()),
        })
    }

    /// The plan of a pod that cannot run here.
    pub fn nothing() -> Self {
        Self {
            restart_policy: RestartPolicy::Never,
            grace: Duration::ZERO,
            active_deadline: None,
            containers: Vec::new(),
            jitter: 0.0,
        }
    }

    /// The longest `preStop.sleep`.
    pub fn pre_stop_sleep(&self) -> Duration {
        let sleeps = self.containers.iter();
        let sleeps = sleeps.map(|container| container.hooks.pre_stop_sleep());
        sleeps.max().unwrap_or_default()
    }
}

/// Every container of a spec with its role, in the order of the plan.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (Cow<'_, Container>, Role)> {
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|each| (Cow::Borrowed(each), init_role(each)));
    let main = spec.containers.iter();
    let main = main.map(|each| (Cow::Borrowed(each), Role::Main));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|each| (Cow::Owned(as_container(each)), Role::Ephemeral));
    init.chain(main).chain(ephemeral)
}

fn refuse_unsupported(spec: &PodSpec) -> Result<(), Error> {
    let is_set = |value: Option<bool>| value == Some(true);
    let wanted = [
        (is_set(spec.host_network), "hostNetwork"),
        (is_set(spec.host_pid), "hostPID"),
        (is_set(spec.host_ipc), "hostIPC"),
        (
            is_set(spec.share_process_namespace),
            "shareProcessNamespace",
        ),
        (spec.resource_claims.is_some(), "resourceClaims"),
    ];
    match wanted.iter().find(|(is_wanted, _)| *is_wanted) {
        Some((_, field)) => Err(Error::Unsupported(field)),
        None => Ok(()),
    }
}

fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") {
        Role::Sidecar
    } else {
        Role::Init
    }
}

fn restart_policy(text: Option<&str>) -> Result<RestartPolicy, Error> {
    match text {
        None | Some("" | "Always") => Ok(RestartPolicy::Always),
        Some("OnFailure") => Ok(RestartPolicy::OnFailure),
        Some("Never") => Ok(RestartPolicy::Never),
        Some(other) => Err(Error::RestartPolicy(other.to_owned())),
    }
}

fn container_plan(container: &Container, role: Role) -> Result<ContainerPlan, Error> {
    let image = container.image.as_deref().unwrap_or_default();
    let image: ImageRef = image.parse().map_err(|source| Error::Image {
        container: container.name.clone(),
        source,
    })?;
    let probes = Specs::of(container).map_err(|source| Error::Probe {
        container: container.name.clone(),
        source,
    })?;
    Ok(ContainerPlan {
        name: container.name.clone(),
        role,
        pull_policy: pull_policy(container.image_pull_policy.as_deref(), &image),
        image,
        probes,
        hooks: Hooks::of(container)?,
    })
}

/// As Kubernetes defaults it: `Always` for `latest`, else `IfNotPresent`.
fn pull_policy(text: Option<&str>, image: &ImageRef) -> PullPolicy {
    match text {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        None | Some(_) if image.digest.is_none() && image.tag_or_latest() == "latest" => {
            PullPolicy::Always
        }
        None | Some(_) => PullPolicy::IfNotPresent,
    }
}

/// A fraction that is the same whenever the worker looks at this pod.
fn jitter(uid: &str) -> f64 {
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(crate) fn pod(spec: &Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "a", "namespace": "default", "uid": "u"}, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn containers_come_in_order_with_their_roles() {
        let plan = PodPlan::of(&pod(&json!({
            "terminationGracePeriodSeconds": 5,
            "restartPolicy": "Never",
            "initContainers": [{"name": "i", "image": "i:v1"}, {"name": "s", "image": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "m", "image": "m", "lifecycle": {"preStop": {"sleep": {"seconds": 2}}}}],
        })))
        .unwrap();
        let roles: Vec<_> = plan
            .containers
            .iter()
            .map(|each| (each.name.as_str(), each.role, each.pull_policy))
            .collect();
        assert_eq!(
            roles,
            [
                ("i", Role::Init, PullPolicy::IfNotPresent),
                ("s", Role::Sidecar, PullPolicy::Always),
                ("m", Role::Main, PullPolicy::Always)
            ]
        );
        assert_eq!(plan.restart_policy, RestartPolicy::Never);
        assert_eq!(plan.pre_stop_sleep(), Duration::from_secs(2));
        assert!((0.0..1.0).contains(&plan.jitter));
    }

    #[test]
    fn hooks_and_ephemeral_containers_are_part_of_the_plan() {
        let plan = PodPlan::of(&pod(&json!({
            "containers": [{"name": "m", "image": "m", "lifecycle": {
                "postStart": {"exec": {"command": ["touch", "/up"]}},
                "preStop": {"httpGet": {"port": 80, "path": "/bye"}}}}],
            "ephemeralContainers": [{"name": "d", "image": "toolbox", "command": ["sh"], "stdin": true}],
        })))
        .unwrap();
        let command = vec!["touch".to_owned(), "/up".to_owned()];
        let hooks = &plan.containers[0].hooks;
        assert_eq!(
            hooks.post_start,
            Some(Hook::Ask(probes::Action::Exec { command }))
        );
        assert!(matches!(
            hooks.pre_stop,
            Some(Hook::Ask(probes::Action::HttpGet { port: 80, .. }))
        ));
        assert_eq!(plan.containers[1].role, Role::Ephemeral);
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        let container = json!([{"name": "m", "image": "m"}]);
        let cases = [
            json!({"containers": container, "hostNetwork": true}),
            json!({"containers": container, "hostPID": true}),
            json!({"containers": container, "restartPolicy": "Sometimes"}),
            json!({"containers": [{"name": "m", "image": "docker.io/nginx"}]}),
            json!({"containers": [{"name": "m", "image": "m", "lifecycle": {"preStop": {"exec": {}}}}]}),
            json!({"containers": [{"name": "m", "image": "m", "livenessProbe": {"exec": {}}}]}),
            json!({"containers": [{"name": "m", "image": "m", "lifecycle": {"postStart": {"tcpSocket": {"port": 1}}}}]}),
        ];
        for case in cases {
            assert!(PodPlan::of(&pod(&case)).is_err(), "{case}");
        }
    }
}
