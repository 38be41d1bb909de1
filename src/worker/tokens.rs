//! Tokens of service accounts for the volumes of pods, asked of the API and renewed in time.
//!
//! A token is bound to its pod and kept here until four fifths of its life are over (or a day); from
//! then on the refresh tick gets a new one, while the old one serves as long as it is good. A pod that
//! goes takes its tokens along.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::clock::Clock;
use crate::errors::chain;

/// What a projection asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenReference {
    /// The API server's own if it is empty.
    pub audience: String,
    pub seconds: i64,
}

/// The tokens of one pod.
pub type Tokens = BTreeMap<TokenReference, Bytes>;

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("get a token for service account \"{account}\": {cause}")]
pub struct Error {
    pub account: String,
    pub cause: String,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_hours(24);
const USUAL: i64 = 3600;

#[derive(Clone)]
struct Held {
    token: Bytes,
    renew: Instant,
    end: Instant,
}

/// See the module.
#[derive(Clone)]
pub struct TokenCache {
    client: Client,
    clock: Clock,
    held: Arc<Mutex<HashMap<String, HashMap<TokenReference, Held>>>>,
}

/// The tokens that a pod's volumes show.
pub fn references(pod: &Pod) -> BTreeSet<TokenReference> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.projected.as_ref()?.sources.as_ref())
        .flatten()
        .filter_map(|source| source.service_account_token.as_ref())
        .map(|it| TokenReference {
            audience: it.audience.clone().unwrap_or_default(),
            seconds: it.expiration_seconds.unwrap_or(USUAL),
        })
        .collect()
}

impl TokenCache {
    pub fn new(client: Client, clock: Clock) -> Self {
        Self {
            client,
            clock,
            held: Arc::default(),
        }
    }

    /// The tokens that a pod's volumes show, as good as they can be had.
    pub async fn get(&self, pod: &Pod) -> Result<Tokens, Error> {
        let mut tokens = Tokens::new();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        for reference in references(pod) {
            let held = self
                .lock()
                .get(uid)
                .and_then(|all| all.get(&reference).cloned());
            let now = self.clock.monotonic();
            let token = match held {
                Some(held) if now < held.renew => held.token,
                held => match (self.ask(pod, &reference).await, held) {
                    (Ok(asked), _) => {
                        let token = asked.token.clone();
                        let mut all = self.lock();
                        all.entry(uid.to_owned())
                            .or_default()
                            .insert(reference.clone(), asked);
                        token
                    }
                    (Err(_), Some(held)) if now < held.end => held.token,
                    (Err(error), _) => return Err(error),
                },
            };
            tokens.insert(reference, token);
        }
        Ok(tokens)
    }

    /// The pod is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    async fn ask(&self, pod: &Pod, reference: &TokenReference) -> Result<Held, Error> {
        let meta = &pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or("default");
        let spec = pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.as_deref());
        let account = account.unwrap_or("default");
        let failed = |cause: String| Error {
            account: account.to_owned(),
            cause,
        };
        let audience = Some(reference.audience.clone()).filter(|text| !text.is_empty());
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audience.into_iter().collect(),
                expiration_seconds: Some(reference.seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: meta.name.clone(),
                    uid: meta.uid.clone(),
                }),
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PostParams::default();
        let asking = api.create_token_request(account, &parameters, &request);
        let began = self.clock.monotonic();
        let answer = tokio::time::timeout(TIMEOUT, asking).await;
        let answer = answer.map_err(|_| failed("no answer within 10 s".to_owned()))?;
        let answer = answer.map_err(|error| failed(chain(&error).to_string()))?;
        let status = answer
            .status
            .ok_or_else(|| failed("the answer has no token".to_owned()))?;
        let life = status
            .expiration_timestamp
            .0
            .duration_since(self.clock.now());
        let life = Duration::try_from(life).unwrap_or_default();
        Ok(Held {
            token: Bytes::from(status.token),
            renew: began + (life * 4 / 5).min(DAY),
            end: began + life,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<TokenReference, Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
