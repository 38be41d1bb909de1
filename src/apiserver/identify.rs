//! Whose request it is, from whatever the request shows for it.
//!
//! In Kubernetes' order: a client certificate that the cluster's CA has signed (common name: the user,
//! organizations: the groups), else a bearer token: a static one, the join secret with a node's name,
//! or a service account's. A token that nobody has is refused.

use std::sync::Arc;

use http::HeaderMap;

use rustls::pki_types::CertificateDer;

use crate::api::image::Digest;
use crate::registry::Caller;

use super::Server;
use super::auth::{self, Unknown};
use super::tokens::{self, ISSUER};

/// Whom the certificate of a connection names.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Arc<Caller>);

impl Peer {
    /// The first certificate is the client's own; TLS has checked who has signed it. One without a
    /// common name names nobody.
    pub(crate) fn of(certificates: &[CertificateDer<'static>]) -> Option<Self> {
        let der = certificates.first()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?;
        let groups = subject.iter_organization();
        let groups = groups.filter_map(|group| group.as_str().ok().map(str::to_owned));
        let hash = format!("X509SHA256={}", Digest::of(der).hex());
        let mut caller = auth::caller(user, groups.collect());
        caller.extra.insert(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![hash],
        );
        (!user.is_empty()).then(|| Self(Arc::new(caller)))
    }
}

impl Server {
    /// The caller; `None` is anonymous, `Err` a token that nobody has.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Option<Caller>, Unknown> {
        if let Some(peer) = peer {
            return Ok(Some(Caller::clone(&peer.0)));
        }
        let Some(token) = auth::presented(headers) else {
            return Ok(None);
        };
        self.identities
            .authenticate(&token, headers)
            .or_else(|unknown| {
                let account = self.account(&token, &[ISSUER.to_owned()]);
                account.map(|(caller, _)| caller).map_err(|reason| {
                    tracing::debug!(%reason, "a token is refused");
                    unknown
                })
            })
            .map(Some)
    }

    /// Whose token it is, for those who have been shown one, and for which of the audiences it was
    /// made.
    pub(crate) fn token_owner(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Caller, Vec<String>), String> {
        let own = [ISSUER.to_owned()];
        let audiences = if audiences.is_empty() {
            &own
        } else {
            audiences
        };
        if let Some(caller) = self.identities.owner(token) {
            // A static token is for the API server alone.
            return match audiences.contains(&own[0]) {
                true => Ok((caller, own.to_vec())),
                false => Err("token audiences do not match".to_owned()),
            };
        }
        self.account(token, audiences)
            .map_err(|reason| format!("invalid bearer token: {reason}"))
    }

    fn account(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Caller, Vec<String>), tokens::Rejected> {
        let now = self.registry.clock().now();
        let claims = self.signer.read(token, audiences, now)?;
        let caller = tokens::check(&self.registry, &claims)?;
        let both = claims.aud.iter().filter(|one| audiences.contains(one));
        Ok((caller, both.cloned().collect()))
    }
}
