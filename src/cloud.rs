//! The cloud controller manager: what a cluster asks of the place it runs in.
//!
//! There is one place so far, this machine (`local.rs`), and therefore no provider trait: it will
//! be cut where the second one shows the seam.

mod local;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceStatus};

use crate::controllers::events::{Notice, Recorder};
use crate::controllers::runtime::{Controller, Key, Outcome, Sources};
use crate::controllers::{self, Context, doing};
use crate::registry::{Api, Registry};
use crate::tasks::TaskGroup;

const COMPONENT: &str = "service-controller";

/// What the operator gives out.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The address at which the router answers for Services of type LoadBalancer; without one they
    /// stay pending.
    pub load_balancer_address: Option<IpAddr>,
}

/// Starts the controllers and returns at once; cancelling `tasks` stops them.
pub fn run(registry: Registry, config: Config, tasks: &TaskGroup) {
    let ctx = Context::new(registry, controllers::Config::default(), tasks);
    let mut sources = Sources::default();
    let this = Arc::new(LoadBalancers {
        services: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
        config,
    });
    let controller = Controller::new("service-lb", &ctx).single();
    controller.root(&mut sources.services, this.services.clone());
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    sources.start(&ctx);
}

struct LoadBalancers {
    services: Api<Service>,
    recorder: Recorder,
    config: Config,
}

impl LoadBalancers {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, controllers::Error> {
        let found = self.services.try_get(&key.namespace, &key.name);
        let Some(service) = found.map_err(doing("get service", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        let wanted = local::load_balancer(&service, self.config.load_balancer_address);
        let Some(wanted) = wanted else {
            return Ok(Outcome::Done);
        };
        let is_given = wanted.ingress.is_some();
        let mut updated = service.as_ref().clone();
        updated.status = Some(ServiceStatus {
            load_balancer: Some(wanted),
            ..service.status.clone().unwrap_or_default()
        });
        let written = self.services.update_status(&key.namespace, &updated).await;
        written.map_err(doing("write the status of", key.to_string()))?;
        if is_given {
            let notice = Notice::normal("EnsuredLoadBalancer", "Ensured load balancer");
            self.recorder.event(service.as_ref(), notice);
        }
        Ok(Outcome::Done)
    }
}
