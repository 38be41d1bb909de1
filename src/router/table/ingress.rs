//! Hosts and paths: `<service>.<namespace>.localhost`, and the rules of Ingresses.
//!
//! Every service has a host name of its own without asking for it; below that come the rules,
//! matched as Kubernetes says: the exact host before a wildcard before none, then the longest path,
//! an exact path before a prefix of the same length. Of two rules for the same host and path the
//! one of the older Ingress stands. Only Ingresses of our class, or of none, are read.
//!
//! What is said of one host follows from the Ingresses that name it alone, so a change makes the lists
//! of its own hosts stale and nothing else, and a list is made once for all changes between two
//! snapshots.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};

use super::index::Key;
use super::service::{PortRef, Service};
use super::shards::ShardMap;
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
    path: String,
    is_exact: bool,
    service: Key,
    port: PortRef,
}

/// A host as a rule names it: whole, with a `*` before the first dot, or any.
type Host = Option<String>;

/// What makes an Ingress older or younger than another.
type Age = (Option<jiff::Timestamp>, Key);

/// An Ingress: its rules by host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IngressRules {
    age: Age,
    hosts: BTreeMap<Host, Vec<Rule>>,
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
        let mut hosts = BTreeMap::<Host, Vec<Rule>>::new();
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.as_deref().filter(|host| !host.is_empty());
            let host = host.map(str::to_ascii_lowercase);
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            let rules = paths.filter_map(|path| parse_path(namespace, path));
            hosts.entry(host).or_default().extend(rules);
        }
        if let Some((service, port)) = spec
            .default_backend
            .as_ref()
            .and_then(|it| target(namespace, it))
        {
            hosts.entry(None).or_default().push(Rule {
                path: String::new(),
                is_exact: false,
                service,
                port,
            });
        }
        let created = ingress.metadata.creation_timestamp.as_ref().map(|it| it.0);
        Some(Self {
            age: (created, Key::new(namespace, name)),
            hosts,
        })
    }
}

fn parse_path(namespace: &str, path: &HTTPIngressPath) -> Option<Rule> {
    let (service, port) = target(namespace, &path.backend)?;
    let is_exact = path.path_type == "Exact";
    let text = path.path.as_deref().unwrap_or("/");
    let text = if is_exact {
        text
    } else {
        text.trim_end_matches('/')
    };
    Some(Rule {
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

/// The Ingresses, and the hosts whose lists do not follow from them yet.
#[derive(Debug, Default)]
pub(super) struct Ingresses {
    known: HashMap<Key, Arc<IngressRules>>,
    /// The oldest first.
    of_host: HashMap<Host, BTreeMap<Age, Arc<IngressRules>>>,
    stale: HashSet<Host>,
}

impl Ingresses {
    pub(super) fn set(&mut self, key: &Key, rules: Option<IngressRules>) {
        if self.known.get(key).map(|it| &**it) == rules.as_ref() {
            return;
        }
        if let Some(old) = self.known.remove(key) {
            for host in old.hosts.keys() {
                self.stale.insert(host.clone());
                if let Some(ingresses) = self.of_host.get_mut(host) {
                    ingresses.remove(&old.age);
                    if ingresses.is_empty() {
                        self.of_host.remove(host);
                    }
                }
            }
        }
        if let Some(rules) = rules.map(Arc::new) {
            for host in rules.hosts.keys() {
                self.stale.insert(host.clone());
                let ingresses = self.of_host.entry(host.clone()).or_default();
                ingresses.insert(rules.age.clone(), Arc::clone(&rules));
            }
            self.known.insert(key.clone(), rules);
        }
    }

    /// Makes the table follow from the Ingresses.
    pub(super) fn settle(&mut self, table: &mut Arc<IngressTable>) {
        if self.stale.is_empty() {
            return;
        }
        let table = Arc::make_mut(table);
        for host in std::mem::take(&mut self.stale) {
            let rules = self.rules(&host);
            table.put(host, rules);
        }
    }

    /// The rules of a host in the order of matching.
    fn rules(&self, host: &Host) -> Arc<[Rule]> {
        let ingresses = self.of_host.get(host).into_iter().flatten();
        let rules = ingresses.filter_map(|(_, ingress)| ingress.hosts.get(host));
        let mut taken = HashSet::new();
        let mut rules: Vec<&Rule> = rules
            .flatten()
            .filter(|rule| taken.insert((rule.path.as_str(), rule.is_exact)))
            .collect();
        rules.sort_by_key(|rule| std::cmp::Reverse((rule.path.len(), rule.is_exact)));
        rules.into_iter().cloned().collect()
    }
}

/// All rules, by host, in the order of matching. Copies share what did not change.
#[derive(Clone, Debug, Default)]
pub(super) struct IngressTable {
    exact: ShardMap<String, Arc<[Rule]>>,
    /// By what follows the `*`, with its dot.
    wildcard: ShardMap<String, Arc<[Rule]>>,
    any: Arc<[Rule]>,
}

impl IngressTable {
    fn put(&mut self, host: Host, rules: Arc<[Rule]>) {
        let Some(host) = host else {
            self.any = rules;
            return;
        };
        let (lists, host) = match host.strip_prefix('*') {
            Some(rest) => (&mut self.wildcard, rest.to_owned()),
            None => (&mut self.exact, host),
        };
        if rules.is_empty() {
            lists.remove(&host);
        } else {
            lists.insert(host, rules);
        }
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
