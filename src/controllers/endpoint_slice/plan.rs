//! Which slices to write so that they say what is. Pure.
//!
//! Endpoints stay in the slice where they are, whatever happens to their neighbours, so that one
//! pod's change rewrites one slice of at most a hundred and not all of a Service's thousands.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::MANAGER;
use super::endpoint::Group;
use crate::api::annotations::{MANAGED_BY, SERVICE_NAME};
use crate::api::owner;

/// Kubernetes' `--max-endpoints-per-slice`.
const PER_SLICE: usize = 100;
const HEADLESS: &str = "service.kubernetes.io/headless";

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// A slice as it was, with the endpoints that it will have.
struct Slot<'a> {
    slice: &'a Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
}

pub(super) fn plan(service: &Service, existing: &[Arc<EndpointSlice>], groups: Vec<Group>) -> Plan {
    let mut plan = Plan::default();
    let mut free: Vec<&Arc<EndpointSlice>> = existing.iter().collect();
    free.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    // A Service without endpoints keeps one empty slice, which tells that it was looked at.
    let groups = if groups.is_empty() {
        vec![Group {
            ports: Vec::new(),
            endpoints: Vec::new(),
        }]
    } else {
        groups
    };
    for group in groups {
        let is_of_group = |slice: &&Arc<EndpointSlice>| {
            slice.address_type == "IPv4" && ports(slice) == group.ports.as_slice()
        };
        let (mine, rest) = free.into_iter().partition(is_of_group);
        free = rest;
        place(service, group, mine, &mut plan);
    }
    plan.delete.extend(free.into_iter().cloned());
    plan
}

fn ports(slice: &EndpointSlice) -> &[EndpointPort] {
    slice.ports.as_deref().unwrap_or_default()
}

/// Distributes one group over the slices with its ports.
fn place(service: &Service, group: Group, slices: Vec<&Arc<EndpointSlice>>, plan: &mut Plan) {
    let mut wanted: HashMap<String, Endpoint> = HashMap::new();
    let mut order = Vec::new();
    for endpoint in group.endpoints {
        let identity = identity(&endpoint);
        order.push(identity.clone());
        wanted.insert(identity, endpoint);
    }
    let mut slots: Vec<Slot<'_>> = slices
        .into_iter()
        .map(|slice| Slot {
            slice,
            endpoints: slice
                .endpoints
                .iter()
                .filter_map(|endpoint| wanted.remove(&identity(endpoint)))
                .collect(),
        })
        .collect();
    let mut added = order
        .iter()
        .filter_map(|identity| wanted.remove(identity))
        .peekable();
    // Slices that are written anyway are filled first, then the fullest, so that few are written.
    slots.sort_by_key(|slot| {
        let is_untouched = slot.endpoints == slot.slice.endpoints;
        (is_untouched, std::cmp::Reverse(slot.endpoints.len()))
    });
    for slot in &mut slots {
        let room = PER_SLICE.saturating_sub(slot.endpoints.len());
        slot.endpoints.extend(added.by_ref().take(room));
    }
    let mut kept = 0;
    let is_only = slots.len() == 1 && added.peek().is_none();
    for slot in slots {
        if slot.endpoints.is_empty() && !(is_only && order.is_empty()) {
            plan.delete.push(Arc::clone(slot.slice));
            continue;
        }
        kept += 1;
        let slice = filled(
            service,
            slot.slice.metadata.clone(),
            &group.ports,
            slot.endpoints,
        );
        if slice != **slot.slice {
            plan.update.push(slice);
        }
    }
    while added.peek().is_some() || kept == 0 {
        kept += 1;
        let endpoints = added.by_ref().take(PER_SLICE).collect();
        plan.create
            .push(filled(service, fresh(service), &group.ports, endpoints));
    }
}

fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let uid = target.and_then(|target| target.uid.as_deref());
    uid.or(endpoint.addresses.first().map(String::as_str))
        .unwrap_or_default()
        .to_owned()
}

fn fresh(service: &Service) -> ObjectMeta {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: service.metadata.namespace.clone(),
        owner_references: Some(vec![owner::controller_reference::<Service>(
            &service.metadata,
        )]),
        ..ObjectMeta::default()
    }
}

