//! Probes: what wasmorch asks a container to learn whether it started, lives and is ready.
//!
//! An `exec` probe runs a command beside the container: one of the toolbox, a wasm file of the pod, or
//! the container's own program once more.

use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, Probe};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::port;

pub(super) fn set_defaults(probe: &mut Probe) {
    let default = |field: &mut Option<i32>, value| {
        if field.is_none_or(|found| found == 0) {
            *field = Some(value);
        }
    };
    default(&mut probe.timeout_seconds, 1);
    default(&mut probe.period_seconds, 10);
    default(&mut probe.success_threshold, 1);
    default(&mut probe.failure_threshold, 3);
    if let Some(action) = &mut probe.http_get {
        action.path.get_or_insert_with(|| "/".to_owned());
        action.scheme.get_or_insert_with(|| "HTTP".to_owned());
    }
}

/// `may_succeed_often` is true for readiness only.
pub(super) fn validate(
    path: &Path<'_>,
    probe: &Probe,
    may_succeed_often: bool,
    errors: &mut Errors,
) {
    errors.not_honoured(
        &path.field("grpc"),
        probe.grpc.is_some(),
        "use httpGet, tcpSocket or exec",
    );
    if let Some(action) = &probe.exec {
        let at = path.field("exec");
        validate_exec(&at, action, errors);
        if probe.http_get.is_some() || probe.tcp_socket.is_some() {
            errors.forbidden(&at, "may not specify more than 1 handler type");
        }
    }
    if let Some(seconds) = probe.termination_grace_period_seconds {
        let at = path.field("terminationGracePeriodSeconds");
        if may_succeed_often {
            errors.forbidden(&at, "must not be set for readinessProbes");
        } else if seconds <= 0 {
            errors.invalid(&at, seconds, "must be greater than 0");
        }
    }
    match (&probe.http_get, &probe.tcp_socket) {
        (Some(_), Some(_)) => errors.forbidden(
            &path.field("tcpSocket"),
            "may not specify more than 1 handler type",
        ),
        (Some(action), None) => validate_http(&path.field("httpGet"), action, errors),
        (None, Some(action)) => {
            let at = path.field("tcpSocket");
            port::validate_reference(&at.field("port"), &action.port, errors);
            validate_host(&at, action.host.as_deref(), errors);
        }
        (None, None) if probe.exec.is_none() && probe.grpc.is_none() => {
            errors.required(path, "must specify a handler type");
        }
        (None, None) => {}
    }
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.non_negative(&path.field(name), value.map(i64::from));
    }
    if let Some(threshold) = probe.success_threshold
        && threshold > 1
        && !may_succeed_often
    {
        errors.invalid(&path.field("successThreshold"), threshold, "must be 1");
    }
}

pub(super) fn validate_exec(path: &Path<'_>, action: &ExecAction, errors: &mut Errors) {
    if action.command.as_ref().is_none_or(Vec::is_empty) {
        errors.required(&path.field("command"), "");
    }
}

pub(super) fn validate_http(path: &Path<'_>, action: &HTTPGetAction, errors: &mut Errors) {
    port::validate_reference(&path.field("port"), &action.port, errors);
    validate_host(path, action.host.as_deref(), errors);
    errors.one_of(&path.field("scheme"), action.scheme.as_deref(), &["HTTP"]);
    if action.path.as_deref().is_none_or(str::is_empty) {
        errors.required(&path.field("path"), "");
    }
    let headers = path.field("httpHeaders");
    for (index, header) in action.http_headers.iter().flatten().enumerate() {
        if header.name.parse::<http::HeaderName>().is_err() {
            errors.invalid(
                &headers.index(index).field("name"),
                &header.name,
                "a valid HTTP header must consist of alphanumeric characters or '-'",
            );
        }
    }
}

fn validate_host(path: &Path<'_>, host: Option<&str>, errors: &mut Errors) {
    errors.not_honoured(
        &path.field("host"),
        !matches!(host, None | Some("" | "127.0.0.1" | "localhost")),
        "a probe asks its own pod; remove the field",
    );
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn one_question_to_the_pod_itself() {
        let at = "/spec/containers/0/readinessProbe";
        let path = "spec.containers[0].readinessProbe";
        let check = check::<Pod>;
        check(
            at,
            &json!({"httpGet": {"port": "web", "path": "/ready"}, "successThreshold": 3}),
            &[],
        );
        check(
            at,
            &json!({"httpGet": {"port": 80, "host": "localhost"}}),
            &[],
        );
        check(at, &json!({"exec": {"command": ["cat", "/ready"]}}), &[]);
        check(
            at,
            &json!({"exec": {}}),
            &[&format!("{path}.exec.command: Required value")],
        );
        check(
            at,
            &json!({}),
            &[&format!(
                "{path}: Required value: must specify a handler type"
            )],
        );
        check(
            at,
            &json!({"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}),
            &[&format!(
                "{path}.tcpSocket: Forbidden: may not specify more than 1 handler type"
            )],
        );
        check(
            at,
            &json!({"httpGet": {"port": 80, "scheme": "HTTPS"}}),
            &[&format!(
                "{path}.httpGet.scheme: Unsupported value: \"HTTPS\": supported values: \"HTTP\""
            )],
        );
        check(
            at,
            &json!({"tcpSocket": {"port": 80, "host": "example.com"}}),
            &[&format!(
                "{path}.tcpSocket.host: Forbidden: wasmorch does not honour this field: a probe asks its own pod; remove the field"
            )],
        );
        check(
            at,
            &json!({"tcpSocket": {"port": 0}, "failureThreshold": -1}),
            &[
                &format!(
                    "{path}.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive"
                ),
                &format!(
                    "{path}.failureThreshold: Invalid value: -1: must be greater than or equal to 0"
                ),
            ],
        );
    }
}
