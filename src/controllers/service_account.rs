//! What every namespace has from its birth: the service account `default`, and the cluster's CA
//! certificate as ConfigMap `kube-root-ca.crt` (if the operator's configuration names one).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::registry;
use crate::registry::Api;

const COMPONENT: &str = "service-account-controller";
const ROOT_CA: &str = "kube-root-ca.crt";

struct ServiceAccounts {
    ctx: Context,
    namespaces: Api<Namespace>,
    api: Api<ServiceAccount>,
    config_maps: Api<ConfigMap>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(ServiceAccounts {
        ctx: ctx.clone(),
        namespaces: ctx.api(COMPONENT),
        api: ctx.api(COMPONENT),
        config_maps: ctx.api(COMPONENT),
    });
    let controller = Controller::new("serviceaccount", ctx);
    controller.root(&mut sources.namespaces, this.namespaces.clone());
    controller.on(&mut sources.service_accounts, |account: &ServiceAccount| {
        vec![Key::new(
            "",
            account.metadata.namespace.as_deref().unwrap_or_default(),
        )]
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key.name).await }
    })
}

impl ServiceAccounts {
    async fn reconcile(&self, namespace: &str) -> Result<Outcome, Error> {
        let found = self.namespaces.try_get("", namespace);
        let Some(found) = found.map_err(doing("get namespace", namespace))? else {
            return Ok(Outcome::Done);
        };
        if found.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let account = self.api.try_get(namespace, "default");
        if account
            .map_err(doing("get the default account of", namespace))?
            .is_none()
        {
            let account = ServiceAccount {
                metadata: named("default", namespace),
                automount_service_account_token: Some(false),
                ..ServiceAccount::default()
            };
            let created = self.api.create(namespace, &account).await;
            unless_there(created).map_err(doing("create the default account of", namespace))?;
        }
        if let Some(certificate) = &self.ctx.config.root_ca {
            self.publish(namespace, certificate).await?;
        }
        Ok(Outcome::Done)
    }

    async fn publish(&self, namespace: &str, certificate: &str) -> Result<(), Error> {
        let current = self.config_maps.try_get(namespace, ROOT_CA);
        let current = current.map_err(doing("get the root certificate of", namespace))?;
        let data = BTreeMap::from([("ca.crt".to_owned(), certificate.to_owned())]);
        let written = match current {
            Some(current) if current.data.as_ref() == Some(&data) => return Ok(()),
            Some(current) => {
                let mut updated = current.as_ref().clone();
                updated.data = Some(data);
                self.config_maps.update(namespace, &updated).await
            }
            None => {
                let map = ConfigMap {
                    metadata: named(ROOT_CA, namespace),
                    data: Some(data),
                    ..ConfigMap::default()
                };
                self.config_maps.create(namespace, &map).await
            }
        };
        unless_there(written).map_err(doing("publish the root certificate in", namespace))
    }
}

fn named(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Somebody else was quicker, which is as good.
fn unless_there<T>(result: Result<T, registry::Error>) -> Result<(), registry::Error> {
    match result {
        Ok(_) | Err(registry::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
