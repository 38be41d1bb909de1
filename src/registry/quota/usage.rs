//! What an object counts for: one of its kind, and for pods, Services and claims also what they ask.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, PodSpec, ResourceRequirements, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::kinds::{self, ResourceInfo};
use super::super::strategy::{self, Draft};
use crate::api::{pod, quantity};

const ONE: i128 = 1_000_000_000;
const CLASS: &str = ".storageclass.storage.k8s.io/";
/// The kinds that are counted under their plural too.
const PLAIN: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
/// The names that every container must give an amount for if a quota bounds them.
const REQUIRED: &[&str] = &[
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];

/// Amounts by resource, in billionths.
pub(in super::super) type Amounts = BTreeMap<String, i128>;

/// What scopes ask about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Traits {
    Other,
    Pod(PodTraits),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PodTraits {
    pub(super) has_deadline: bool,
    pub(super) is_best_effort: bool,
    pub(super) priority_class: Option<String>,
}

/// What one object counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) traits: Traits,
    pub(super) amounts: Amounts,
}

impl Usage {
    /// What remains beyond what was there.
    pub(super) fn subtract(&mut self, before: &Self) {
        for (name, amount) in &mut self.amounts {
            *amount -= before.amounts.get(name).copied().unwrap_or(0);
        }
        self.amounts.retain(|_, amount| *amount > 0);
    }
}

pub(super) fn of(res: &ResourceInfo, draft: &dyn Draft) -> Usage {
    let mut usage = Usage {
        traits: Traits::Other,
        amounts: Amounts::from([(format!("count/{}", res.qualified), ONE)]),
    };
    if PLAIN.contains(&res.qualified) {
        usage.amounts.insert(res.qualified.to_owned(), ONE);
    }
    if let Some(pod) = strategy::get::<Pod>(draft) {
        of_pod(pod, &mut usage);
    } else if let Some(service) = strategy::get::<Service>(draft) {
        of_service(service, &mut usage.amounts);
    } else if let Some(claim) = strategy::get::<PersistentVolumeClaim>(draft) {
        of_claim(claim, &mut usage.amounts);
    }
    usage
}

/// What an object of a custom kind counts for, whatever is in it. The name of its definition is where
/// it is stored, too.
pub(super) fn of_custom(definition: &str) -> Usage {
    Usage {
        traits: Traits::Other,
        amounts: Amounts::from([(format!("count/{definition}"), ONE)]),
    }
}

/// Where the objects are that count for a resource, if there is such a kind.
pub(super) fn storage_of(name: &str, is_defined: impl Fn(&str) -> bool) -> Option<&str> {
    let row = |qualified: &str| {
        let row = kinds::TABLE.iter().find(|row| row.qualified == qualified);
        row.map(|row| row.storage)
    };
    if let Some(counted) = name.strip_prefix("count/") {
        return row(counted).or_else(|| is_defined(counted).then_some(counted));
    }
    match name {
        "pods" | "cpu" | "memory" | "ephemeral-storage" => Some("pods"),
        "services.nodeports" | "services.loadbalancers" => Some("services"),
        "requests.storage" => Some("persistentvolumeclaims"),
        _ if name.starts_with("requests.") || name.starts_with("limits.") => Some("pods"),
        _ if name.contains(CLASS) => Some("persistentvolumeclaims"),
        _ => row(name),
    }
}

/// Whether quotas can bound it; `count/…` needs a kind that there is.
pub(in super::super) fn is_known(name: &str) -> bool {
    const MORE: &[&str] = &[
        "cpu",
        "ephemeral-storage",
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "memory",
        "pods",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
        "requests.storage",
        "services.loadbalancers",
        "services.nodeports",
    ];
    MORE.contains(&name)
        || PLAIN.contains(&name)
        || name.starts_with("count/")
        || name.split_once(CLASS).is_some_and(|(class, rest)| {
            !class.is_empty() && matches!(rest, "requests.storage" | "persistentvolumeclaims")
        })
}

