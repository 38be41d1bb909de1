//! Lifecycle hooks: what is done right after a container's start and right before its stop.

use k8s_openapi::api::core::v1::{Lifecycle, LifecycleHandler};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::probe;

pub(super) fn validate(path: &Path<'_>, lifecycle: &Lifecycle, errors: &mut Errors) {
    errors.not_honoured(
        &path.field("stopSignal"),
        lifecycle.stop_signal.is_some(),
        "a wasm program has no signals; remove it",
    );
    for (field, handler) in [
        ("postStart", &lifecycle.post_start),
        ("preStop", &lifecycle.pre_stop),
    ] {
        if let Some(handler) = handler {
            validate_handler(&path.field(field), handler, errors);
        }
    }
}

fn validate_handler(path: &Path<'_>, handler: &LifecycleHandler, errors: &mut Errors) {
    errors.not_honoured(
        &path.field("tcpSocket"),
        handler.tcp_socket.is_some(),
        "Kubernetes never opened it either; use exec, httpGet or sleep",
    );
    let given = [
        handler.exec.is_some(),
        handler.http_get.is_some(),
        handler.sleep.is_some(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 if handler.tcp_socket.is_none() => {
            errors.required(path, "must specify a handler type");
        }
        0 | 1 => {}
        _ => errors.forbidden(path, "may not specify more than 1 handler type"),
    }
    if let Some(exec) = &handler.exec {
        probe::validate_exec(&path.field("exec"), exec, errors);
    }
    if let Some(action) = &handler.http_get {
        probe::validate_http(&path.field("httpGet"), action, errors);
    }
    if let Some(sleep) = &handler.sleep {
        let sleep_path = path.field("sleep");
        errors.non_negative(&sleep_path.field("seconds"), Some(sleep.seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn one_thing_is_done() {
        let at = "/spec/containers/0/lifecycle";
        let path = "spec.containers[0].lifecycle";
        let check = check::<Pod>;
        check(
            at,
            &json!({"postStart": {"exec": {"command": ["touch", "/up"]}}, "preStop": {"sleep": {"seconds": 1}}}),
            &[],
        );
        check(
            at,
            &json!({"preStop": {"httpGet": {"port": 80, "path": "/bye"}}}),
            &[],
        );
        check(
            at,
            &json!({"preStop": {"exec": {"command": []}}}),
            &[&format!("{path}.preStop.exec.command: Required value")],
        );
        check(
            at,
            &json!({"postStart": {}}),
            &[&format!(
                "{path}.postStart: Required value: must specify a handler type"
            )],
        );
        check(
            at,
            &json!({"preStop": {"sleep": {"seconds": 1}, "exec": {"command": ["a"]}}}),
            &[&format!(
                "{path}.preStop: Forbidden: may not specify more than 1 handler type"
            )],
        );
    }
}
