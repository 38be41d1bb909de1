//! Programs that no Module holds: the built-in toolbox, and files out of a pod.

use std::sync::{Arc, LazyLock};

use super::{Image, Images, failure};
use crate::api::image::Digest;
use crate::errors::chain;
use crate::ids;
use crate::runtime::Artifact;
use crate::worker::lifecycle::PullFailure;

/// The image name that means the toolbox where the namespace has no Module of that name.
pub(super) const TOOLBOX: &str = "toolbox";

static WASM: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/guest-examples/prebuilt/toolbox.wasm"
));
static DIGEST: LazyLock<Digest> = LazyLock::new(|| Digest::of(WASM));

/// A program that was read out of a pod.
pub struct Program {
    bytes: Vec<u8>,
    digest: Digest,
}

impl Program {
    /// Hashes it, which takes its time: not for a thread that others wait for.
    pub fn new(bytes: Vec<u8>) -> Self {
        let digest = Digest::of(&bytes);
        Self { bytes, digest }
    }
}

impl Images {
    /// The toolbox, compiled when it is first asked for.
    pub async fn toolbox(&self) -> Result<Image, PullFailure> {
        let digest = DIGEST.clone();
        if let Some(artifact) = self.0.in_use(&digest) {
            return Ok(Image::new(TOOLBOX, digest, artifact, false));
        }
        let artifact = self.load_as(&digest, WASM).await?;
        Ok(Image::new(TOOLBOX, digest, artifact, false))
    }

    /// A program out of a pod. Compiled once per content, like any other.
    pub async fn load_program(&self, program: &Program) -> Result<Arc<Artifact>, PullFailure> {
        self.load_as(&program.digest, &program.bytes).await
    }

    async fn load_as(&self, digest: &Digest, bytes: &[u8]) -> Result<Arc<Artifact>, PullFailure> {
        // The bytes are needed while it is loaded, so they do not stay.
        let name = format!("{}.{}.tmp", digest.hex(), ids::name_suffix());
        let path = self.0.directory.join(name);
        let written = if self.0.runtime.is_loaded(digest) {
            Ok(())
        } else {
            tokio::fs::write(&path, bytes).await
        };
        let loaded = match written {
            Ok(()) => {
                let loaded = self.0.runtime.load(digest, &path).await;
                loaded.map_err(|error| failure(chain(&error).to_string()))
            }
            Err(error) => Err(failure(format!("write {}: {error}", path.display()))),
        };
        // It may never have been written.
        let _ = tokio::fs::remove_file(&path).await;
        loaded
    }
}
