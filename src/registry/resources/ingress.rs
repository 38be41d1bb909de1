//! Ingresses: which host and path of the front door leads to which Service.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressSpec,
};
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::{cell, port};
use crate::api::names;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Class"),
    Column::text("Hosts"),
    Column::text("Address"),
    Column::text("Ports"),
    Column::text("Age"),
];

impl Strategy for Ingress {
    fn prepare_create(&mut self) {
        self.status = Some(serde_json::from_value(json!({"loadBalancer": {}})).unwrap_or_default());
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("spec");
        let empty = IngressSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&empty);
        let rules = spec.rules.as_deref().unwrap_or_default();
        if rules.is_empty() && spec.default_backend.is_none() {
            errors.invalid_json(
                &path,
                spec,
                "either `defaultBackend` or `rules` must be specified",
            );
        }
        if let Some(backend) = &spec.default_backend {
            validate_backend(&path.field("defaultBackend"), backend, errors);
        }
        if let Some(class) = &spec.ingress_class_name
            && !names::is_dns_subdomain(class)
        {
            errors.invalid(
                &path.field("ingressClassName"),
                class,
                names::DNS_SUBDOMAIN_RULE,
            );
        }
        let rules_path = path.field("rules");
        for (index, rule) in rules.iter().enumerate() {
            validate_rule(&rules_path.index(index), rule, errors);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let class = spec.and_then(|spec| spec.ingress_class_name.as_deref());
        let rules = spec
            .and_then(|spec| spec.rules.as_deref())
            .unwrap_or_default();
        let hosts: Vec<String> = rules.iter().filter_map(|rule| rule.host.clone()).collect();
        let balancer = self.status.iter().flat_map(|status| &status.load_balancer);
        let addresses: Vec<String> = balancer
            .flat_map(|balancer| balancer.ingress.iter().flatten())
            .filter_map(|point| point.ip.clone().or_else(|| point.hostname.clone()))
            .collect();
        let has_tls = spec.is_some_and(|spec| spec.tls.as_ref().is_some_and(|t| !t.is_empty()));
        vec![
            cell::name(&self.metadata),
            cell::or_none(class),
            if hosts.is_empty() {
                "*".into()
            } else {
                cell::first_three(&hosts)
            },
            addresses.join(",").into(),
            if has_tls { "80, 443" } else { "80" }.into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "sample"},
            "spec": {"rules": [{"host": "shop.example", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
    }
}

fn validate_rule(path: &Path<'_>, rule: &IngressRule, errors: &mut Errors) {
    if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if plain.parse::<std::net::IpAddr>().is_ok() {
            errors.invalid(
                &path.field("host"),
                host,
                "must be a DNS name, not an IP address",
            );
        } else if !names::is_dns_subdomain(plain) {
            errors.invalid(&path.field("host"), host, names::DNS_SUBDOMAIN_RULE);
        }
    }
    let Some(http) = &rule.http else { return };
    let http_path = path.field("http");
    let paths = http_path.field("paths");
    if http.paths.is_empty() {
        errors.required(&paths, "");
    }
    for (index, found) in http.paths.iter().enumerate() {
        validate_path(&paths.index(index), found, errors);
    }
}

fn validate_path(path: &Path<'_>, found: &HTTPIngressPath, errors: &mut Errors) {
    let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
    if found.path_type.is_empty() {
        errors.required(&path.field("pathType"), "pathType must be specified");
    } else {
        errors.one_of(&path.field("pathType"), Some(&found.path_type), &kinds);
    }
    let text = found.path.as_deref().unwrap_or_default();
    let needs_path = found.path_type != "ImplementationSpecific" || !text.is_empty();
    if needs_path && !text.starts_with('/') {
        errors.invalid(&path.field("path"), text, "must be an absolute path");
    }
    validate_backend(&path.field("backend"), &found.backend, errors);
}

fn validate_backend(path: &Path<'_>, backend: &IngressBackend, errors: &mut Errors) {
    errors.not_honoured(
        &path.field("resource"),
        backend.resource.is_some(),
        "name a service",
    );
    let at = path.field("service");
    let Some(service) = &backend.service else {
        if backend.resource.is_none() {
            errors.required(&at, "");
        }
        return;
    };
    if service.name.is_empty() {
        errors.required(&at.field("name"), "");
    } else if !names::is_dns_1035_label(&service.name) {
        errors.invalid(&at.field("name"), &service.name, names::DNS_1035_RULE);
    }
    let port_path = at.field("port");
    let found = service.port.clone().unwrap_or_default();
    match (
        found.number,
        found.name.as_deref().filter(|n| !n.is_empty()),
    ) {
        (Some(_), Some(_)) => {
            errors.invalid_json(
                &port_path,
                &found,
                "cannot set both port name & port number",
            );
        }
        (Some(number), None) => {
            port::validate_number(&port_path.field("number"), number, errors);
        }
        (None, Some(name)) => port::validate_name(&port_path.field("name"), name, errors),
        (None, None) => errors.required(&port_path, "port name or number is required"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn rules_and_backends_are_checked() {
        let check = check::<Ingress>;
        check(
            "/spec/rules",
            &json!([]),
            &[
                "spec: Invalid value: {\"rules\":[]}: either `defaultBackend` or `rules` must be specified",
            ],
        );
        check("/spec/rules/0/host", &json!("*.shop.example"), &[]);
        check(
            "/spec/rules/0/host",
            &json!("10.0.0.1"),
            &[
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ],
        );
        let path = "/spec/rules/0/http/paths/0";
        check(
            &format!("{path}/pathType"),
            &json!(""),
            &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
        );
        check(
            &format!("{path}/path"),
            &json!("cart"),
            &[
                "spec.rules[0].http.paths[0].path: Invalid value: \"cart\": must be an absolute path",
            ],
        );
        check(
            &format!("{path}/backend"),
            &json!({"service": {"name": "web"}}),
            &[
                "spec.rules[0].http.paths[0].backend.service.port: Required value: port name or number is required",
            ],
        );
        check(
            &format!("{path}/backend"),
            &json!({}),
            &["spec.rules[0].http.paths[0].backend.service: Required value"],
        );
    }
}
