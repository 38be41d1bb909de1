//! The specification of a pod: defaults, what is wrong, and what wasmorch does not honour.
//!
//! A field that would be stored and then ignored is a lie, so it is refused here with the reason
//! and what to do instead. Fields that the sandbox satisfies anyway (`runAsNonRoot`, dropped
//! capabilities) are accepted, and so are defaults spelt out.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, Toleration};

use super::super::field_error::Errors;
use super::super::meta;
use super::super::path::Path;
use super::container::{self, Role};
use super::{affinity, ephemeral, topology_spread, volume};
use crate::api::names;
use crate::api::priority::PREEMPTION_POLICIES;

const DEFAULT_GRACE_SECONDS: i64 = 30;

pub(super) fn set_defaults(spec: &mut PodSpec) {
    let text = |field: &mut Option<String>, value: &str| {
        if field.as_deref().is_none_or(str::is_empty) {
            *field = Some(value.to_owned());
        }
    };
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds
        .get_or_insert(DEFAULT_GRACE_SECONDS);
    spec.security_context.get_or_insert_default();
    mirror(&mut spec.service_account_name, &mut spec.service_account);
    let init = spec.init_containers.iter_mut().flatten();
    init.chain(&mut spec.containers)
        .for_each(container::set_defaults);
    let ephemeral_containers = spec.ephemeral_containers.iter_mut().flatten();
    ephemeral_containers.for_each(ephemeral::set_defaults);
    spec.volumes
        .iter_mut()
        .flatten()
        .for_each(volume::set_defaults);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both say the same.
fn mirror(name: &mut Option<String>, old_name: &mut Option<String>) {
    if name.as_deref().is_none_or(str::is_empty) {
        name.clone_from(old_name);
    }
    old_name.clone_from(name);
}

pub(super) fn validate(path: &Path<'_>, spec: &PodSpec, errors: &mut Errors) {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    volume::validate(&path.field("volumes"), volumes, errors);
    validate_containers(path, spec, errors);
    ephemeral::validate(path, spec, errors);
    errors.one_of(
        &path.field("restartPolicy"),
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    errors.one_of(
        &path.field("dnsPolicy"),
        spec.dns_policy.as_deref(),
        &["ClusterFirst"],
    );
    errors.one_of(
        &path.field("preemptionPolicy"),
        spec.preemption_policy.as_deref(),
        PREEMPTION_POLICIES,
    );
    errors.non_negative(
        &path.field("terminationGracePeriodSeconds"),
        spec.termination_grace_period_seconds,
    );
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(
            &path.field("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty())
            && !names::is_dns_label(name)
        {
            errors.invalid(&path.field(field), name, names::DNS_LABEL_RULE);
        }
    }
    for (field, name) in [
        ("nodeName", &spec.node_name),
        ("serviceAccountName", &spec.service_account_name),
        ("priorityClassName", &spec.priority_class_name),
    ] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty())
            && !names::is_dns_subdomain(name)
        {
            errors.invalid(&path.field(field), name, names::DNS_SUBDOMAIN_RULE);
        }
    }
    if let Some(labels) = &spec.node_selector {
        meta::validate_labels(&path.field("nodeSelector"), labels, errors);
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    validate_tolerations(&path.field("tolerations"), tolerations, errors);
    if let Some(context) = &spec.security_context {
        validate_security(&path.field("securityContext"), context, errors);
    }
    if let Some(affinity) = &spec.affinity {
        affinity::validate(&path.field("affinity"), affinity, errors);
    }
    let constraints = spec.topology_spread_constraints.as_deref();
    topology_spread::validate(
        &path.field("topologySpreadConstraints"),
        constraints.unwrap_or_default(),
        errors,
    );
    refuse_host(path, spec, errors);
    refuse_placement(path, spec, errors);
    refuse_rest(path, spec, errors);
}

type RoleOf = fn(&Container) -> Role;

fn validate_containers(path: &Path<'_>, spec: &PodSpec, errors: &mut Errors) {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    if spec.containers.is_empty() {
        errors.required(&path.field("containers"), "");
    }
    let mut seen = BTreeSet::new();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let lists: [(&str, RoleOf, &[Container]); 2] = [
        ("initContainers", Role::of_init, init),
        ("containers", |_| Role::Main, spec.containers.as_slice()),
    ];
    for (field, role, list) in lists {
        let list_path = path.field(field);
        for (index, found) in list.iter().enumerate() {
            let at = list_path.index(index);
            let name = at.field("name");
            if found.name.is_empty() {
                errors.required(&name, "");
            } else if !names::is_dns_label(&found.name) {
                errors.invalid(&name, &found.name, names::DNS_LABEL_RULE);
            } else if !seen.insert(&found.name) {
                errors.duplicate(&name, &found.name);
            }
            container::validate(&at, found, role(found), volumes, errors);
        }
    }
}

fn validate_tolerations(path: &Path<'_>, tolerations: &[Toleration], errors: &mut Errors) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let at = path.index(index);
        let key = toleration.key.as_deref().unwrap_or_default();
        let operator = toleration.operator.as_deref().filter(|o| !o.is_empty());
        errors.one_of(&at.field("operator"), operator, &["Equal", "Exists"]);
        let effect = toleration.effect.as_deref().filter(|e| !e.is_empty());
        errors.one_of(
            &at.field("effect"),
            effect,
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        if !key.is_empty() && !names::is_qualified_name(key) {
            errors.invalid(&at.field("key"), key, names::QUALIFIED_NAME_RULE);
        }
        if key.is_empty() && operator != Some("Exists") {
            errors.invalid(
                &at.field("operator"),
                operator.unwrap_or_default(),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if operator == Some("Exists") && toleration.value.as_deref().is_some_and(|v| !v.is_empty())
        {
            errors.invalid(
                &at.field("operator"),
                toleration.value.as_deref().unwrap_or_default(),
                "value must be empty when `operator` is 'Exists'",
            );
        }
        if toleration.toleration_seconds.is_some() && effect != Some("NoExecute") {
            errors.invalid(
                &at.field("effect"),
                effect.unwrap_or_default(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
    }
}

fn validate_security(path: &Path<'_>, context: &PodSecurityContext, errors: &mut Errors) {
    let hint = "remove it; the sandbox does not depend on the host";
    for (field, present) in [
        (
            "sysctls",
            context.sysctls.as_ref().is_some_and(|s| !s.is_empty()),
        ),
        ("seLinuxOptions", context.se_linux_options.is_some()),
        ("appArmorProfile", context.app_armor_profile.is_some()),
        ("windowsOptions", context.windows_options.is_some()),
    ] {
        errors.not_honoured(&path.field(field), present, hint);
    }
    errors.non_negative(&path.field("runAsUser"), context.run_as_user);
    errors.non_negative(&path.field("runAsGroup"), context.run_as_group);
    errors.non_negative(&path.field("fsGroup"), context.fs_group);
}

/// Fields that would share something of the host.
fn refuse_host(path: &Path<'_>, spec: &PodSpec, errors: &mut Errors) {
    let hint = "a pod is a sandbox of its own; remove it, or set it to false";
    for (field, value) in [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
        ("shareProcessNamespace", spec.share_process_namespace),
        ("setHostnameAsFQDN", spec.set_hostname_as_fqdn),
    ] {
        errors.not_honoured(&path.field(field), value == Some(true), hint);
    }
}

/// Fields that would steer where and when a pod runs.
fn refuse_placement(path: &Path<'_>, spec: &PodSpec, errors: &mut Errors) {
    let named = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
    for (field, present, hint) in [
        (
            "schedulingGates",
            spec.scheduling_gates
                .as_ref()
                .is_some_and(|g| !g.is_empty()),
            "create the pod when it may run",
        ),
        (
            "runtimeClassName",
            named(&spec.runtime_class_name),
            "there is one runtime; remove it",
        ),
        (
            "overhead",
            spec.overhead.as_ref().is_some_and(|o| !o.is_empty()),
            "remove it",
        ),
        (
            "os",
            spec.os.as_ref().is_some_and(|os| os.name != "linux"),
            "a wasm program runs on any system; remove it",
        ),
        (
            "resourceClaims",
            spec.resource_claims.as_ref().is_some_and(|c| !c.is_empty()),
            "there are no devices to claim; remove it",
        ),
        (
            "resources",
            spec.resources.is_some(),
            "set resources of the containers",
        ),
    ] {
        errors.not_honoured(&path.field(field), present, hint);
    }
}

fn refuse_rest(path: &Path<'_>, spec: &PodSpec, errors: &mut Errors) {
    for (field, present, hint) in [
        (
            "dnsConfig",
            spec.dns_config.is_some(),
            "names are resolved by the cluster; remove it",
        ),
        (
            "hostAliases",
            spec.host_aliases.as_ref().is_some_and(|a| !a.is_empty()),
            "use a Service of type ExternalName",
        ),
        (
            "hostnameOverride",
            spec.hostname_override.is_some(),
            "set hostname",
        ),
        (
            "imagePullSecrets",
            spec.image_pull_secrets
                .as_ref()
                .is_some_and(|s| !s.is_empty()),
            "modules come from the cluster itself; remove it",
        ),
        (
            "readinessGates",
            spec.readiness_gates.as_ref().is_some_and(|g| !g.is_empty()),
            "use a readinessProbe",
        ),
    ] {
        errors.not_honoured(&path.field(field), present, hint);
    }
}
