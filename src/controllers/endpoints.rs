//! Endpoints: the older form of EndpointSlices, mirrored for clients that still read it.
//!
//! One object holds all addresses of a Service, at most a thousand, so every change rewrites the
//! whole; this controller therefore rests long between two looks at a large Service. Nothing in
//! wasmorch routes by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use k8s_openapi::api::discovery::v1::Endpoint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoint_slice::endpoint::{self, Group};
use super::endpoint_slice::{follow_pods, selected_pods};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::registry::{Api, DeleteOptions};

const COMPONENT: &str = "endpoint-controller";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const CAPACITY: usize = 1000;

struct Mirror {
    services: Api<Service>,
    endpoints: Api<Endpoints>,
    pods: Api<Pod>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Mirror {
        services: ctx.api(COMPONENT),
        endpoints: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
    });
    let controller = Controller::new("endpoint", ctx).resting(30);
    controller.root(&mut sources.services, this.services.clone());
    follow_pods(&controller.queue, &mut sources.services, &mut sources.pods);
    controller.on(&mut sources.endpoints, |endpoints: &Endpoints| {
        vec![Key::of(&endpoints.metadata)]
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl Mirror {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        let service = self
            .services
            .try_get(namespace, name)
            .map_err(doing("get", key.to_string()))?;
        let current = self
            .endpoints
            .try_get(namespace, name)
            .map_err(doing("get", key.to_string()))?;
        let Some(service) = service else {
            if let Some(current) = current.filter(|current| is_mine(current)) {
                let options = DeleteOptions {
                    uid: current.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                let deleted = self.endpoints.delete(namespace, name, &options).await;
                deleted.map_err(doing("delete the endpoints of", key.to_string()))?;
            }
            return Ok(Outcome::Done);
        };
        let Some(pods) = selected_pods(&self.pods, &service)? else {
            return Ok(Outcome::Done);
        };
        let wanted = mirror(
            &service,
            current.as_deref(),
            endpoint::groups(&service, &pods),
        );
        let written = match current {
            Some(current) if *current == wanted => return Ok(Outcome::Done),
            Some(_) => self.endpoints.update(namespace, &wanted).await,
            None => self.endpoints.create(namespace, &wanted).await,
        };
        written.map_err(doing("write the endpoints of", key.to_string()))?;
        Ok(Outcome::Done)
    }
}

fn is_mine(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY))
        .map(String::as_str)
        == Some(COMPONENT)
}

/// The Endpoints object that says what `groups` say.
fn mirror(service: &Service, current: Option<&Endpoints>, groups: Vec<Group>) -> Endpoints {
    let mut metadata = current.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |current| current.metadata.clone(),
    );
    let mut labels: BTreeMap<String, String> = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), COMPONENT.to_owned());
    metadata.labels = Some(labels);
    let mut room = CAPACITY;
    let total: usize = groups.iter().map(|group| group.endpoints.len()).sum();
    let subsets: Vec<EndpointSubset> = groups
        .into_iter()
        .filter_map(|group| subset(group, &mut room))
        .collect();
    if total > CAPACITY {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(OVER_CAPACITY);
        metadata.annotations = metadata
            .annotations
            .filter(|annotations| !annotations.is_empty());
    }
    Endpoints {
        metadata,
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

/// Terminating endpoints have no place in the older form.
fn subset(group: Group, room: &mut usize) -> Option<EndpointSubset> {
    let flag = |endpoint: &Endpoint, is_terminating: bool| {
        let conditions = endpoint.conditions.as_ref();
        let value = conditions.and_then(|c| {
            if is_terminating {
                c.terminating
            } else {
                c.ready
            }
        });
        value.unwrap_or(false)
    };
    let living = group
        .endpoints
        .into_iter()
        .filter(|endpoint| !flag(endpoint, true) || flag(endpoint, false));
    let mut living: Vec<Endpoint> = living.collect();
    // Ready ones first, in case there is not room for all.
    living.sort_by_key(|endpoint| !flag(endpoint, false));
    living.truncate(*room);
    *room -= living.len();
    let (ready, not_ready): (Vec<Endpoint>, Vec<Endpoint>) = living
        .into_iter()
        .partition(|endpoint| flag(endpoint, false));
    let ports = group.ports.into_iter().map(|port| EndpointPort {
        name: port.name.filter(|name| !name.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol,
        app_protocol: port.app_protocol,
    });
    let ports: Vec<EndpointPort> = ports.collect();
    let subset = EndpointSubset {
        addresses: addresses(ready),
        not_ready_addresses: addresses(not_ready),
        ports: (!ports.is_empty()).then_some(ports),
    };
    (subset.addresses.is_some() || subset.not_ready_addresses.is_some()).then_some(subset)
}

fn addresses(endpoints: Vec<Endpoint>) -> Option<Vec<EndpointAddress>> {
    let addresses: Vec<EndpointAddress> = endpoints
        .into_iter()
        .map(|endpoint| EndpointAddress {
            ip: endpoint.addresses.into_iter().next().unwrap_or_default(),
            hostname: endpoint.hostname,
            node_name: endpoint.node_name,
            target_ref: endpoint.target_ref,
        })
        .collect();
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn group(endpoints: serde_json::Value) -> Group {
        Group {
            ports: vec![
                serde_json::from_value(json!({"name": "", "port": 80, "protocol": "TCP"})).unwrap(),
            ],
            endpoints: serde_json::from_value(endpoints).unwrap(),
        }
    }

    fn endpoint(n: usize, ready: bool, terminating: bool) -> serde_json::Value {
        json!({"addresses": [format!("10.64.{}.{}", n / 250, n % 250)], "conditions": {"ready": ready, "terminating": terminating}})
    }

    #[test]
    fn ready_not_ready_and_terminating() {
        let group = group(json!([
            endpoint(1, true, false),
            endpoint(2, false, false),
            endpoint(3, false, true)
        ]));
        let mirrored = mirror(&Service::default(), None, vec![group]);
        let subset = &mirrored.subsets.as_ref().unwrap()[0];
        assert_eq!(subset.addresses.as_ref().unwrap()[0].ip, "10.64.0.1");
        assert_eq!(subset.not_ready_addresses.as_ref().unwrap().len(), 1);
        assert_eq!(subset.ports.as_ref().unwrap()[0].name, None);
        assert!(
            mirror(&Service::default(), None, Vec::new())
                .subsets
                .is_none()
        );
    }

    #[test]
    fn at_most_a_thousand_and_the_ready_ones_first() {
        let many: Vec<_> = (0..1200).map(|n| endpoint(n, n >= 600, false)).collect();
        let mirrored = mirror(&Service::default(), None, vec![group(json!(many))]);
        let subset = &mirrored.subsets.as_ref().unwrap()[0];
        assert_eq!(subset.addresses.as_ref().unwrap().len(), 600);
        assert_eq!(subset.not_ready_addresses.as_ref().unwrap().len(), 400);
        assert_eq!(
            mirrored.metadata.annotations.unwrap()[OVER_CAPACITY],
            "truncated"
        );
    }
}
