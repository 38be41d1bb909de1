//! The HTTP face of the control plane: Kubernetes' API, the dashboard's files, health and metrics.
//!
//! A request takes one way: a listener ([`listen`]) hands it to [`dispatch`], which identifies the
//! caller ([`auth`]), reads what the request is about once ([`request`]), asks the table of rights
//! ([`authorize`]) and calls the handler of the verb or of the subresource. Handlers know verbs and
//! no kinds; what is particular to a kind is a row of the registry. Every failure, wherever it
//! arises, becomes a `Status` in exactly one place ([`status`]).
//!
//! The room does no work of the cluster: it records intent through the registry. Loops act on it.

mod error;
mod status;

mod request;

mod body;
mod gzip;
mod media;
mod protobuf;
mod query;

mod respond;
mod table;
mod written;

pub mod auth;
mod authorize;
mod identify;
mod impersonate;
pub mod pki;
mod reviews;
mod tokens;

mod discovery;
mod openapi;

mod blob_collector;
mod handlers;
mod module_form;
mod modules;
mod subresources;
mod uploads;
mod watch;
mod websocket;

mod dashboard;
mod health;
mod metrics;
mod usage_api;
mod usage_reader;
mod worker_api;

mod dispatch;
pub mod listen;
mod pace;
mod shares;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Semaphore;

use crate::modules::Blobs;
use crate::registry::Registry;
use crate::tasks::TaskGroup;

pub use blob_collector::collect_blobs;
pub use listen::{Addresses, Bound};
pub use usage_reader::read_usage;
pub use worker_api::WIRE_SECRET;

/// The version that `/version` and the command line name.
pub const VERSION: &str = concat!("v1.34.0+wasmorch.", env!("CARGO_PKG_VERSION"));

/// The largest API object that is read.
const OBJECT_LIMIT: usize = 3 << 20;

/// Limits of the API server; every one bounds something that a client could otherwise take all of.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests worked on at once, watches and other streams aside.
    pub requests: usize,
    /// Watches, log streams and the like.
    pub streams: usize,
    /// Uploads of modules at once.
    pub transfers: usize,
    /// What the bodies of requests may take together, in KiB.
    pub bodies: usize,
    /// Connections, on each listener.
    pub connections: usize,
    /// From the end of the request's head to the answer, streams aside.
    pub request_timeout: Duration,
    /// A connection that takes no byte of an answer for so long is cut.
    pub stall_timeout: Duration,
    /// How long a shutdown waits for requests under way.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 512,
            streams: 8192,
            transfers: 64,
            bodies: 512 << 10,
            connections: 8192,
            request_timeout: Duration::from_mins(1),
            stall_timeout: Duration::from_mins(1),
            drain: Duration::from_secs(10),
        }
    }
}

/// Writes more figures below the API server's own: those of loops that it does not know.
pub type MetricsPage = Box<dyn Fn(&mut String) + Send + Sync>;

/// What every request can reach; made once and shared.
pub struct Server {
    pub registry: Registry,
    pub blobs: Blobs,
    pub identities: auth::Identities,
    /// The certificate of the cluster's CA, PEM.
    pub ca_certificate: String,
    pub limits: Limits,
    pub tasks: TaskGroup,
    metrics: metrics::Metrics,
    further_metrics: OnceLock<MetricsPage>,
    openapi: openapi::Documents,
    worker_api: worker_api::Client,
    signer: Arc<tokens::Signer>,
    requests: shares::Shares,
    streams: shares::Shares,
    transfers: shares::Shares,
    bodies: shares::Shares,
    /// Places for answers that are written in another style than they are kept in.
    writers: Semaphore,
}

impl Server {
    /// Puts the parts together; nothing runs yet.
    pub fn new(
        registry: Registry,
        blobs: Blobs,
        identities: auth::Identities,
        pki: &pki::Pki,
        limits: Limits,
        tasks: TaskGroup,
    ) -> Arc<Self> {
        Arc::new(Self {
            openapi: openapi::Documents::default(),
            worker_api: worker_api::Client::new(pki.ca_der(), tasks.child()),
            ca_certificate: pki.ca_pem().to_owned(),
            signer: Arc::clone(pki.signer()),
            metrics: metrics::Metrics::default(),
            further_metrics: OnceLock::new(),
            requests: shares::Shares::new(limits.requests),
            streams: shares::Shares::new(limits.streams),
            transfers: shares::Shares::new(limits.transfers),
            bodies: shares::Shares::new(limits.bodies),
            writers: Semaphore::new(written::WRITERS),
            registry,
            blobs,
            identities,
            limits,
            tasks,
        })
    }

    /// The token of an account that a Secret holds; `None` if the key refuses to sign.
    pub fn secret_token(&self, account: &ObjectMeta, secret: &ObjectMeta) -> Option<String> {
        let claims =
            tokens::claims::Claims::of_secret(account, secret, self.registry.clock().now());
        self.signer.sign(&claims).ok()
    }

    /// Adds the figures of the process's other organs to `/metrics`; the first call counts.
    pub fn add_metrics(&self, page: MetricsPage) {
        // A second page would be a mistake of the composition root, and harmless.
        let _ = self.further_metrics.set(page);
    }
}
