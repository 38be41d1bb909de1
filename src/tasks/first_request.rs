//! Clients that connect and never ask anything.
//!
//! A server's own timers begin with the head of a request. Before it, while it is not known yet which
//! version of HTTP the client speaks, or until an HTTP/2 client has sent its preface, nothing ends a
//! silence, and each silent client holds a place. So whoever serves connections races each with
//! [`FirstRequest::missing_for`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether a connection has brought a request yet; clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub struct FirstRequest(Arc<AtomicBool>);

impl FirstRequest {
    /// A request is there.
    pub fn arrived(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Resolves after `patience` if no request has come by then, else never.
    pub async fn missing_for(&self, patience: Duration) {
        tokio::time::sleep(patience).await;
        if self.0.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_silence_ends() {
        let patience = Duration::from_millis(10);
        let silent = FirstRequest::default();
        silent.missing_for(patience).await;
        let asking = FirstRequest::default();
        asking.clone().arrived();
        let ended = asking.missing_for(patience);
        assert!(tokio::time::timeout(patience * 10, ended).await.is_err());
    }
}
