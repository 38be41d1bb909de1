//! Hosts and paths: `<service>.<namespace>.localhost`, and the rules of Ingresses.
//!
//! Every service has a host name of its own without asking for it; below that come the rules,
//! matched as Kubernetes says: the exact host before a wildcard before none, then the longest path,
//! an exact path before a prefix of the same length. Of two rules for the same host and path the
//! one of the older Ingress stands. Only Ingresses of our class, or of none, are read.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};

use super::index::Key;
use super::service::{PortRef, Service};
use super::{Port, RoutingTable};

/// The class of Ingresses that we serve.
const CLASS: &str = "wasmorch";
const LOCALHOST: &str = ".localhost";

/// Who answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend<'a> {
    Port(&'a Arc<Service>, PortIndex),
    /// No service, rule or default matches the host and path.
    NoRule,
    /// A rule matches, or the host names a service, but the service or its port does not exist.
    NoService(Key),
}

/// The position of a port in its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortIndex(usize);

impl PortIndex {
    /// The port, in the service it was found in.
    pub fn of(self, service: &Service) -> Option<&Port> {
        service.ports.get(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    host: Option<String>,
    path: String,
    is_exact: bool,
    service: Key,
    port: PortRef,
}

/// An Ingress: its rules, and what makes it older or younger than another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IngressRules {
    age: (Option<jiff::Timestamp>, Key),
    rules: Vec<Rule>,
}

impl IngressRules {
    /// `None` if the Ingress is of another class.
    pub(super) fn parse(namespace: &str, name: &str, ingress: &Ingress) -> Option<Self> {
        let spec = ingress.spec.as_ref()?;
        if spec
            .ingress_class_name
            .as_deref()
            .is_some_and(|class| class != CLASS)
        {
            return None;
        }
        let mut rules = Vec::new();
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.as_deref().filter(|host| !host.is_empty());
            let host = host.map(str::to_ascii_lowercase);
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                rules.extend(parse_path(namespace, host.clone(), path));
            }
        }
        if let Some((service, port)) = spec
            .default_backend
            .as_ref()
            .and_then(|it| target(namespace, it))
        {
            rules.push(Rule {
                host: None,
                path: String::new(),
                is_exact: false,
                service,
                port,
            });
        }
        let created = ingress.metadata.creation_timestamp.as_ref().map(|it| it.0);
        Some(Self {
            age: (created, Key::new(namespace, name)),
            rules,
        })
    }
}

fn parse_path(namespace: &str, host: Option<String>, path: &HTTPIngressPath) -> Option<Rule> {
    let (service, port) = target(namespace, &path.backend)?;
    let is_exact = path.path_type == "Exact";
    let text = path.path.as_deref().unwrap_or("/");
    let text = if is_exact {
        text
    } else {
        text.trim_end_matches('/')
    };
    Some(Rule {
        host,
        path: text.to_owned(),
        is_exact,
        service,
        port,
    })
}

fn target(namespace: &str, backend: &IngressBackend) -> Option<(Key, PortRef)> {
    let service = backend.service.as_ref()?;
    let port = service.port.as_ref()?;
    let port = match (&port.name, port.number) {
        (Some(name), _) => PortRef::Name(name.clone()),
        (None, Some(number)) => PortRef::Number(u16::try_from(number).ok()?),
        (None, None) => return None,
    };
    Some((Key::new(namespace, &service.name), port))
}

/// All rules, by host, in the order of matching.
#[derive(Debug, Default)]
pub(super) struct IngressTable {
    exact: HashMap<String, Vec<Rule>>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<String, Vec<Rule>>,
    any: Vec<Rule>,
}

impl IngressTable {
    pub(super) fn build<'a>(ingresses: impl Iterator<Item = &'a IngressRules>) -> Self {
        let mut ingresses: Vec<&IngressRules> = ingresses.collect();
        ingresses.sort_unstable_by(|one, other| one.age.cmp(&other.age));
        let mut table = Self::default();
        for rule in ingresses.into_iter().flat_map(|ingress| &ingress.rules) {
            let rules = match rule.host.as_deref() {
                None => &mut table.any,
                Some(host) => match host.strip_prefix('*') {
                    Some(rest) => table.wildcard.entry(rest.to_owned()).or_default(),
                    None => table.exact.entry(host.to_owned()).or_default(),
                },
            };
            let known = |it: &Rule| it.path == rule.path && it.is_exact == rule.is_exact;
            if !rules.iter().any(known) {
                rules.push(rule.clone());
            }
        }
        let lists = table.exact.values_mut().chain(table.wildcard.values_mut());
        for rules in lists.chain([&mut table.any]) {
            rules.sort_by_key(|rule| std::cmp::Reverse((rule.path.len(), rule.is_exact)));
        }
        table
    }

    fn find(&self, host: &str, path: &str) -> Option<&Rule> {
        let wildcard = || {
            let dot = host.find('.').filter(|dot| *dot > 0)?;
            self.wildcard.get(&host[dot..])
        };
        let lists = [self.exact.get(host), wildcard(), Some(&self.any)];
        let mut lists = lists.into_iter().flatten();
        lists.find_map(|rules| rules.iter().find(|rule| rule.matches(path)))
    }
}

impl Rule {
    fn matches(&self, path: &str) -> bool {
        if self.is_exact {
            return path == self.path;
        }
        match path.strip_prefix(self.path.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl RoutingTable {
    /// Who answers a request for a host (without port, in lower case) and path.
    pub fn http(&self, host: &str, path: &str) -> Backend<'_> {
        if let Some((name, namespace)) = service_host(host) {
            let service = self.service(namespace, name);
            return backend(service, Service::http_port, || Key::new(namespace, name));
        }
        match self.ingresses.find(host, path) {
            Some(rule) => {
                let service = self.services.get(&rule.service);
                backend(
                    service,
                    |it| it.tcp_port(&rule.port),
                    || rule.service.clone(),
                )
            }
            None => Backend::NoRule,
        }
    }
}

fn backend(
    service: Option<&Arc<Service>>,
    port: impl FnOnce(&Service) -> Option<&Port>,
    key: impl FnOnce() -> Key,
) -> Backend<'_> {
    let found = service.and_then(|service| Some((service, service.position(port(service)?)?)));
    match found {
        Some((service, port)) => Backend::Port(service, port),
        None => Backend::NoService(key()),
    }
}

impl Service {
    /// Where a port of this service stands in it.
    pub fn position(&self, port: &Port) -> Option<PortIndex> {
        let mut ports = self.ports.iter();
        ports.position(|it| std::ptr::eq(it, port)).map(PortIndex)
    }
}

/// Reads `<service>.<namespace>.localhost`.
fn service_host(host: &str) -> Option<(&str, &str)> {
    let (name, namespace) = host.strip_suffix(LOCALHOST)?.split_once('.')?;
    let is_whole = !name.is_empty() && !namespace.is_empty() && !namespace.contains('.');
    is_whole.then_some((name, namespace))
}