fn of_pod(pod: &Pod, usage: &mut Usage) {
    let Some(spec) = &pod.spec else { return };
    let requests = pod_amounts(spec, |resources| resources.requests.as_ref());
    let limits = pod_amounts(spec, |resources| resources.limits.as_ref());
    let is_asked = |amounts: &Amounts| {
        let names = ["cpu", "memory"];
        names
            .iter()
            .any(|name| amounts.get(*name).is_some_and(|nano| *nano > 0))
    };
    usage.traits = Traits::Pod(PodTraits {
        has_deadline: spec
            .active_deadline_seconds
            .is_some_and(|seconds| seconds >= 0),
        is_best_effort: !is_asked(&requests) && !is_asked(&limits),
        priority_class: spec
            .priority_class_name
            .clone()
            .filter(|name| !name.is_empty()),
    });
    // A pod that has ended is an object and nothing else.
    if pod::phase(pod).is_terminal() {
        return;
    }
    usage.amounts.insert("pods".to_owned(), ONE);
    for (name, nano) in requests {
        usage.amounts.insert(format!("requests.{name}"), nano);
        usage.amounts.insert(name, nano);
    }
    for (name, nano) in limits {
        usage.amounts.insert(format!("limits.{name}"), nano);
    }
}

type Given = BTreeMap<String, Quantity>;

/// What a pod asks in all: its containers and sidecars together, but at least the largest init
/// container with the sidecars before it; and its overhead.
pub(in super::super) fn pod_amounts(
    spec: &PodSpec,
    given: impl Fn(&ResourceRequirements) -> Option<&Given>,
) -> Amounts {
    let of = |container: &Container| read(container.resources.as_ref().and_then(&given));
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut largest) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut wanted = of(container);
        add(&mut wanted, &sidecars);
        if pod::is_sidecar(container) {
            sidecars.clone_from(&wanted);
        }
        raise(&mut largest, &wanted);
    }
    add(&mut total, &sidecars);
    raise(&mut total, &largest);
    let overhead = read(spec.overhead.as_ref());
    for (name, nano) in overhead {
        if let Some(total) = total.get_mut(&name) {
            *total += nano;
        }
    }
    total
}

fn read(given: Option<&Given>) -> Amounts {
    let given = given.into_iter().flatten();
    given
        .filter_map(|(name, amount)| Some((name.clone(), quantity::parse_nano(&amount.0).ok()?)))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, nano) in more {
        *to.entry(name.clone()).or_default() += nano;
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, nano) in least {
        let found = to.entry(name.clone()).or_default();
        *found = (*found).max(*nano);
    }
}

fn of_service(service: &Service, amounts: &mut Amounts) {
    let Some(spec) = &service.spec else { return };
    let kind = spec.type_.as_deref().unwrap_or_default();
    let is_balanced = kind == "LoadBalancer";
    if is_balanced {
        amounts.insert("services.loadbalancers".to_owned(), ONE);
    }
    let has_ports = kind == "NodePort"
        || (is_balanced && spec.allocate_load_balancer_node_ports != Some(false));
    let ports = spec.ports.as_ref().map_or(0, Vec::len);
    if has_ports {
        amounts.insert("services.nodeports".to_owned(), ONE * ports as i128);
    }
}

fn of_claim(claim: &PersistentVolumeClaim, amounts: &mut Amounts) {
    let Some(spec) = &claim.spec else { return };
    let asked = spec
        .resources
        .as_ref()
        .and_then(|all| all.requests.as_ref());
    let storage = read(asked).get("storage").copied();
    let class = spec.storage_class_name.as_deref().unwrap_or_default();
    if let Some(storage) = storage {
        amounts.insert("requests.storage".to_owned(), storage);
    }
    if !class.is_empty() {
        amounts.insert(format!("{class}{CLASS}persistentvolumeclaims"), ONE);
        if let Some(storage) = storage {
            amounts.insert(format!("{class}{CLASS}requests.storage"), storage);
        }
    }
}

/// What the containers of a new pod must say, because a quota bounds it, and do not:
/// `cpu for: a,b; memory for: a`.
pub(super) fn missing(draft: &dyn Draft, hard: &Amounts) -> Option<String> {
    let spec = strategy::get::<Pod>(draft)?.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let containers: Vec<&Container> = spec.containers.iter().chain(init).collect();
    let gives = |container: &Container, name: &str| {
        let resources = container.resources.as_ref();
        let (given, name) = match name.split_once('.') {
            Some(("limits", name)) => (resources.and_then(|all| all.limits.as_ref()), name),
            Some((_, name)) => (resources.and_then(|all| all.requests.as_ref()), name),
            None => (resources.and_then(|all| all.requests.as_ref()), name),
        };
        given.is_some_and(|given| given.contains_key(name))
    };
    let mut told = Vec::new();
    for name in REQUIRED.iter().filter(|name| hard.contains_key(**name)) {
        let silent: BTreeSet<&str> = containers
            .iter()
            .filter(|container| !gives(container, name))
            .map(|container| container.name.as_str())
            .collect();
        if !silent.is_empty() {
            let silent: Vec<&str> = silent.into_iter().collect();
            told.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    (!told.is_empty()).then(|| told.join("; "))
}
