//! Services: their endpoints and their addresses.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use wasmorch::registry::Propagation;

use super::{Cluster, NS, deployment};

fn of<'a>(slices: &'a [Arc<EndpointSlice>], service: &str) -> Vec<&'a Arc<EndpointSlice>> {
    let is_of = |slice: &&Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get("kubernetes.io/service-name"))
            .map(String::as_str)
            == Some(service)
    };
    slices.iter().filter(is_of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_the_pods_and_go_with_the_service() {
    let cluster = Cluster::new().await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    cluster.create::<Service>(NS, service).await;
    cluster
        .until::<EndpointSlice>(Some(NS), "an empty slice", |slices| {
            of(slices, "web").len() == 1
        })
        .await;
    cluster
        .create::<Deployment>(NS, deployment("web", 120))
        .await;
    let slices = cluster
        .until::<EndpointSlice>(Some(NS), "120 ready endpoints", |slices| {
            let endpoints = of(slices, "web")
                .into_iter()
                .flat_map(|slice| slice.endpoints.iter());
            endpoints
                .filter(|e| e.conditions.as_ref().unwrap().ready == Some(true))
                .count()
                == 120
        })
        .await;
    let mine = of(&slices, "web");
    assert!(mine.iter().all(|slice| slice.endpoints.len() <= 100));
    let ports = mine.iter().filter(|slice| !slice.endpoints.is_empty());
    assert!(
        ports
            .clone()
            .all(|slice| slice.ports.as_ref().unwrap()[0].port == Some(8080))
    );
    cluster
        .until::<Endpoints>(Some(NS), "the mirrored form", |all| {
            let subsets = all
                .iter()
                .flat_map(|endpoints| endpoints.subsets.iter().flatten());
            let addresses = subsets.flat_map(|subset| subset.addresses.iter().flatten());
            addresses.count() == 120
        })
        .await;
    cluster
        .until::<Service>(Some(NS), "an address", |all| {
            all.iter().any(|service| {
                let status = service
                    .status
                    .as_ref()
                    .and_then(|status| status.load_balancer.as_ref());
                let ingress = status.and_then(|status| status.ingress.as_ref());
                ingress.is_some_and(|ingress| ingress[0].ip.as_deref() == Some("127.0.0.1"))
            })
        })
        .await;

    cluster
        .merge::<Deployment>("web", json!({"spec": {"replicas": 1}}))
        .await;
    cluster
        .until::<EndpointSlice>(Some(NS), "one endpoint", |slices| {
            of(slices, "web")
                .iter()
                .map(|slice| slice.endpoints.len())
                .sum::<usize>()
                == 1
        })
        .await;
    cluster
        .delete::<Service>(NS, "web", Propagation::Background)
        .await;
    cluster
        .until::<EndpointSlice>(Some(NS), "no slices", |slices| of(slices, "web").is_empty())
        .await;
    let gone = |all: &[Arc<Endpoints>]| {
        all.iter()
            .all(|e| e.metadata.name.as_deref() != Some("web"))
    };
    cluster
        .until::<Endpoints>(Some(NS), "no endpoints", gone)
        .await;
}
