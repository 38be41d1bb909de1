//! Images: modules by digest, on disk and compiled, fetched once however many pods want them.
//!
//! A file in the cache has its digest as its name; it is written to a temporary file, hashed on the
//! way, synced and renamed, and the runtime checks the digest again before it compiles. A reference
//! that is not pinned is looked up in its Module first. A loading is a task of the worker, not of the
//! pod that asked first: that pod may go, and a compilation that nobody drives would keep its place
//! for ever. Nothing here backs off: the lifecycle does.

mod collect;
mod download;
#[cfg(test)]
mod tests;
mod toolbox;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use kube::{Api, Client};

pub use collect::Policy;
pub use toolbox::Program;

use super::lifecycle::{PullFailure, PullProblem};
use super::plan::PullPolicy;
use crate::api::image::{Digest, ImageRef};
use crate::api::module::Module;
use crate::errors::chain;
use crate::runtime::{Artifact, Runtime};
use crate::tasks::TaskGroup;

/// A program that is ready to start, and what it was called.
#[derive(Clone)]
pub struct Image {
    pub artifact: Arc<Artifact>,
    /// `name@sha256:…`.
    pub id: String,
    pub digest: Digest,
    /// Whether it had to be fetched.
    pub was_fetched: bool,
}

type Loading = Shared<BoxFuture<'static, Result<(Arc<Artifact>, bool), PullFailure>>>;

/// The images of a worker; cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<Shelf>);

struct Shelf {
    client: Client,
    runtime: Runtime,
    directory: PathBuf,
    loaded: Mutex<HashMap<Digest, Loaded>>,
    tasks: TaskGroup,
}

enum Loaded {
    Loading(Loading),
    /// In use by at least one pod while the pointer can be upgraded.
    Ready(Weak<Artifact>),
}

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

impl Images {
    /// `directory` is made if it is missing; half-written files of a former process are removed.
    pub fn new(
        client: Client,
        runtime: Runtime,
        directory: PathBuf,
        tasks: TaskGroup,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(Self(Arc::new(Shelf {
            client,
            runtime,
            directory,
            loaded: Mutex::default(),
            tasks,
        })))
    }

    /// The image at once, if a pod of this worker uses it already.
    pub fn ready(&self, image: &ImageRef) -> Option<Image> {
        let digest = image.digest.clone()?;
        let artifact = self.0.in_use(&digest)?;
        Some(Image::new(&image.name, digest, artifact, false))
    }

    /// Fetches, compiles and loads what is missing.
    pub async fn pull(
        &self,
        namespace: &str,
        image: &ImageRef,
        policy: PullPolicy,
    ) -> Result<Image, PullFailure> {
        let digest = match &image.digest {
            Some(digest) => digest.clone(),
            None => match self.0.resolve(namespace, image, policy).await {
                Ok(digest) => digest,
                Err(failure) if is_toolbox(image, &failure) => return self.toolbox().await,
                Err(failure) => return Err(failure),
            },
        };
        if let Some(artifact) = self.0.in_use(&digest) {
            return Ok(Image::new(&image.name, digest, artifact, false));
        }
        if policy == PullPolicy::Never && !self.0.path(&digest).exists() {
            return Err(never(image));
        }
        let loading = self.0.load(namespace, &image.name, &digest);
        let (artifact, was_fetched) = loading.await?;
        Ok(Image::new(&image.name, digest, artifact, was_fetched))
    }
}

/// A Module that is called `toolbox` comes first; where there is none, the built-in one is meant.
fn is_toolbox(image: &ImageRef, failure: &PullFailure) -> bool {
    image.name == toolbox::TOOLBOX
        && image.tag_or_latest() == "latest"
        && matches!(failure.problem, PullProblem::Missing | PullProblem::Never)
}

impl Image {
    fn new(name: &str, digest: Digest, artifact: Arc<Artifact>, was_fetched: bool) -> Self {
        Self {
            artifact,
            id: format!("{name}@{digest}"),
            digest,
            was_fetched,
        }
    }
}

