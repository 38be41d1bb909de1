//! From a module's digest to its artifact: from memory, from the cache, or by compiling it.
//!
//! Whoever asks for the same digest at the same time waits for the same work and gets the same
//! answer, also when it is an error; the next to ask afterwards tries anew. Artifacts stay in
//! memory while a container uses them, and some beyond that, because pods come back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::artifact::{Artifact, Error};
use super::cache::{Cache, Cached};
use super::compile::{CompileLimits, Compiler, Places};
use super::component::Program;
use super::engine::{Engines, Flavor};
use super::{Tuning, compile, image_files};
use crate::api::image::Digest;

/// Unused artifacts kept in memory; they are mapped files and cost little.
const MAX_KEPT: usize = 256;

type Loaded = Result<Arc<Artifact>, Arc<Error>>;

/// See the module.
pub(super) struct Loader {
    inner: Arc<Inner>,
    loads: Mutex<HashMap<Digest, Arc<OnceCell<Loaded>>>>,
}

struct Inner {
    cache: Cache,
    engines: Arc<Engines>,
    fingerprints: [(Flavor, String); 2],
    compiler: Compiler,
    limits: CompileLimits,
    places: Places,
}

impl Loader {
    pub(super) fn new(
        cache_dir: &Path,
        engines: Arc<Engines>,
        tuning: &Tuning,
    ) -> Result<Self, super::Error> {
        let cache = Cache::open(cache_dir).map_err(|source| super::Error::Cache {
            path: cache_dir.to_owned(),
            source,
        })?;
        let fingerprint = |flavor: Flavor| match flavor.compiler() {
            Ok(engine) => Ok((flavor, flavor.fingerprint(&engine))),
            Err(error) => Err(super::Error::Engine(format!("{error:#}"))),
        };
        let [concurrent, sequential] = Flavor::ALL;
        let inner = Inner {
            cache,
            engines,
            fingerprints: [fingerprint(concurrent)?, fingerprint(sequential)?],
            compiler: tuning.compiler.clone(),
            limits: tuning.compile_limits,
            places: Places::new(tuning.compile_concurrency, tuning.compile_patience),
        };
        Ok(Self {
            inner: Arc::new(inner),
            loads: Mutex::default(),
        })
    }

    pub(super) async fn load(&self, digest: &Digest, wasm: &Path) -> Loaded {
        let cell = self.cell(digest);
        let inner = &self.inner;
        let loaded = cell
            .get_or_init(async || {
                let loaded = inner.load(digest, wasm).await;
                loaded.map(Arc::new).map_err(Arc::new)
            })
            .await
            .clone();
        if loaded.is_err() {
            let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
            if loads
                .get(digest)
                .is_some_and(|current| Arc::ptr_eq(current, &cell))
            {
                loads.remove(digest);
            }
        }
        loaded
    }

    pub(super) fn is_loaded(&self, digest: &Digest) -> bool {
        let loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let is_loaded = |cell: &Arc<OnceCell<Loaded>>| cell.get().is_some_and(Result::is_ok);
        loads.get(digest).is_some_and(is_loaded)
    }

    /// Whether somebody besides this cache has it, or waits for it.
    pub(super) fn is_in_use(&self, digest: &Digest) -> bool {
        let loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.get(digest).is_some_and(|cell| match cell.get() {
            Some(Ok(artifact)) => Arc::strong_count(artifact) > 1,
            Some(Err(_)) => false,
            None => true,
        })
    }

    fn cell(&self, digest: &Digest) -> Arc<OnceCell<Loaded>> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.len() >= MAX_KEPT && !loads.contains_key(digest) {
            loads.retain(|_, cell| match cell.get() {
                Some(Ok(artifact)) => Arc::strong_count(artifact) > 1,
                Some(Err(_)) => false,
                None => true,
            });
        }
        Arc::clone(loads.entry(digest.clone()).or_default())
    }
}

