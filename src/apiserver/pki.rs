//! The cluster's certificates: a CA of its own and the server's leaf, made at the first start.
//!
//! CA and leaf are two certificates, because rustls clients reject one that is both. The CA is kept
//! for its whole life: its hash is in every join token and its text in every kubeconfig. The leaf is
//! made anew when it nears its end or when a name is asked for that it does not carry; what was
//! asked and until when stands beside it in `server.json`, so no certificate needs parsing. `sa.key`
//! signs the tokens of service accounts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};

use super::auth;
use super::tokens::{BadKey, Signer};

const CA_LIFE: Duration = Duration::from_hours(24 * 3650);
const LEAF_LIFE: Duration = Duration::from_hours(24 * 365);
/// A leaf with less than this before it is made anew.
const LEAF_RENEWAL: Duration = Duration::from_hours(24 * 30);
/// Certificates begin a little in the past, for clients whose clocks lag.
const SKEW: Duration = Duration::from_mins(5);

/// Names that every API server answers to.
const NAMES: [&str; 8] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "wasmorch",
];

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} `{path}`")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("make the {0} certificate")]
    Make(&'static str, #[source] rcgen::Error),
    #[error("read the certificate in `{0}`")]
    Pem(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("keep a private key")]
    Private(#[source] auth::Error),
    #[error("read `{0}`")]
    TokenKey(PathBuf, #[source] BadKey),
    #[error("set up the check of client certificates")]
    Verifier(#[source] VerifierBuilderError),
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeafRecord {
    names: Vec<String>,
    not_after: Timestamp,
}

/// The certificates, loaded.
pub struct Pki {
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    leaf_pem: String,
    leaf_key: String,
    signer: Arc<Signer>,
}

impl Pki {
    /// Loads `directory`, making what is missing or near its end. `extra` are names and addresses
    /// beyond those that every API server has.
    pub fn open(directory: &Path, extra: &[String], now: Timestamp) -> Result<Self, Error> {
        std::fs::create_dir_all(directory).map_err(|source| Error::Io {
            operation: "create",
            path: directory.to_owned(),
            source,
        })?;
        let (ca_path, ca_key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        if !ca_path.is_file() || !ca_key_path.is_file() {
            let (certificate, key) = make_ca(now)?;
            auth::write_private(&ca_key_path, key.as_bytes()).map_err(Error::Private)?;
            auth::write_private(&ca_path, certificate.as_bytes()).map_err(Error::Private)?;
        }
        let ca_pem = read(&ca_path)?;
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|source| Error::Pem(ca_path, source))?;
        let ca_key = read(&ca_key_path)?;

        let mut names: Vec<String> = NAMES
            .iter()
            .map(|name| (*name).to_owned())
            .chain(extra.iter().cloned())
            .collect();
        names.sort();
        names.dedup();
        let (leaf_path, leaf_key_path) =
            (directory.join("server.crt"), directory.join("server.key"));
        let record_path = directory.join("server.json");
        let is_good = leaf_path.is_file()
            && leaf_key_path.is_file()
            && record(&record_path).is_some_and(|record| {
                record.names == names && record.not_after > now + LEAF_RENEWAL
            });
        if !is_good {
            let (certificate, key) = make_leaf("wasmorch server", &names, &ca_key, now)?;
            let record = LeafRecord {
                names,
                not_after: now + LEAF_LIFE,
            };
            let record = serde_json::to_vec(&record).expect("plain strings always encode");
            auth::write_private(&leaf_key_path, key.as_bytes()).map_err(Error::Private)?;
            auth::write_private(&leaf_path, certificate.as_bytes()).map_err(Error::Private)?;
            auth::write_private(&record_path, &record).map_err(Error::Private)?;
        }
        Ok(Self {
            leaf_pem: read(&leaf_path)?,
            leaf_key: read(&leaf_key_path)?,
            ca_pem,
            ca_der,
            signer: Arc::new(open_signer(directory)?),
        })
    }

    /// Signs the tokens of service accounts.
    pub(super) fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    /// The CA's certificate, for kubeconfigs and `/cacerts`.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA's certificate, for hashes and trust.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// TLS for the API's listener: HTTP/2 and HTTP/1.1 by ALPN.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let in_memory = |source| Error::Pem(PathBuf::from("server.crt"), source);
        let chain = CertificateDer::pem_slice_iter(self.leaf_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(in_memory)?;
        let key = PrivateKeyDer::from_pem_slice(self.leaf_key.as_bytes()).map_err(in_memory)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut authorities = RootCertStore::empty();
        authorities.add(self.ca_der.clone()).map_err(Error::Tls)?;
        // A certificate is one way to say who one is; most clients have none and send a token.
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(authorities),
            Arc::clone(&provider),
        )
        .allow_unauthenticated()
        .build()
        .map_err(Error::Verifier)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(Error::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The key of service account tokens; made once, since with it every token would go.
fn open_signer(directory: &Path) -> Result<Signer, Error> {
    let path = directory.join("sa.key");
    if !path.is_file() {
        let key = KeyPair::generate().map_err(|source| Error::Make("token", source))?;
        auth::write_private(&path, key.serialize_pem().as_bytes()).map_err(Error::Private)?;
    }
    Signer::from_pem(&read(&path)?).map_err(|source| Error::TokenKey(path, source))
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}

/// A record that cannot be read only costs a new leaf.
fn record(path: &Path) -> Option<LeafRecord> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name("wasmorch CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make_ca(now: Timestamp) -> Result<(String, String), Error> {
    let wrap = |source| Error::Make("CA", source);
    let key = KeyPair::generate().map_err(wrap)?;
    let mut params = ca_params();
    set_life(&mut params, now, CA_LIFE);
    let certificate = params.self_signed(&key).map_err(wrap)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn make_leaf(
    common_name: &str,
    names: &[String],
    ca_key: &str,
    now: Timestamp,
) -> Result<(String, String), Error> {
    let wrap = |source| Error::Make("server", source);
    // An issuer is its name and its key; both are ours, so the CA's certificate is not parsed.
    let params = ca_params();
    let issuer = Issuer::from_params(&params, KeyPair::from_pem(ca_key).map_err(wrap)?);
    let key = KeyPair::generate().map_err(wrap)?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(wrap)?;
    params.distinguished_name = distinguished_name(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, now, LEAF_LIFE);
    let certificate = params.signed_by(&key, &issuer).map_err(wrap)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_life(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let seconds = Duration::from_secs(now.as_second().unsigned_abs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + seconds.saturating_sub(SKEW);
    params.not_after = epoch + seconds + life;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once_and_renewed_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let open = |extra: &[String], now| Pki::open(directory.path(), extra, now).unwrap();
        let first = open(&[], now);
        let again = open(&[], now + Duration::from_hours(24));
        assert_eq!(first.ca_pem, again.ca_pem);
        assert_eq!(first.leaf_pem, again.leaf_pem);
        first.server_config().unwrap();

        let renewed = open(&[], now + Duration::from_hours(24 * 340));
        assert_eq!(first.ca_pem, renewed.ca_pem);
        assert_ne!(first.leaf_pem, renewed.leaf_pem);
        let named = open(&["api.example.com".to_owned()], now);
        assert_ne!(renewed.leaf_pem, named.leaf_pem);
    }
}
