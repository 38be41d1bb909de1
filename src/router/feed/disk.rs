//! The last known objects on disk.
//!
//! One file, replaced whole by a rename, readable by its owner only because it holds the wire's
//! secret. A file that cannot be read is as good as none: the server will tell.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use serde::{Deserialize, Serialize};

use crate::errors::chain;

const FILE: &str = "routes.json";

/// What is kept.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) services: Vec<Arc<Service>>,
    pub(super) slices: Vec<Arc<EndpointSlice>>,
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) ingresses: Vec<Arc<Ingress>>,
    pub(super) secret: Option<Vec<u8>>,
}

/// Why it could not be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("encode the routing table")]
    Encode(#[source] serde_json::Error),
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the task that writes it ended early")]
    Task,
}

/// See the module.
pub(super) struct Disk(PathBuf);

impl Disk {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    pub(super) async fn load(&self) -> Option<Kept> {
        let path = self.0.join(FILE);
        let bytes = match tokio::fs::read(&path).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "read the last routing table");
                return None;
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(kept) => Some(kept),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %chain(&error), "decode the last routing table");
                None
            }
        }
    }

    pub(super) async fn store(&self, kept: Kept) -> Result<(), Error> {
        let directory = self.0.clone();
        let written = tokio::task::spawn_blocking(move || write(&directory, &kept));
        written.await.map_err(|_| Error::Task)?
    }
}

fn write(directory: &Path, kept: &Kept) -> Result<(), Error> {
    let bytes = serde_json::to_vec(kept).map_err(Error::Encode)?;
    let path = directory.join(FILE);
    let failed = |source| Error::Write {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let temporary = directory.join(format!(".{FILE}.new"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&temporary, &path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_found_again_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path().join("router"));
        assert!(disk.load().await.is_none());
        let kept = Kept {
            services: vec![Arc::default()],
            secret: Some(b"secret".to_vec()),
            ..Kept::default()
        };
        disk.store(kept).await.unwrap();
        let path = directory.path().join("router").join(FILE);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let found = disk.load().await.unwrap();
        assert_eq!(
            (found.services.len(), found.secret.unwrap()),
            (1, b"secret".to_vec())
        );
        std::fs::write(&path, b"{ half").unwrap();
        assert!(disk.load().await.is_none());
    }
}
