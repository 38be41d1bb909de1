//! From Kubernetes' pod and container to the runtime's plain specs: limits, mounts, ports.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::env::{self, Variables};
use super::expand::{Budget, TooLarge, expand};
use crate::api::{annotations, duration, quantity};
use crate::runtime::spec::{
    ContainerSpec, MountSpec, PodLimits, PodSandboxSpec, PortSpec, Protocol, VolumeSpec,
};

/// What a pod without memory limits may use.
pub const DEFAULT_MEMORY: u64 = 512 << 20;
const DEFAULT_TERMINATION_LOG: &str = "/dev/termination-log";
const INODES: u64 = 64 << 10;
const SOCKETS: u32 = 4096;

/// The sandbox of a pod.
pub fn sandbox(pod: &Pod, ip: IpAddr, volumes: Vec<VolumeSpec>) -> PodSandboxSpec {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let name = text(&pod.metadata.name);
    let spec = pod.spec.as_ref();
    let hostname = spec.and_then(|spec| spec.hostname.clone());
    PodSandboxSpec {
        uid: text(&pod.metadata.uid),
        namespace: text(&pod.metadata.namespace),
        hostname: hostname.unwrap_or_else(|| name.clone()),
        name,
        ip,
        volumes,
        limits: limits(pod),
        egress: annotation(pod, annotations::EGRESS) != Some("false"),
        keyvalue_volume: annotation(pod, annotations::KEYVALUE_VOLUME).map(str::to_owned),
        // Admission has refused what is no time.
        request_timeout: annotation(pod, annotations::REQUEST_TIMEOUT)
            .and_then(|text| duration::parse(text).ok()),
    }
}

/// What the pod as a whole may use: by Kubernetes' rule, the most that its containers may use at one
/// time. All that have no limit of their own share one [`DEFAULT_MEMORY`].
fn limits(pod: &Pod) -> PodLimits {
    let memory_bytes = most_at_once(pod, "memory", DEFAULT_MEMORY);
    let storage_bytes = most_at_once(pod, "ephemeral-storage", memory_bytes);
    PodLimits {
        memory_bytes,
        storage_bytes: storage_bytes.min(memory_bytes),
        inodes: INODES,
        sockets: SOCKETS,
    }
}

/// Init containers run one by one beside the sidecars that were started before them, then all others
/// beside all sidecars.
fn most_at_once(pod: &Pod, resource: &str, default: u64) -> u64 {
    let Some(spec) = &pod.spec else {
        return default;
    };
    let is_unlimited = |container: &Container| limit(container, resource).is_none();
    let mut init = spec.init_containers.iter().flatten();
    let shared = if spec.containers.iter().chain(init.clone()).any(is_unlimited) {
        default
    } else {
        0
    };
    let of = |container: &Container| limit(container, resource).unwrap_or(0);
    let (mut sidecars, mut most) = (0_u64, 0_u64);
    for container in &mut init {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(of(container));
        } else {
            most = most.max(sidecars.saturating_add(of(container)));
        }
    }
    let others = spec.containers.iter().map(of);
    let together = others.fold(sidecars, u64::saturating_add);
    most.max(together).saturating_add(shared)
}

fn limit(container: &Container, resource: &str) -> Option<u64> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    Some(quantity::units_or_zero(limits.get(resource)?)).filter(|limit| *limit > 0)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// A container of the pod; `env` is whole, `budget` what it has left of what the container may be given.
pub fn container(
    pod: &Pod,
    container: &Container,
    module: &str,
    env: Variables,
    mut budget: Budget,
) -> Result<ContainerSpec, TooLarge> {
    let resources = container.resources.as_ref();
    let millis = |map: Option<&std::collections::BTreeMap<_, _>>| {
        map.and_then(|map| map.get("cpu"))
            .map(quantity::millis_or_zero)
    };
    let requested = millis(resources.and_then(|it| it.requests.as_ref()));
    let limited = millis(resources.and_then(|it| it.limits.as_ref())).filter(|it| *it > 0);
    let reuse = annotation(pod, annotations::INSTANCE_REUSE).and_then(|text| text.parse().ok());
    let security = container.security_context.as_ref();
    Ok(ContainerSpec {
        name: container.name.clone(),
        args: env::argv(container, module, &env, &mut budget)?,
        mounts: mounts(container, &env, &mut budget)?,
        env: env.into_list(),
        working_dir: container
            .working_dir
            .clone()
            .filter(|path| !path.is_empty()),
        ports: ports(container),
        memory_bytes: limit(container, "memory"),
        cpu_limit_millis: limited,
        // The kernel's rule for cgroup shares: 1024 a core, never below 2.
        cpu_shares: (requested.or(limited).unwrap_or(0) * 1024 / 1000).max(2),
        instance_reuse: reuse.unwrap_or(1).max(1),
        read_only_root: security.and_then(|it| it.read_only_root_filesystem) == Some(true),
        stdin: container.stdin == Some(true),
        tty: container.tty == Some(true),
        shows_proc: is_ephemeral(pod, &container.name),
        termination_message_path: Some(
            container
                .termination_message_path
                .clone()
                .filter(|path| path.starts_with('/'))
                .unwrap_or_else(|| DEFAULT_TERMINATION_LOG.to_owned()),
        ),
    })
}

