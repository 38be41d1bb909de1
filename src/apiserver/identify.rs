//! Whose request it is, from whatever the request shows for it.
//!
//! A bearer token comes first: a static one, the join secret with a node's name, or a service
//! account's. A token that nobody has is refused even if something else would identify the caller.

use http::HeaderMap;

use crate::registry::Caller;

use super::Server;
use super::auth::{self, Unknown};
use super::tokens::{self, ISSUER};

impl Server {
    /// The caller; `None` is anonymous, `Err` a token that nobody has.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Option<Caller>, Unknown> {
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