fn filled(
    service: &Service,
    mut metadata: ObjectMeta,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    metadata.labels = Some(labels(service));
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        metadata,
        endpoints,
        ports: Some(ports.to_vec()).filter(|ports| !ports.is_empty()),
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    let cluster_ip = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref());
    if cluster_ip == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn service() -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "default", "uid": "s"}}),
        )
        .unwrap()
    }

    fn endpoint(id: u16, ready: bool) -> Endpoint {
        serde_json::from_value(
            json!({"addresses": [format!("10.64.{}.{}", id >> 8, id & 255)],
            "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "uid": id.to_string()}}),
        )
        .unwrap()
    }

    fn group(port: i32, ids: impl IntoIterator<Item = (u16, bool)>) -> Group {
        Group {
            ports: vec![
                serde_json::from_value(json!({"name": "http", "port": port, "protocol": "TCP"}))
                    .unwrap(),
            ],
            endpoints: ids
                .into_iter()
                .map(|(id, ready)| endpoint(id, ready))
                .collect(),
        }
    }

    /// Does what the plan says; returns how many writes that took.
    fn apply(slices: &mut Vec<Arc<EndpointSlice>>, groups: Vec<Group>, serial: &mut u32) -> usize {
        let plan = plan(&service(), slices, groups);
        let writes = plan.create.len() + plan.update.len() + plan.delete.len();
        slices.retain(|slice| !plan.delete.iter().any(|gone| Arc::ptr_eq(gone, slice)));
        for updated in plan.update {
            let at = slices
                .iter()
                .position(|slice| slice.metadata.name == updated.metadata.name)
                .unwrap();
            slices[at] = Arc::new(updated);
        }
        for mut created in plan.create {
            *serial += 1;
            created.metadata.name = Some(format!("web-{serial}"));
            slices.push(Arc::new(created));
        }
        writes
    }

    #[test]
    fn one_change_is_one_write() {
        let (mut slices, mut serial) = (Vec::new(), 0);
        let all = |ready: bool| vec![group(80, (0..250).map(|id| (id, ready || id != 7)))];
        assert_eq!(apply(&mut slices, all(true), &mut serial), 3);
        assert_eq!(apply(&mut slices, all(true), &mut serial), 0);
        assert_eq!(apply(&mut slices, all(false), &mut serial), 1);
        // One gone, one come: both in one slice.
        let replaced = vec![group(80, (1..251).map(|id| (id, true)))];
        assert!(apply(&mut slices, replaced, &mut serial) <= 2);
    }

    #[test]
    fn no_endpoints_leave_one_empty_slice() {
        let (mut slices, mut serial) = (Vec::new(), 0);
        assert_eq!(apply(&mut slices, Vec::new(), &mut serial), 1);
        assert_eq!(apply(&mut slices, Vec::new(), &mut serial), 0);
        apply(
            &mut slices,
            vec![group(80, [(1, true)]), group(81, [(2, true)])],
            &mut serial,
        );
        assert_eq!(slices.len(), 2);
        apply(&mut slices, Vec::new(), &mut serial);
        assert_eq!((slices.len(), slices[0].endpoints.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn slices_say_what_is_and_a_second_pass_is_idle(
            rounds in proptest::collection::vec(proptest::collection::btree_map(0_u16..400, (any::<bool>(), 80..82_i32), 0..300), 1..5),
        ) {
            let (mut slices, mut serial) = (Vec::new(), 0);
            for round in rounds {
                let groups = || -> Vec<Group> {
                    let of = |port| round.iter().filter(move |(_, v)| v.1 == port).map(|(id, v)| (*id, v.0)).collect::<Vec<_>>();
                    [80, 81].into_iter().map(|port| group(port, of(port))).filter(|g| !g.endpoints.is_empty()).collect()
                };
                apply(&mut slices, groups(), &mut serial);
                prop_assert_eq!(apply(&mut slices, groups(), &mut serial), 0);
                let seen: BTreeSet<String> = slices.iter().flat_map(|s| s.endpoints.iter()).map(identity).collect();
                let count: usize = slices.iter().map(|slice| slice.endpoints.len()).sum();
                let expected: BTreeSet<String> = round.keys().map(u16::to_string).collect();
                prop_assert_eq!(count, seen.len());
                prop_assert_eq!(seen, expected);
                prop_assert!(slices.iter().all(|slice| slice.endpoints.len() <= PER_SLICE));
            }
        }
    }
}
