//! The control plane, put together: store → registry → controllers, scheduler, API server.
//!
//! `build` does everything that can fail for a reason the operator should read (directories, locks,
//! certificates, taken ports) before anything runs. `run` serves until the task group is cancelled
//! and drains in the reverse order: first no new requests, then the loops, then the store. What has
//! been acknowledged is on disk at every moment, so a kill instead of a drain loses nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::apiserver;
use crate::apiserver::auth::{self, Identities};
use crate::apiserver::listen::{self, Addresses, Bound};
use crate::apiserver::pki::{self, Pki};
use crate::clock::Clock;
use crate::cloud;
use crate::controllers;
use crate::ids;
use crate::modules::{Blobs, blobs};
use crate::registry::{self, Caller, Registry, WriteOptions};
use crate::scheduler;
use crate::store::{self, Store};
use crate::tasks::TaskGroup;

use super::config::ServerArgs;

/// Unreferenced blobs are looked for so often, and collected when they are older than the grace.
const BLOB_PERIOD: Duration = Duration::from_mins(10);
const BLOB_GRACE: Duration = Duration::from_hours(1);
const DRAIN: Duration = Duration::from_secs(15);

/// Why the control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("create `{path}`")]
    CreateDirectory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("open the store")]
    Store(#[source] store::Error),
    #[error("open the module store")]
    Blobs(#[source] blobs::Error),
    #[error("prepare the certificates")]
    Pki(#[source] pki::Error),
    #[error("prepare the tokens")]
    Tokens(#[source] auth::Error),
    #[error("write a kubeconfig")]
    Kubeconfig(#[source] auth::Error),
    #[error("prepare the cluster's first objects")]
    Bootstrap(#[source] registry::Error),
    #[error("start the controllers")]
    Controllers(#[source] controllers::Error),
    #[error(transparent)]
    Listen(#[from] listen::Error),
}

/// A control plane that is ready to run.
pub struct ControlPlane {
    registry: Registry,
    server: Arc<apiserver::Server>,
    bound: Bound,
    pki: Pki,
    blobs: Blobs,
    args: ServerArgs,
    tasks: Groups,
}

/// Who is stopped in which order.
struct Groups {
    /// The process: cancelled by a signal, or by an organ that panicked.
    root: TaskGroup,
    api: TaskGroup,
    loops: TaskGroup,
    store: TaskGroup,
}

impl ControlPlane {
    /// Opens, loads and binds everything. `tasks` is the process's root group.
    pub async fn build(args: ServerArgs, clock: Clock, tasks: &TaskGroup) -> Result<Self, Error> {
        let directory = &args.data_dir;
        std::fs::create_dir_all(directory).map_err(|source| Error::CreateDirectory {
            path: directory.clone(),
            source,
        })?;
        let bound = Bound::bind(args.bind, args.http_bind.0).await?;
        // The store ends last; it must outlive the root's cancellation to take the last writes.
        let groups = Groups {
            root: tasks.clone(),
            api: tasks.child(),
            loops: tasks.child(),
            store: TaskGroup::new(),
        };
        let store = Store::open(
            store::Config {
                path: directory.join("wasmorch.db"),
                volatile: vec!["leases.coordination.k8s.io".to_owned()],
                history: args.history,
            },
            &groups.store,
        )
        .await
        .map_err(Error::Store)?;
        let registry = Registry::new(store, clock.clone(), args.registry());
        registry.bootstrap().await.map_err(Error::Bootstrap)?;
        ensure_wire_secret(&registry)
            .await
            .map_err(Error::Bootstrap)?;
        let blobs =
            Blobs::open(&directory.join("blobs"), args.max_module_size).map_err(Error::Blobs)?;
        let names = certificate_names(&args, bound.addresses());
        let pki = Pki::open(&directory.join("pki"), &names, clock.now()).map_err(Error::Pki)?;
        let identities = Identities::open(directory).map_err(Error::Tokens)?;
        write_kubeconfigs(&args, bound.addresses(), &pki, &identities)?;
        let server = apiserver::Server::new(
            registry.clone(),
            blobs.clone(),
            identities,
            &pki,
            args.limits.clone(),
            groups.api.clone(),
        );
        Ok(Self {
            registry,
            server,
            bound,
            pki,
            blobs,
            args,
            tasks: groups,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.bound.addresses()
    }

    /// What another machine needs to join, beside the URL.
    pub fn join_token(&self) -> String {
        self.server.identities.join_token(self.pki.ca_der())
    }

    /// The administrator's token.
    pub fn admin_token(&self) -> String {
        self.server
            .identities
            .token_of(auth::ADMIN)
            .unwrap_or_default()
    }

    /// The registry, for those who share the process.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Serves until the root group is cancelled, then drains; tells whether everything ended in time.
    pub async fn run(self) -> Result<bool, Error> {
        let tls = self.pki.server_config().map_err(Error::Pki)?;
        self.start_loops()?;
        self.bound.serve(&self.server, tls, &self.tasks.api);
        self.tasks.root.cancelled().cancelled().await;
        tracing::info!("draining");
        let api = self.tasks.api.shutdown(DRAIN).await;
        let loops = self.tasks.loops.shutdown(DRAIN).await;
        let store = self.tasks.store.shutdown(DRAIN).await;
        Ok(api && loops && store)
    }

    fn start_loops(&self) -> Result<(), Error> {
        let loops = &self.tasks.loops;
        let signer = Arc::clone(&self.server);
        let config = controllers::Config {
            token_maker: Some(controllers::TokenMaker::new(move |account, secret| {
                signer.secret_token(account, secret)
            })),
            ..self
                .args
                .controllers(self.pki.ca_pem(), self.addresses().https)
        };
        let handle =
            controllers::run(self.registry.clone(), config, loops).map_err(Error::Controllers)?;
        self.server
            .add_metrics(Box::new(move |page| write_counters(&handle, page)));
        scheduler::run(self.registry.clone(), scheduler::Config::default(), loops);
        let config = cloud::Config {
            load_balancer_address: Some(self.args.load_balancer_address),
        };
        cloud::run(self.registry.clone(), config, loops);
        let cancelled = loops.cancelled();
        let period = self.args.usage_period();
        let read = apiserver::read_usage(Arc::clone(&self.server), period);
        let until = loops.cancelled();
        loops.spawn("usage reader", async move {
            until.run_until_cancelled(read).await;
        });
        let collect = apiserver::collect_blobs(
            self.registry.clone(),
            self.blobs.clone(),
            (BLOB_PERIOD, BLOB_GRACE),
        );
        loops.spawn("blob collector", async move {
            cancelled.run_until_cancelled(collect).await;
        });
        Ok(())
    }
}

/// The controllers' figures, under Kubernetes' names where it has them.
fn write_counters(handle: &controllers::Handle, page: &mut String) {
    use std::fmt::Write as _;
    const NAME: &str = "wasmorch_controller_reconcile";
    let _ = writeln!(page, "# TYPE {NAME}s_total counter");
    for (controller, counters) in handle.counters() {
        for (result, count) in [
            (
                "success",
                counters.reconciles().saturating_sub(counters.errors()),
            ),
            ("error", counters.errors()),
            ("panic", counters.panics()),
        ] {
            let _ = writeln!(
                page,
                "{NAME}s_total{{controller=\"{controller}\",result=\"{result}\"}} {count}"
            );
        }
    }
}

/// The secret of the data plane, made once.
async fn ensure_wire_secret(registry: &Registry) -> Result<(), registry::Error> {
    let Some(resource) = registry.find("", "v1", "secrets") else {
        return Ok(());
    };
    let (namespace, name) = apiserver::WIRE_SECRET;
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {"secret": STANDARD.encode(ids::secret())},
    });
    let caller = Caller::system("bootstrap");
    let created = registry
        .create(
            resource,
            Some(namespace),
            object,
            &WriteOptions::default(),
            &caller,
        )
        .await;
    match created {
        Ok(_) | Err(registry::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Names beyond the usual: what the operator adds, where we are bound, the service's address.
fn certificate_names(args: &ServerArgs, addresses: Addresses) -> Vec<String> {
    let mut names = args.tls_san.clone();
    names.push(args.advertised(addresses.https).ip().to_string());
    if !addresses.https.ip().is_unspecified() {
        names.push(addresses.https.ip().to_string());
    }
    if let Some(service) = first_address(&args.service_cidr) {
        names.push(service);
    }
    names
}

/// `10.43.0.1` of `10.43.0.0/16`: the address of service `kubernetes`.
fn first_address(cidr: &str) -> Option<String> {
    let base: std::net::Ipv4Addr = cidr.split('/').next()?.parse().ok()?;
    Some(std::net::Ipv4Addr::from(u32::from(base).checked_add(1)?).to_string())
}

fn write_kubeconfigs(
    args: &ServerArgs,
    addresses: Addresses,
    pki: &Pki,
    identities: &Identities,
) -> Result<(), Error> {
    let url = format!("https://{}", args.advertised(addresses.https));
    let write = |path: &Path, user: &str| {
        let token = identities.token_of(user).unwrap_or_default();
        let text = kubeconfig(&url, pki.ca_pem(), (user, &token));
        auth::write_private(path, text.as_bytes()).map_err(Error::Kubeconfig)
    };
    write(&args.data_dir.join("admin.kubeconfig"), auth::ADMIN)?;
    write(&args.data_dir.join("router.kubeconfig"), auth::ROUTER)?;
    let token = identities.join_token(pki.ca_der());
    auth::write_private(&args.data_dir.join("join-token"), token.as_bytes())
        .map_err(Error::Kubeconfig)?;
    let Some(path) = &args.write_kubeconfig else {
        return Ok(());
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|source| Error::CreateDirectory {
            path: parent.to_owned(),
            source,
        })?;
    }
    write(path, auth::ADMIN)
}

/// JSON is YAML, and needs no quoting rules of our own.
fn kubeconfig(url: &str, ca_pem: &str, (user, token): (&str, &str)) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "wasmorch",
            "cluster": {"server": url, "certificate-authority-data": STANDARD.encode(ca_pem)},
        }],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{
            "name": "wasmorch",
            "context": {"cluster": "wasmorch", "user": user, "namespace": "default"},
        }],
        "current-context": "wasmorch",
    });
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubernetes_service_is_the_first_address() {
        assert_eq!(first_address("10.43.0.0/16").as_deref(), Some("10.43.0.1"));
        assert_eq!(first_address("nonsense"), None);
    }
}
