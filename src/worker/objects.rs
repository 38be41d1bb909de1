//! ConfigMaps and Secrets as pods ask for them, fetched once however many pods ask together.
//!
//! Both kinds are one thing here: names to bytes. An answer serves everybody for a second; a pod
//! whose volumes follow later changes asks again when `object_changes` tells it, and on the worker's
//! common refresh tick. What the
//! API could not be asked for is an error, never an empty map.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::tokens::Tokens;
use crate::clock::Clock;
use crate::errors::chain;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// The keys of a ConfigMap or Secret.
pub type Data = BTreeMap<String, Bytes>;

/// What a pod needs of its namespace; `None` is an object that does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    found: BTreeMap<(Kind, String), Option<Arc<Data>>>,
    /// Of the pod that asks, which no other pod has.
    pub tokens: Tokens,
}

impl Objects {
    /// The object, if it exists.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Data> {
        self.found.get(&(kind, name.to_owned()))?.as_deref()
    }

    #[cfg(test)]
    pub(crate) fn with(mut self, kind: Kind, name: &str, data: &[(&str, &str)]) -> Self {
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Bytes::copy_from_slice(value.as_bytes())))
            .collect();
        self.found
            .insert((kind, name.to_owned()), Some(Arc::new(data)));
        self
    }
}

/// Which objects are needed.
pub type References = BTreeSet<(Kind, String)>;

/// Why an object could not be asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("get {kind} \"{name}\": {cause}", kind = .kind.as_str())]
pub struct Error {
    pub kind: Kind,
    pub name: String,
    /// The API client's error is not `Clone`, and many may be waiting for it.
    pub cause: String,
}

type Answer = Result<Option<Arc<Data>>, Error>;
type Key = (Kind, String, String);

/// The cache.
#[derive(Clone)]
pub struct ObjectCache {
    client: Client,
    clock: Clock,
    answers: Arc<Mutex<HashMap<Key, Asked>>>,
}

struct Asked {
    at: Instant,
    answer: Shared<BoxFuture<'static, Answer>>,
}

const FRESH: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);

impl ObjectCache {
    pub fn new(client: Client, clock: Clock) -> Self {
        Self {
            client,
            clock,
            answers: Arc::default(),
        }
    }

    /// Fetches what is needed of one namespace.
    pub async fn get(&self, namespace: &str, references: &References) -> Result<Objects, Error> {
        let answers = references.iter().map(|(kind, name)| {
            let answer = self.ask((*kind, namespace.to_owned(), name.clone()));
            async move { answer.await.map(|data| ((*kind, name.clone()), data)) }
        });
        let objects = futures::future::try_join_all(answers).await?;
        Ok(Objects {
            found: objects.into_iter().collect(),
            tokens: Tokens::new(),
        })
    }

    /// The object has changed: who asks from now on is not served what was known.
    pub fn forget(&self, kind: Kind, namespace: &str, name: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.remove(&(kind, namespace.to_owned(), name.to_owned()));
    }

    fn ask(&self, key: Key) -> Shared<BoxFuture<'static, Answer>> {
        let now = self.clock.monotonic();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // The map holds what was asked for in the last second only.
        answers.retain(|_, asked| now.saturating_duration_since(asked.at) < FRESH);
        let asked = answers.entry(key.clone()).or_insert_with(|| Asked {
            at: now,
            answer: fetch(self.client.clone(), key).boxed().shared(),
        });
        asked.answer.clone()
    }
}

async fn fetch(client: Client, (kind, namespace, name): Key) -> Answer {
    let asking = async {
        match kind {
            Kind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
                Ok(api.get_opt(&name).await?.map(config_map_data))
            }
            Kind::Secret => {
                let api: Api<Secret> = Api::namespaced(client, &namespace);
                Ok(api.get_opt(&name).await?.map(secret_data))
            }
        }
    };
    let answer: Result<Result<_, kube::Error>, _> = tokio::time::timeout(TIMEOUT, asking).await;
    let cause = match answer {
        Ok(Ok(data)) => return Ok(data.map(Arc::new)),
        Ok(Err(error)) => chain(&error).to_string(),
        Err(_) => "no answer within 10 s".to_owned(),
    };
    Err(Error { kind, name, cause })
}

fn config_map_data(object: ConfigMap) -> Data {
    let text = object.data.into_iter().flatten();
    let binary = object.binary_data.into_iter().flatten();
    text.map(|(key, value)| (key, Bytes::from(value)))
        .chain(binary.map(|(key, value)| (key, Bytes::from(value.0))))
        .collect()
}

fn secret_data(object: Secret) -> Data {
    let data = object.data.into_iter().flatten();
    data.map(|(key, value)| (key, Bytes::from(value.0)))
        .collect()
}
