//! The verbs of the command line for another part of this program: `wasmorch dev` pushes and applies
//! through the same code as a user at a terminal, so that there is one meaning of both.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use super::apply::apply_object;
use super::discovery::Catalog;
use super::failure::Failure;
use super::global::Global;
use super::manifest;
use super::push::push_bytes;
use super::session::Session;

/// A cluster to act on.
pub struct Operator {
    session: Session,
}

impl Operator {
    /// Reads a kubeconfig; says nothing to the server yet.
    pub async fn open(kubeconfig: &Path) -> anyhow::Result<Self> {
        let global = Global {
            kubeconfig: Some(kubeconfig.to_owned()),
            ..Global::default()
        };
        Ok(Self {
            session: Session::open(&global).await.map_err(told)?,
        })
    }

    /// The client underneath.
    pub fn client(&self) -> kube::Client {
        self.session.client.clone()
    }

    /// Pushes a module under the tag `latest`.
    pub async fn push(&self, name: &str, wasm: Bytes) -> anyhow::Result<()> {
        push_bytes(&self.session, wasm.into(), name, "latest")
            .await
            .map_err(told)?;
        Ok(())
    }

    /// Applies a text of manifests; gives `deployment/api created` and the like.
    pub async fn apply(&self, origin: &str, text: &str) -> anyhow::Result<Vec<String>> {
        let objects: Vec<Value> = manifest::parse(text, origin).map_err(told)?;
        let catalog = Catalog::read(&self.session).await.map_err(told)?;
        let mut done = Vec::new();
        for object in objects {
            let (resource, outcome, object) = apply_object(&self.session, &catalog, object, false)
                .await
                .map_err(told)?;
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            done.push(format!("{} {}", resource.display(name), outcome.word()));
        }
        Ok(done)
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` is given"
)]
fn told(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!("{}", failure.render().trim_end())
}