fn is_ephemeral(pod: &Pod, name: &str) -> bool {
    let spec = pod.spec.iter();
    let mut all = spec.flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    all.any(|ephemeral| ephemeral.name == name)
}

fn mounts(
    container: &Container,
    env: &Variables,
    budget: &mut Budget,
) -> Result<Vec<MountSpec>, TooLarge> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .map(|mount| {
            let expanded = mount
                .sub_path_expr
                .as_ref()
                .map(|text| expand(text, |name| env.get(name), budget))
                .transpose()?;
            let sub_path = expanded.or_else(|| mount.sub_path.clone());
            Ok(MountSpec {
                volume: mount.name.clone(),
                path: mount.mount_path.clone(),
                sub_path: sub_path.filter(|path| !path.is_empty()),
                read_only: mount.read_only == Some(true),
            })
        })
        .collect()
}

fn ports(container: &Container) -> Vec<PortSpec> {
    let ports = container.ports.iter().flatten();
    ports
        .filter_map(|port| {
            let number = u16::try_from(port.container_port).ok()?;
            let protocol = match port.protocol.as_deref() {
                None | Some("" | "TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some(_) => return None,
            };
            Some(PortSpec {
                port: number,
                protocol,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::worker::plan::tests::pod;

    #[test]
    fn a_container_with_everything() {
        let mut pod = pod(&json!({"hostname": "h", "containers": [{
            "name": "m", "image": "m", "args": ["$(A)"], "workingDir": "/w",
            "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
            "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "64Mi"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "x/$(A)", "readOnly": true}],
            "securityContext": {"readOnlyRootFilesystem": true}}]}));
        pod.metadata.annotations = Some(
            [
                (annotations::INSTANCE_REUSE.into(), "16".into()),
                (annotations::EGRESS.into(), "false".into()),
                (annotations::KEYVALUE_VOLUME.into(), "v".into()),
                (annotations::REQUEST_TIMEOUT.into(), "2s".into()),
            ]
            .into(),
        );
        let from = &pod.spec.as_ref().unwrap().containers[0];
        let mut env = Variables::default();
        env.put("A".into(), "a".into());
        let spec = container(&pod, from, "hello", env, Budget::default()).unwrap();
        assert_eq!(spec.args, ["hello", "a"]);
        assert_eq!(
            (spec.memory_bytes, spec.cpu_limit_millis),
            (Some(64 << 20), Some(1000))
        );
        assert_eq!((spec.cpu_shares, spec.instance_reuse), (512, 16));
        assert_eq!(spec.mounts[0].sub_path.as_deref(), Some("x/a"));
        assert_eq!(spec.ports.len(), 2);
        assert!(spec.read_only_root);
        let sandbox = sandbox(&pod, "10.64.0.2".parse().unwrap(), Vec::new());
        assert_eq!((sandbox.hostname.as_str(), sandbox.egress), ("h", false));
        assert_eq!(sandbox.keyvalue_volume.as_deref(), Some("v"));
        assert_eq!(sandbox.request_timeout, Some(Duration::from_secs(2)));
        assert_eq!(
            (sandbox.limits.memory_bytes, sandbox.limits.storage_bytes),
            (64 << 20, 64 << 20)
        );
    }

    #[test]
    fn a_pod_may_use_what_its_containers_may_use_at_one_time() {
        type Init<'a> = &'a [(u64, bool)];
        let container = |memory: u64, restart: Option<&str>| {
            let limits = if memory == 0 {
                json!({})
            } else {
                json!({"memory": format!("{memory}Mi")})
            };
            json!({"name": "m", "image": "m", "restartPolicy": restart, "resources": {"limits": limits}})
        };
        let default = DEFAULT_MEMORY >> 20;
        let cases: [(&[u64], Init<'_>, u64); 7] = [
            (&[64], &[], 64),
            (&[64, 32], &[], 96),
            (&[64], &[(1024, false)], 1024),
            (&[64], &[(100, true), (30, false)], 164),
            (&[64], &[(100, true), (300, false)], 400),
            (&[2048, 0], &[], 2048 + default),
            (&[0, 0], &[(0, false)], default),
        ];
        for (main, init, expected) in cases {
            let main: Vec<_> = main.iter().map(|memory| container(*memory, None)).collect();
            let restart = |is_sidecar: bool| is_sidecar.then_some("Always");
            let init = init
                .iter()
                .map(|(memory, it)| container(*memory, restart(*it)));
            let init: Vec<_> = init.collect();
            let pod = pod(&json!({"containers": main, "initContainers": init}));
            assert_eq!(
                limits(&pod).memory_bytes >> 20,
                expected,
                "{main:?} {init:?}"
            );
        }
    }

    #[test]
    fn a_container_with_nothing() {
        let pod = pod(&json!({"containers": [{"name": "m", "image": "m"}]}));
        let from = &pod.spec.as_ref().unwrap().containers[0];
        let spec = container(&pod, from, "m", Variables::default(), Budget::default()).unwrap();
        assert_eq!(
            (spec.memory_bytes, spec.cpu_shares, spec.instance_reuse),
            (None, 2, 1)
        );
        let sandbox = sandbox(&pod, "10.64.0.2".parse().unwrap(), Vec::new());
        assert_eq!(sandbox.limits.memory_bytes, DEFAULT_MEMORY);
        assert_eq!(sandbox.hostname, "a");
    }
}
