//! Service `kubernetes`: where the API server is, told in the cluster's own words.
//!
//! It selects no pods, so the endpoint controllers leave it alone; its Endpoints and EndpointSlice
//! are written here at the start, and again whenever somebody changed or deleted them or the
//! Service. Workers bring guests that connect to its address to the API by the way they have
//! themselves (`worker/network.rs`); the endpoints are for who looks the server up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::{Endpoints, Service, ServicePort};
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::runtime::{Controller, Counters, Key, Outcome, Source, Sources};
use super::{Context, Error, doing};
use crate::api::annotations::SERVICE_NAME;
use crate::registry::{self, Api, ApiKind, DeleteOptions, Registry};

const COMPONENT: &str = "kubernetes-service-controller";
const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const PORT: &str = "https";
/// Tells Kubernetes' mirroring controller that the slice is written by hand, too.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

struct KubernetesService {
    address: SocketAddr,
    registry: Registry,
    services: Api<Service>,
    endpoints: Api<Endpoints>,
    slices: Api<EndpointSlice>,
}

/// `address` is where the API server's clients find it.
pub(super) fn start(
    ctx: &Context,
    sources: &mut Sources,
    address: SocketAddr,
) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(KubernetesService {
        address,
        registry: ctx.registry.clone(),
        services: ctx.api(COMPONENT),
        endpoints: ctx.api(COMPONENT),
        slices: ctx.api(COMPONENT),
    });
    let controller = Controller::new("kubernetesservice", ctx);
    follow(&controller, &mut sources.services);
    follow(&controller, &mut sources.endpoints);
    follow(&controller, &mut sources.endpoint_slices);
    controller.every(ctx.config.resync, || Ok(vec![Key::new(NAMESPACE, NAME)]));
    controller.start(move |_| {
        let this = Arc::clone(&this);
        async move { this.reconcile().await }
    })
}

/// Of each kind there is one object of interest; all have the same name.
fn follow<K: ApiKind>(controller: &Controller, source: &mut Source<K>) {
    controller.on(source, |object: &K| {
        let key = Key::of(object.metadata());
        let is_ours = key.namespace == NAMESPACE && key.name == NAME;
        is_ours.then_some(key).into_iter().collect()
    });
}

impl KubernetesService {
    async fn reconcile(&self) -> Result<Outcome, Error> {
        let failed = |operation| doing(operation, format!("{NAMESPACE}/{NAME}"));
        if read(&self.services)?.is_none() {
            let made = self.registry.ensure_kubernetes_service().await;
            made.map_err(failed("create service"))?;
        }
        write(&self.services, |current| {
            service(self.address, current.cloned().unwrap_or_default())
        })
        .await
        .map_err(failed("write service"))?;
        write(&self.endpoints, |current| endpoints(self.address, current))
            .await
            .map_err(failed("write the endpoints of"))?;
        if let Some(slice) = read(&self.slices)?
            && slice.address_type != address_type(self.address)
        {
            // The type of a slice cannot be changed.
            let options = DeleteOptions {
                uid: slice.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            let deleted = self.slices.delete(NAMESPACE, NAME, &options).await;
            deleted.map_err(failed("delete the slice of"))?;
        }
        write(&self.slices, |current| slice(self.address, current))
            .await
            .map_err(failed("write the slice of"))?;
        Ok(Outcome::Done)
    }
}

fn read<K: ApiKind>(api: &Api<K>) -> Result<Option<Arc<K>>, Error> {
    let found = api.try_get(NAMESPACE, NAME);
    found.map_err(doing("get", format!("{}/{NAMESPACE}/{NAME}", K::KIND)))
}

/// Writes what `wanted` makes of the object that is there, if that is another.
async fn write<K: ApiKind + PartialEq>(
    api: &Api<K>,
    wanted: impl FnOnce(Option<&K>) -> K,
) -> Result<(), registry::Error> {
    let current = api.try_get(NAMESPACE, NAME)?;
    let wanted = wanted(current.as_deref());
    match current {
        Some(current) if *current == wanted => return Ok(()),
        Some(_) => api.update(NAMESPACE, &wanted).await?,
        None => api.create(NAMESPACE, &wanted).await?,
    };
    Ok(())
}

/// The Service, with the server's own port behind it.
fn service(address: SocketAddr, mut service: Service) -> Service {
    let port = ServicePort {
        name: Some(PORT.to_owned()),
        port: 443,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(address.port().into())),
        ..ServicePort::default()
    };
    service.spec.get_or_insert_default().ports = Some(vec![port]);
    service
}

fn endpoints(address: SocketAddr, current: Option<&Endpoints>) -> Endpoints {
    let subset = core::EndpointSubset {
        addresses: Some(vec![core::EndpointAddress {
            ip: address.ip().to_string(),
            ..core::EndpointAddress::default()
        }]),
        ports: Some(vec![core::EndpointPort {
            name: Some(PORT.to_owned()),
            port: address.port().into(),
            protocol: Some("TCP".to_owned()),
            app_protocol: None,
        }]),
        not_ready_addresses: None,
    };
    let label = (SKIP_MIRROR, "true");
    Endpoints {
        metadata: metadata(current.map(|current| &current.metadata), label),
        subsets: Some(vec![subset]),
    }
}

fn slice(address: SocketAddr, current: Option<&EndpointSlice>) -> EndpointSlice {
    let endpoint = discovery::Endpoint {
        addresses: vec![address.ip().to_string()],
        conditions: Some(discovery::EndpointConditions {
            ready: Some(true),
            ..discovery::EndpointConditions::default()
        }),
        ..discovery::Endpoint::default()
    };
    let port = discovery::EndpointPort {
        name: Some(PORT.to_owned()),
        port: Some(address.port().into()),
        protocol: Some("TCP".to_owned()),
        app_protocol: None,
    };
    let label = (SERVICE_NAME, NAME);
    EndpointSlice {
        metadata: metadata(current.map(|current| &current.metadata), label),
        address_type: address_type(address).to_owned(),
        endpoints: vec![endpoint],
        ports: Some(vec![port]),
    }
}

fn address_type(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// What others wrote beside the one label stays.
fn metadata(current: Option<&ObjectMeta>, (label, value): (&str, &str)) -> ObjectMeta {
    let mut metadata = current.cloned().unwrap_or_else(|| ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        ..ObjectMeta::default()
    });
    let labels: &mut BTreeMap<String, String> = metadata.labels.get_or_insert_default();
    labels.insert(label.to_owned(), value.to_owned());
    metadata
}
