//! One worker per data directory.
//!
//! Checkpoints, logs and addresses in there are one process' memory of its pods. A worker that is
//! started while the last one is still ending (its parent died, and the next one is quick) waits for
//! it. The kernel frees the lock when its holder dies; the file is never removed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// How long the last worker may take to end; above its own bounds.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);

/// Why the directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open the data directory {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another worker uses {0}; give each its own --data-dir")]
    InUse(PathBuf),
}

/// Held as long as the worker may write.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

impl Claim {
    /// Takes the directory, as soon as it is free.
    pub async fn take(directory: &Path) -> Result<Self, Error> {
        Self::take_within(PATIENCE, directory).await
    }

    async fn take_within(patience: Duration, directory: &Path) -> Result<Self, Error> {
        match tokio::time::timeout(patience, wait(directory)).await {
            Ok(claim) => claim,
            Err(_) => Err(Error::InUse(directory.to_owned())),
        }
    }
}

async fn wait(directory: &Path) -> Result<Claim, Error> {
    let failed = |source| Error::Open {
        path: directory.to_owned(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let file = File::options()
        .create(true)
        .append(true)
        .open(directory.join("worker.lock"))
        .map_err(failed)?;
    let mut is_first = true;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Claim { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if std::mem::take(&mut is_first) {
            tracing::info!(directory = %directory.display(), "wait for the last worker to end");
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_worker_waits_for_the_last_one_but_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let first = Claim::take(directory.path()).await.unwrap();
        let refused = Claim::take_within(LOOK, directory.path())
            .await
            .unwrap_err();
        assert!(matches!(refused, Error::InUse(_)), "{refused}");
        let mut second = Box::pin(Claim::take(directory.path()));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap();
    }
}
