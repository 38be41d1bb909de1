//! TLS towards whoever is called by `https`.
//!
//! The host does it, so a guest needs no library and no list of authorities: certificates are
//! checked against the machine's authorities and those that the operator adds to the worker. There is no
//! way for a guest to go without the check. The list is read at the first such request.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error as WasiHttpError;

use crate::runtime::net::Conn;

/// See the module; shared by all containers of a worker.
pub(in crate::runtime) struct Tls {
    /// Authorities besides the machine's.
    extra: Vec<CertificateDer<'static>>,
    config: OnceLock<Option<Arc<ClientConfig>>>,
}

impl Tls {
    pub(in crate::runtime) fn new(extra: Vec<CertificateDer<'static>>) -> Self {
        Self {
            extra,
            config: OnceLock::new(),
        }
    }

    /// Speaks TLS over a connection to `name`.
    pub(super) async fn connect(
        &self,
        name: &ServerName<'static>,
        conn: Conn,
    ) -> io::Result<TlsStream<Conn>> {
        let config = self.config.get_or_init(|| config(&self.extra));
        let config = config
            .clone()
            .ok_or_else(|| io::Error::other("this worker has no ciphers"))?;
        TlsConnector::from(config).connect(name.clone(), conn).await
    }
}

fn config(extra: &[CertificateDer<'static>]) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (of_machine, malformed) = roots.add_parsable_certificates(found.certs);
    let (added, _) = roots.add_parsable_certificates(extra.iter().cloned());
    if of_machine == 0 {
        tracing::warn!(errors = ?found.errors, "no certificate authorities on this machine: https needs --extra-ca");
    }
    tracing::debug!(
        of_machine,
        malformed,
        added,
        "certificate authorities for guests"
    );
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = versions
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}

/// What a guest is told when the handshake fails.
pub(super) fn failure(error: io::Error) -> WasiHttpError {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::UnsupportedNameType,
        ) => WasiHttpError::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => WasiHttpError::TlsAlertReceived {
            alert_id: Some((*alert).into()),
            alert_message: alert.as_str().map(str::to_owned),
        },
        Some(_) => WasiHttpError::TlsProtocolError,
        None => WasiHttpError::Tls(error),
    }
}
