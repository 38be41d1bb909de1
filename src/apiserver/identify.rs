//! Whose request it is, from whatever the request shows for it.
//!
//! A bearer token comes first: a static one, the join secret with a node's name, or a service
//! account's. A token that nobody has is refused even if something else would identify the caller.

use http::HeaderMap;

use crate::registry::Caller;

use super::Server;
use super::auth::{self, Unknown};

impl Server {
    /// The caller; `None` is anonymous, `Err` a token that nobody has.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Option<Caller>, Unknown> {
        let Some(token) = auth::presented(headers) else {
            return Ok(None);
        };
        self.identities.authenticate(&token, headers).map(Some)
    }

    /// Whose token it is, for those who have been shown one, and for which of the audiences it was
    /// made.
    pub(crate) fn token_owner(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Caller, Vec<String>), String> {
        let caller = self
            .identities
            .owner(token)
            .ok_or("invalid bearer token".to_owned())?;
        Ok((caller, audiences.to_vec()))
    }
}
