//! Containers: one wasm program each, with its arguments, environment, ports and limits.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ResourceRequirements, SecurityContext, Volume,
};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::{env, lifecycle, port, probe, volume};
use crate::api::image::ImageRef;
use crate::api::{pod, quantity};

/// The resources that can be requested and limited.
pub(super) const RESOURCES: &[&str] = &["cpu", "memory", "ephemeral-storage"];
const TERMINATION_LOG: &str = "/dev/termination-log";

pub(super) fn set_defaults(container: &mut Container) {
    let always = container.image.as_deref().is_none_or(|image| {
        let Ok(image) = image.parse::<ImageRef>() else {
            return false;
        };
        image.digest.is_none() && image.tag_or_latest() == "latest"
    });
    let policy = if always { "Always" } else { "IfNotPresent" };
    container
        .image_pull_policy
        .get_or_insert_with(|| policy.to_owned());
    container
        .termination_message_path
        .get_or_insert_with(|| TERMINATION_LOG.to_owned());
    container
        .termination_message_policy
        .get_or_insert_with(|| "File".to_owned());
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    for variable in container.env.iter_mut().flatten() {
        let source = variable.value_from.as_mut();
        if let Some(field) = source.and_then(|source| source.field_ref.as_mut()) {
            field.api_version.get_or_insert_with(|| "v1".to_owned());
        }
    }
    let probes = [
        &mut container.startup_probe,
        &mut container.readiness_probe,
        &mut container.liveness_probe,
    ];
    probes.into_iter().flatten().for_each(probe::set_defaults);
    default_requests(container.resources.get_or_insert_default());
}

/// What is limited and not requested is requested up to its limit.
fn default_requests(resources: &mut ResourceRequirements) {
    let Some(limits) = resources
        .limits
        .as_ref()
        .filter(|limits| !limits.is_empty())
    else {
        return;
    };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests
            .entry(name.clone())
            .or_insert_with(|| limit.clone());
    }
}

/// Whether a container runs before the others or with them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    /// An init container that stays: `restartPolicy: Always`.
    Sidecar,
    Main,
    /// Added to a running pod; what it may not have is judged in `ephemeral`.
    Ephemeral,
}

impl Role {
    /// The role of one of `initContainers`.
    pub(super) fn of_init(container: &Container) -> Self {
        if pod::is_sidecar(container) {
            Self::Sidecar
        } else {
            Self::Init
        }
    }
}

pub(super) fn validate(
    path: &Path<'_>,
    container: &Container,
    role: Role,
    volumes: &[Volume],
    errors: &mut Errors,
) {
    validate_image(&path.field("image"), container.image.as_deref(), errors);
    errors.one_of(
        &path.field("imagePullPolicy"),
        container.image_pull_policy.as_deref(),
        &["Always", "IfNotPresent", "Never"],
    );
    env::validate(
        &path.field("env"),
        container.env.as_deref().unwrap_or_default(),
        errors,
    );
    env::validate_from(
        &path.field("envFrom"),
        container.env_from.as_deref().unwrap_or_default(),
        errors,
    );
    validate_ports(
        &path.field("ports"),
        container.ports.as_deref().unwrap_or_default(),
        errors,
    );
    if let Some(resources) = &container.resources {
        validate_resources(&path.field("resources"), resources, errors);
    }
    volume::validate_mounts(
        &path.field("volumeMounts"),
        container.volume_mounts.as_deref().unwrap_or_default(),
        volumes,
        errors,
    );
    for (name, found) in [
        ("startupProbe", &container.startup_probe),
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
    ] {
        let Some(found) = found else { continue };
        let at = path.field(name);
        match role {
            Role::Init => errors.forbidden(
                &at,
                "may not be set for init containers without restartPolicy=Always",
            ),
            Role::Ephemeral => {}
            Role::Sidecar | Role::Main => {
                probe::validate(&at, found, name == "readinessProbe", errors);
            }
        }
    }
    if let Some(context) = &container.security_context {
        validate_security(&path.field("securityContext"), context, role, errors);
    }
    if let Some(found) = &container.lifecycle {
        let at = path.field("lifecycle");
        match role {
            Role::Init => errors.forbidden(
                &at,
                "may not be set for init containers without restartPolicy=Always",
            ),
            Role::Ephemeral => {}
            Role::Sidecar | Role::Main => lifecycle::validate(&at, found, errors),
        }
    }
    validate_termination_message(path, container, errors);
    let restart_policy = container.restart_policy.as_deref();
    let restart_path = path.field("restartPolicy");
    match role {
        Role::Init | Role::Sidecar => errors.one_of(&restart_path, restart_policy, &["Always"]),
        Role::Main if restart_policy.is_some() => {
            errors.forbidden(&restart_path, "may not be set for non-init containers");
        }
        Role::Main | Role::Ephemeral => {}
    }
    validate_not_honoured(path, container, errors);
}

fn validate_not_honoured(path: &Path<'_>, container: &Container, errors: &mut Errors) {
    let mut refuse = |field: &str, present: bool, hint: &str| {
        errors.not_honoured(&path.field(field), present, hint);
    };
    refuse(
        "restartPolicyRules",
        container.restart_policy_rules.is_some(),
        "set restartPolicy of the pod",
    );
    refuse(
        "resizePolicy",
        container
            .resize_policy
            .as_ref()
            .is_some_and(|p| !p.is_empty()),
        "a container's limits cannot change while it runs; remove the field",
    );
    refuse(
        "volumeDevices",
        container
            .volume_devices
            .as_ref()
            .is_some_and(|d| !d.is_empty()),
        "there are no block devices; use volumeMounts",
    );
}