impl Inner {
    async fn load(self: &Arc<Self>, digest: &Digest, wasm: &Path) -> Result<Artifact, Error> {
        let artifact = self.load_program(digest, wasm).await?;
        let path = wasm.to_owned();
        let files = blocking(move || image_files::load(&path)).await?;
        Ok(artifact.with_files(files))
    }

    async fn load_program(
        self: &Arc<Self>,
        digest: &Digest,
        wasm: &Path,
    ) -> Result<Artifact, Error> {
        let (inner, wanted) = (Arc::clone(self), digest.clone());
        if let Some(artifact) = blocking(move || inner.load_cached(&wanted)).await? {
            return Ok(artifact);
        }
        // Another worker may be at it already; then its work is ours, and it needs no place here.
        let (inner, wanted) = (Arc::clone(self), digest.clone());
        let (_lock, compiled) = blocking(move || {
            let operation = "wait for another compiler of";
            let lock = inner.cache.lock(&wanted).map_err(|source| Error::File {
                operation,
                path: wanted.as_str().into(),
                source,
            })?;
            Ok((lock, inner.load_cached(&wanted)?))
        })
        .await?;
        if let Some(artifact) = compiled {
            return Ok(artifact);
        }
        let (path, wanted) = (wasm.to_owned(), digest.clone());
        let program = blocking(move || inspect(&path, &wanted)).await?;
        let scratch = self.cache.scratch().map_err(cache_error(
            "make a file for compiled code in the cache",
            wasm,
        ))?;
        let begin = || self.compiler.compile(wasm, &scratch, program, self.limits);
        self.places.compile(begin).await?;
        let (inner, digest, path) = (Arc::clone(self), digest.clone(), wasm.to_owned());
        blocking(move || {
            let cached = inner
                .cache
                .insert(&digest, inner.fingerprint(program), program, scratch)
                .map_err(cache_error("keep compiled code of", &path))?;
            inner.link(&digest, &cached)
        })
        .await
    }

    fn load_cached(&self, digest: &Digest) -> Result<Option<Artifact>, Error> {
        for (flavor, fingerprint) in &self.fingerprints {
            let found = self
                .cache
                .find(digest, *flavor, fingerprint)
                .map_err(|source| Error::File {
                    operation: "read compiled code of",
                    path: digest.as_str().into(),
                    source,
                })?;
            let Some(cached) = found else {
                continue;
            };
            match self.link(digest, &cached) {
                Ok(artifact) => return Ok(Some(artifact)),
                Err(error @ Error::Imports(_)) => return Err(error),
                Err(error) => {
                    let error = crate::errors::chain(&error).to_string();
                    tracing::warn!(%digest, error, "compiled code does not load; compiling anew");
                }
            }
        }
        Ok(None)
    }

    fn link(&self, digest: &Digest, cached: &Cached) -> Result<Artifact, Error> {
        let engine = self
            .engines
            .get(cached.program.engine())
            .map_err(|error| Error::Link {
                operation: "start the engine",
                reason: format!("{error:#}"),
            })?;
        Artifact::load(engine, digest.clone(), cached)
    }

    fn fingerprint(&self, program: Program) -> &str {
        let wanted = program.engine().flavor();
        let [first, second] = &self.fingerprints;
        if first.0 == wanted {
            &first.1
        } else {
            &second.1
        }
    }
}

fn inspect(wasm: &Path, wanted: &Digest) -> Result<Program, Error> {
    let bytes = std::fs::read(wasm).map_err(cache_error("read", wasm))?;
    let found = Digest::of(&bytes);
    if found != *wanted {
        return Err(Error::Digest {
            wanted: wanted.clone(),
            found,
        });
    }
    Ok(Program::of(&bytes)?)
}

fn cache_error(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        operation,
        path,
        source,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| {
            Err(Error::Compile(compile::Error::Stopped(
                panic.to_string(),
                CompileLimits::default(),
            )))
        })
}
