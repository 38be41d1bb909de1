//! Secrets of type `kubernetes.io/service-account-token`: filled with a token of the account that
//! their annotation names, and removed with it.
//!
//! Whoever signs tokens is no part of this room: a [`TokenMaker`] is handed in. A token is bound to
//! its Secret, so it ends with the Secret, too.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::api::annotations::{SERVICE_ACCOUNT_NAME, SERVICE_ACCOUNT_TOKEN, SERVICE_ACCOUNT_UID};
use crate::registry::{self, Api, DeleteOptions};

const COMPONENT: &str = "tokens-controller";

/// The token of an account that a Secret holds; `None` if the key refuses to sign.
type Make = dyn Fn(&ObjectMeta, &ObjectMeta) -> Option<String> + Send + Sync;

/// Signs tokens.
#[derive(Clone)]
pub struct TokenMaker(Arc<Make>);

impl TokenMaker {
    /// `make` gets the metadata of the account and of the Secret.
    pub fn new(
        make: impl Fn(&ObjectMeta, &ObjectMeta) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }
}

impl fmt::Debug for TokenMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenMaker")
    }
}

struct Tokens {
    ctx: Context,
    secrets: Api<Secret>,
    accounts: Api<ServiceAccount>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Tokens {
        ctx: ctx.clone(),
        secrets: ctx.api(COMPONENT),
        accounts: ctx.api(COMPONENT),
    });
    let controller = Controller::new("tokens", ctx);
    controller.root(&mut sources.secrets, this.secrets.clone());
    let secrets = this.secrets.clone();
    controller.on(
        &mut sources.service_accounts,
        move |account: &ServiceAccount| {
            // An unreadable list wakes nobody; the periodic look at every Secret does.
            of_account(&secrets, &account.metadata).unwrap_or_else(|error| {
                tracing::warn!(error = %crate::errors::chain(&error), "list secrets");
                Vec::new()
            })
        },
    );
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

/// The Secrets that hold a token of an account.
fn of_account(secrets: &Api<Secret>, account: &ObjectMeta) -> Result<Vec<Key>, registry::Error> {
    let all = secrets.list(account.namespace.as_deref())?;
    let its = all.iter().filter(|secret| {
        account_of(secret).is_some_and(|name| Some(name) == account.name.as_deref())
    });
    Ok(its.map(|secret| Key::of(&secret.metadata)).collect())
}