impl Shelf {
    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{}.wasm", digest.hex()))
    }

    fn in_use(&self, digest: &Digest) -> Option<Arc<Artifact>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded.get(digest)? {
            Loaded::Ready(artifact) => artifact.upgrade(),
            Loaded::Loading(_) => None,
        }
    }

    /// The digest that a tag names now.
    async fn resolve(
        &self,
        namespace: &str,
        image: &ImageRef,
        policy: PullPolicy,
    ) -> Result<Digest, PullFailure> {
        if policy == PullPolicy::Never {
            return Err(never(image));
        }
        let api: Api<Module> = Api::namespaced(self.client.clone(), namespace);
        let module = match tokio::time::timeout(LOOKUP_TIMEOUT, api.get_opt(&image.name)).await {
            Ok(Ok(module)) => module,
            Ok(Err(error)) => {
                return Err(failure(format!("look up `{image}`: {}", chain(&error))));
            }
            Err(_) => return Err(failure(format!("look up `{image}`: no answer within 10 s"))),
        };
        let Some(module) = module else {
            let name = &image.name;
            return Err(missing(format!(
                "module \"{name}\" not found in namespace \"{namespace}\"; push it with `wasmorch push {name} <file.wasm>`"
            )));
        };
        let tag = image.tag_or_latest();
        let digest = module.spec.tags.get(tag).ok_or_else(|| {
            let name = &image.name;
            missing(format!("module \"{name}\" has no tag \"{tag}\""))
        })?;
        digest
            .parse()
            .map_err(|error| failure(format!("tag \"{tag}\" of \"{}\": {error}", image.name)))
    }

    /// Joins the loading that is under way, or begins one.
    fn load(self: &Arc<Self>, namespace: &str, name: &str, digest: &Digest) -> Loading {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // What no pod uses any more is forgotten here, so that the map does not grow for ever.
        loaded.retain(|_, entry| match entry {
            Loaded::Loading(_) => true,
            Loaded::Ready(artifact) => artifact.strong_count() > 0,
        });
        if let Some(Loaded::Loading(loading)) = loaded.get(digest) {
            return loading.clone();
        }
        let (shelf, digest) = (Arc::clone(self), digest.clone());
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let key = digest.clone();
        let loading = async move {
            let result = shelf.fetch_and_compile(&namespace, &name, &digest).await;
            let mut loaded = shelf.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            match &result {
                Ok((artifact, _)) => {
                    loaded.insert(digest, Loaded::Ready(Arc::downgrade(artifact)));
                }
                Err(_) => drop(loaded.remove(&digest)),
            }
            drop(loaded);
            result
        };
        let loading = loading.boxed().shared();
        loaded.insert(key, Loaded::Loading(loading.clone()));
        drop(loaded);
        let (driven, stopping) = (loading.clone(), self.tasks.cancelled());
        self.tasks.spawn_contained("image", async move {
            // Who waits has the result.
            let _ = stopping.run_until_cancelled(driven).await;
        });
        loading
    }

    async fn fetch_and_compile(
        &self,
        namespace: &str,
        name: &str,
        digest: &Digest,
    ) -> Result<(Arc<Artifact>, bool), PullFailure> {
        let path = self.path(digest);
        let is_there = tokio::fs::try_exists(&path).await.unwrap_or(false);
        if !is_there {
            let source = download::Source {
                namespace,
                name,
                digest,
            };
            let fetched = download::fetch(&self.client, &source, &path).await;
            fetched.map_err(|error| PullFailure {
                problem: if error.is_missing() {
                    PullProblem::Missing
                } else {
                    PullProblem::Other
                },
                message: chain(&error).to_string(),
            })?;
        }
        match self.runtime.load(digest, &path).await {
            Ok(artifact) => Ok((artifact, !is_there)),
            // The file is as it should be; the next try takes as long.
            Err(error) if error.is_compile_timeout() => Err(PullFailure {
                problem: PullProblem::CompileTimeout,
                message: chain(&error).to_string(),
            }),
            Err(error) => {
                // A file that is damaged must not fail the next try as well.
                if let Err(error) = tokio::fs::remove_file(&path).await {
                    tracing::debug!(path = %path.display(), %error, "remove module");
                }
                Err(failure(format!("load module: {}", chain(&error))))
            }
        }
    }
}

fn failure(message: String) -> PullFailure {
    PullFailure {
        problem: PullProblem::Other,
        message,
    }
}

fn missing(message: String) -> PullFailure {
    PullFailure {
        problem: PullProblem::Missing,
        ..failure(message)
    }
}

fn never(image: &ImageRef) -> PullFailure {
    PullFailure {
        problem: PullProblem::Never,
        ..failure(format!(
            "`{image}` is not on this worker, and imagePullPolicy is Never"
        ))
    }
}
