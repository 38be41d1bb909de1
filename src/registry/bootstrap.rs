//! What every cluster has from its first moment. Running it again changes nothing.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::error::Error;
use super::kinds::ResourceInfo;
use super::options::{Caller, WriteOptions};
use super::{Registry, admission};
use crate::api::priority::SYSTEM_CLASSES;
use crate::api::storage;

/// The namespaces that a cluster is never long without.
pub const SYSTEM_NAMESPACES: [&str; 4] =
    ["default", "kube-system", "kube-public", "kube-node-lease"];

impl Registry {
    /// Creates what every cluster has: namespaces default, kube-system, kube-public, kube-node-lease;
    /// service kubernetes; default service accounts; storage class local; the router's ingress
    /// class; the system's priority classes; the first roles.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        for name in SYSTEM_NAMESPACES {
            self.ensure_namespace(name).await?;
        }
        for ns in SYSTEM_NAMESPACES {
            let account =
                json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false});
            self.ensure("", "serviceaccounts", Some(ns), account)
                .await?;
        }
        self.ensure_kubernetes_service().await?;
        let class = json!({
            "metadata": {"name": "local", "annotations": {storage::DEFAULT_CLASS: "true"}},
            "provisioner": storage::PROVISIONER,
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        self.ensure("storage.k8s.io", "storageclasses", None, class)
            .await?;
        let front_door = json!({
            "metadata": {"name": "wasmorch"},
            "spec": {"controller": "wasmorch.dev/router"},
        });
        self.ensure("networking.k8s.io", "ingressclasses", None, front_door)
            .await?;
        for (name, value, description) in SYSTEM_CLASSES {
            let class =
                json!({"metadata": {"name": name}, "value": value, "description": description});
            self.ensure("scheduling.k8s.io", "priorityclasses", None, class)
                .await?;
        }
        self.bootstrap_roles().await
    }

    /// Service `kubernetes` at the first address of the range, if it is not there.
    pub async fn ensure_kubernetes_service(&self) -> Result<(), Error> {
        let first: Ipv4Addr =
            admission::service_addresses::first_address(&self.config().service_cidr)?;
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"clusterIP": first.to_string(), "ports": [{"name": "https", "port": 443, "targetPort": 6443}]},
        });
        self.ensure("", "services", Some("default"), service).await
    }

    /// Creates a namespace unless it is there.
    pub async fn ensure_namespace(&self, name: &str) -> Result<(), Error> {
        let namespace = json!({"metadata": {"name": name}});
        self.ensure("", "namespaces", None, namespace).await
    }

    async fn ensure(
        &self,
        group: &str,
        plural: &str,
        ns: Option<&str>,
        object: Value,
    ) -> Result<(), Error> {
        let res: &'static ResourceInfo = self
            .find(group, "v1", plural)
            .ok_or(Error::MethodNotAllowed)?;
        let caller = Caller::system("bootstrap");
        match self
            .create(res, ns, object, &WriteOptions::default(), &caller)
            .await
        {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