/// The account whose token a Secret holds.
fn account_of(secret: &Secret) -> Option<&str> {
    let is_token = secret.type_.as_deref() == Some(SERVICE_ACCOUNT_TOKEN);
    annotation(secret, SERVICE_ACCOUNT_NAME).filter(|_| is_token)
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let value = secret.metadata.annotations.as_ref()?.get(key)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

impl Tokens {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let (ns, name) = (key.namespace.as_str(), key.name.as_str());
        let found = self.secrets.try_get(ns, name);
        let Some(secret) = found.map_err(doing("get secret", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        let Some(account) = account_of(&secret) else {
            return Ok(Outcome::Done);
        };
        if secret.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let found = self.accounts.try_get(ns, account);
        let found = found.map_err(doing("get the account of secret", key.to_string()))?;
        match found.filter(|account| is_meant(&secret, account)) {
            Some(account) => self.fill(key, &secret, &account).await?,
            None => self.remove(key, &secret).await?,
        }
        Ok(Outcome::Done)
    }

    async fn fill(
        &self,
        key: &Key,
        secret: &Secret,
        account: &ServiceAccount,
    ) -> Result<(), Error> {
        let Some(maker) = &self.ctx.config.token_maker else {
            return Ok(());
        };
        let make = || (maker.0)(&account.metadata, &secret.metadata);
        let root_ca = self.ctx.config.root_ca.as_deref();
        let filled = plan(secret, account, root_ca, make).map_err(|NoToken| {
            Error::Incomplete(format!("no token can be signed for secret {key}"))
        })?;
        let Some(filled) = filled else {
            return Ok(());
        };
        let written = self.secrets.update(&key.namespace, &filled).await;
        written.map_err(doing("fill secret", key.to_string()))?;
        Ok(())
    }

    async fn remove(&self, key: &Key, secret: &Secret) -> Result<(), Error> {
        let options = DeleteOptions {
            uid: secret.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        let deleted = self
            .secrets
            .delete(&key.namespace, &key.name, &options)
            .await;
        deleted.map_err(doing("remove secret", key.to_string()))
    }
}

/// Whether the account is the one that the Secret was made for, and not a later one of its name.
fn is_meant(secret: &Secret, account: &ServiceAccount) -> bool {
    let uid = annotation(secret, SERVICE_ACCOUNT_UID);
    uid.is_none_or(|uid| Some(uid) == account.metadata.uid.as_deref())
}

struct NoToken;

/// The Secret with what it lacks; `None` if it lacks nothing, or can no longer be written.
fn plan(
    secret: &Secret,
    account: &ServiceAccount,
    root_ca: Option<&str>,
    make: impl FnOnce() -> Option<String>,
) -> Result<Option<Secret>, NoToken> {
    if secret.immutable == Some(true) {
        return Ok(None);
    }
    let mut filled = secret.clone();
    let data = filled.data.get_or_insert_default();
    let lacks = |value: Option<&ByteString>| value.is_none_or(|value| value.0.is_empty());
    if lacks(data.get("token")) {
        let token = make().ok_or(NoToken)?;
        data.insert("token".to_owned(), ByteString(token.into_bytes()));
    }
    if lacks(data.get("namespace")) {
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        data.insert("namespace".to_owned(), ByteString(namespace.into_bytes()));
    }
    if let Some(certificate) = root_ca {
        let certificate = ByteString(certificate.as_bytes().to_vec());
        data.insert("ca.crt".to_owned(), certificate);
    }
    if let Some(uid) = &account.metadata.uid {
        let annotations = filled.metadata.annotations.get_or_insert_default();
        annotations.insert(SERVICE_ACCOUNT_UID.to_owned(), uid.clone());
    }
    Ok((filled != *secret).then_some(filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parts() -> (Secret, ServiceAccount) {
        let secret = json!({
            "metadata": {"name": "key", "namespace": "ns", "annotations": {SERVICE_ACCOUNT_NAME: "robot"}},
            "type": SERVICE_ACCOUNT_TOKEN,
        });
        let account = json!({"metadata": {"name": "robot", "namespace": "ns", "uid": "u-1"}});
        let parse = "a well-formed object";
        (
            serde_json::from_value(secret).expect(parse),
            serde_json::from_value(account).expect(parse),
        )
    }

    #[test]
    fn a_secret_gets_what_it_lacks_once() {
        let (secret, account) = parts();
        let make = || Some("signed".to_owned());
        let filled = plan(&secret, &account, Some("certificate"), make);
        let filled = filled.ok().flatten().expect("something to write");
        let data = filled.data.clone().unwrap_or_default();
        let text = |key: &str| String::from_utf8_lossy(&data[key].0).into_owned();
        assert_eq!(text("token"), "signed");
        assert_eq!(text("namespace"), "ns");
        assert_eq!(text("ca.crt"), "certificate");
        assert_eq!(annotation(&filled, SERVICE_ACCOUNT_UID), Some("u-1"));
        let again = plan(&filled, &account, Some("certificate"), || None);
        assert!(matches!(again, Ok(None)));
    }

    #[test]
    fn a_later_account_of_the_name_is_another() {
        let (mut secret, mut account) = parts();
        assert!(is_meant(&secret, &account));
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(SERVICE_ACCOUNT_UID.to_owned(), "u-1".to_owned());
        assert!(is_meant(&secret, &account));
        account.metadata.uid = Some("u-2".to_owned());
        assert!(!is_meant(&secret, &account));
        secret.type_ = Some("Opaque".to_owned());
        assert_eq!(account_of(&secret), None);
    }
}