fn validate_termination_message(path: &Path<'_>, container: &Container, errors: &mut Errors) {
    let at = path.field("terminationMessagePath");
    if let Some(found) = container.termination_message_path.as_deref() {
        let is_plain = found.starts_with('/') && found.split('/').all(|part| part != "..");
        if !is_plain || found.ends_with('/') {
            errors.invalid(&at, found, "must be the absolute path of a file");
        }
    }
    errors.one_of(
        &path.field("terminationMessagePolicy"),
        container.termination_message_policy.as_deref(),
        &["FallbackToLogsOnError", "File"],
    );
}

fn validate_image(path: &Path<'_>, image: Option<&str>, errors: &mut Errors) {
    let image = image.unwrap_or_default();
    if image.is_empty() {
        errors.required(path, "");
    } else if let Err(error) = image.parse::<ImageRef>() {
        errors.invalid(path, image, &error.to_string());
    }
}

fn validate_ports(path: &Path<'_>, ports: &[ContainerPort], errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, found) in ports.iter().enumerate() {
        let at = path.index(index);
        if found.container_port == 0 {
            errors.required(&at.field("containerPort"), "");
        } else {
            port::validate_number(&at.field("containerPort"), found.container_port, errors);
        }
        errors.one_of(
            &at.field("protocol"),
            found.protocol.as_deref(),
            port::PROTOCOLS,
        );
        if let Some(name) = found.name.as_deref().filter(|name| !name.is_empty()) {
            port::validate_name(&at.field("name"), name, errors);
            if !seen.insert(name) {
                errors.duplicate(&at.field("name"), name);
            }
        }
        errors.not_honoured(
            &at.field("hostPort"),
            found.host_port.is_some_and(|port| port != 0),
            "use a Service of type NodePort or LoadBalancer",
        );
        errors.not_honoured(
            &at.field("hostIP"),
            found.host_ip.as_deref().is_some_and(|ip| !ip.is_empty()),
            "use a Service of type NodePort or LoadBalancer",
        );
    }
}

fn validate_resources(path: &Path<'_>, resources: &ResourceRequirements, errors: &mut Errors) {
    errors.not_honoured(
        &path.field("claims"),
        resources.claims.as_ref().is_some_and(|c| !c.is_empty()),
        "there are no devices to claim; remove it",
    );
    for (field, amounts) in [
        ("limits", &resources.limits),
        ("requests", &resources.requests),
    ] {
        let list = path.field(field);
        for (name, amount) in amounts.iter().flatten() {
            let at = list.key(name);
            if !RESOURCES.contains(&name.as_str()) {
                errors.not_supported(&at, name, RESOURCES);
            }
            match quantity::parse_nano(&amount.0) {
                Ok(nano) if nano < 0 => {
                    errors.invalid(&at, &amount.0, "must be greater than or equal to 0");
                }
                Ok(_) => {}
                Err(error) => errors.invalid(&at, &amount.0, &error.to_string()),
            }
        }
    }
    let limits = resources.limits.iter().flatten();
    for (name, limit) in limits {
        let request = resources.requests.as_ref().and_then(|r| r.get(name));
        let Some(request) = request else { continue };
        let (Ok(wanted), Ok(allowed)) = (
            quantity::parse_nano(&request.0),
            quantity::parse_nano(&limit.0),
        ) else {
            continue;
        };
        if wanted > allowed {
            errors.invalid(
                &path.field("requests"),
                &request.0,
                &format!("must be less than or equal to {name} limit of {}", limit.0),
            );
        }
    }
}

fn validate_security(path: &Path<'_>, context: &SecurityContext, role: Role, errors: &mut Errors) {
    let added = context.capabilities.as_ref().and_then(|c| c.add.as_ref());
    // Debuggers' clients ask for it by default, and the pod's files are open to each other anyway.
    let is_usual = |name: &String| role == Role::Ephemeral && name == "SYS_PTRACE";
    let added = added.is_some_and(|add| !add.iter().all(is_usual));
    let capabilities = path.field("capabilities");
    errors.not_honoured(
        &capabilities.field("add"),
        added,
        "a wasm guest has no capabilities of the kernel; remove it",
    );
    for (field, present, hint) in [
        (
            "privileged",
            context.privileged == Some(true),
            "a wasm guest cannot leave its sandbox; remove it",
        ),
        (
            "procMount",
            context
                .proc_mount
                .as_deref()
                .is_some_and(|m| m != "Default"),
            "a sandbox has no /proc; remove it",
        ),
        (
            "seLinuxOptions",
            context.se_linux_options.is_some(),
            "remove it; the sandbox does not depend on the host",
        ),
        (
            "appArmorProfile",
            context.app_armor_profile.is_some(),
            "remove it; the sandbox does not depend on the host",
        ),
        (
            "windowsOptions",
            context.windows_options.is_some(),
            "remove it; the sandbox does not depend on the host",
        ),
    ] {
        errors.not_honoured(&path.field(field), present, hint);
    }
    errors.non_negative(&path.field("runAsUser"), context.run_as_user);
    errors.non_negative(&path.field("runAsGroup"), context.run_as_group);
    if context.run_as_non_root == Some(true) && context.run_as_user == Some(0) {
        errors.invalid(
            &path.field("runAsUser"),
            0,
            "must not be 0 when runAsNonRoot is true",
        );
    }
}
