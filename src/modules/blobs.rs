//! The blob store: wasm bytes under the digest of their content.
//!
//! `sha256/<hex>` holds whole, hashed, synced files only: an upload is written to a temporary file
//! in the same directory and renamed when it is complete, so a crash leaves at most a temporary
//! file, which the next start removes. Equal bytes are stored once.
//!
//! Between the rename and the commit of the object that names it, a blob belongs to nobody. A
//! [`Lease`] covers that gap: while one lives the blob is not collected, and when the last one is
//! dropped without [`Lease::keep`], a blob that those uploads brought is removed again. That is
//! what makes a refused upload leave nothing behind, also when two uploads of the same bytes cross.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use crate::api::image::Digest;
use crate::ids;

use super::inspect::{self, Inspection};
use super::refusal::{Impostor, Refusal};

const TEMPORARY: &str = ".upload-";
/// A file is held in memory while it is validated; this many at once.
const INSPECTIONS: usize = 2;

/// What can go wrong beside a refusal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} `{path}`")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the work on an upload ended early")]
    Interrupted,
}

/// The store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    max_size: u64,
    /// Held for moments only, never across an await.
    leases: Mutex<HashMap<Digest, Held>>,
    inspections: Semaphore,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    count: usize,
    /// The file was not there before the first lease.
    is_new: bool,
    is_kept: bool,
}

impl Blobs {
    /// Opens the store below `directory` and removes what an earlier crash left half written.
    pub fn open(directory: &Path, max_size: u64) -> Result<Self, Error> {
        let directory = directory.join("sha256");
        std::fs::create_dir_all(&directory)
            .map_err(|source| io_error("create", &directory, source))?;
        for entry in read_directory(&directory)? {
            if entry.starts_with(TEMPORARY) {
                let path = directory.join(entry);
                std::fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
            }
        }
        Ok(Self(Arc::new(Inner {
            directory,
            max_size,
            leases: Mutex::default(),
            inspections: Semaphore::new(INSPECTIONS),
        })))
    }

    /// The largest file taken.
    pub fn max_size(&self) -> u64 {
        self.0.max_size
    }

    /// Where files wait that are on their way in.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Refuses a file by its announced size, before a byte of it is read.
    pub fn check_announced(&self, size: Option<u64>) -> Result<(), Refusal> {
        match size {
            Some(size) if size > self.0.max_size => Err(Refusal::TooLarge {
                size: Some(size),
                limit: self.0.max_size,
            }),
            _ => Ok(()),
        }
    }

    /// Begins an upload.
    pub async fn upload(&self) -> Result<Upload, Error> {
        let path = self
            .0
            .directory
            .join(format!("{TEMPORARY}{}", ids::secret()));
        let file = File::create_new(&path)
            .await
            .map_err(|source| io_error("create", &path, source))?;
        Ok(Upload {
            blobs: self.clone(),
            temporary: Temporary(path),
            file,
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Opens a blob for reading, with its size; `None` if it is not here.
    pub async fn read(&self, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
        let path = self.path(digest);
        let file = match File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("open", &path, source)),
        };
        let metadata = file
            .metadata()
            .await
            .map_err(|source| io_error("look at", &path, source))?;
        Ok(Some((file, metadata.len())))
    }

    /// Whether the blob is here.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Every blob that is here.
    pub fn list(&self) -> Result<BTreeSet<Digest>, Error> {
        Ok(read_directory(&self.0.directory)?
            .iter()
            .filter_map(|name| format!("sha256:{name}").parse().ok())
            .collect())
    }

    /// Removes the blobs that nothing refers to, no lease covers, and that are older than `grace`;
    /// tells how many. Blocking: run it on a blocking thread.
    pub fn collect(
        &self,
        referenced: &BTreeSet<Digest>,
        grace: Duration,
        now: Timestamp,
    ) -> Result<usize, Error> {
        let mut removed = 0;
        for digest in self.list()?.difference(referenced) {
            let path = self.path(digest);
            let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let modified = match modified {
                Ok(modified) => Timestamp::try_from(modified).unwrap_or(Timestamp::MAX),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(io_error("look at", &path, source)),
            };
            let is_old = now.duration_since(modified).unsigned_abs() >= grace && modified <= now;
            let leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
            if is_old && !leases.contains_key(digest) {
                std::fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.directory.join(digest.hex())
    }

    /// Moves a finished temporary file to its name, under a lease. Equal bytes that are here already
    /// are replaced: the fresh modification time gives them their grace again. Blocking.
    fn place(&self, temporary: &Path, digest: &Digest) -> Result<Lease, Error> {
        let path = self.path(digest);
        let mut leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !path.is_file();
        std::fs::rename(temporary, &path).map_err(|source| io_error("rename to", &path, source))?;
        let held = leases.entry(digest.clone()).or_insert(Held {
            is_new,
            ..Held::default()
        });
        held.count += 1;
        drop(leases);
        let lease = Lease {
            blobs: self.clone(),
            digest: digest.clone(),
        };
        // The object that names the blob will be durable, so the name must be so before it.
        std::fs::File::open(&self.0.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| io_error("sync", &self.0.directory, source))?;
        Ok(lease)
    }

    fn release(&self, digest: &Digest) {
        let mut leases = self.0.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = leases.get_mut(digest) else {
            return;
        };
        held.count -= 1;
        if held.count > 0 {
            return;
        }
        let held = leases.remove(digest).unwrap_or_default();
        if held.is_new
            && !held.is_kept
            && let Err(error) = std::fs::remove_file(self.path(digest))
        {
            tracing::warn!(%digest, %error, "a refused upload's blob stays until it is collected");
        }
    }
}

/// An upload in progress; dropped before [`Upload::finish`], it leaves nothing.
pub struct Upload {
    blobs: Blobs,
    temporary: Temporary,
    file: File,
    hash: Sha256,
    size: u64,
}

/// A file on disk, inspected, and not yet visible under its digest.
pub struct Inspected {
    pub digest: Digest,
    pub size: u64,
    pub inspection: Inspection,
    blobs: Blobs,
    temporary: Temporary,
}

impl Upload {
    /// Takes the next bytes. The first ones already tell a web page from a module.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<Result<(), Refusal>, Error> {
        if self.size == 0
            && bytes.len() >= 8
            && let Some(impostor) = Impostor::sniff(bytes)
        {
            return Ok(Err(Refusal::NotWasm(impostor)));
        }
        self.size += bytes.len() as u64;
        if self.size > self.blobs.max_size() {
            return Ok(Err(Refusal::TooLarge {
                size: None,
                limit: self.blobs.max_size(),
            }));
        }
        self.hash.update(bytes);
        self.file
            .write_all(bytes)
            .await
            .map_err(|source| io_error("write", &self.temporary.0, source))?;
        Ok(Ok(()))
    }

    /// Syncs the file and inspects it.
    pub async fn finish(mut self) -> Result<Result<Inspected, Refusal>, Error> {
        let path = self.temporary.0.clone();
        let synced = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        synced
            .await
            .map_err(|source| io_error("sync", &path, source))?;
        let permit = self.blobs.0.inspections.acquire().await;
        let inspection = tokio::task::spawn_blocking(move || {
            let bytes = std::fs::read(&path).map_err(|source| io_error("read", &path, source))?;
            Ok(inspect::inspect(&bytes))
        })
        .await
        .map_err(|_| Error::Interrupted)??;
        drop(permit);
        Ok(inspection.map(|inspection| Inspected {
            digest: Digest::from_sha256(&self.hash.finalize()),
            size: self.size,
            inspection,
            blobs: self.blobs,
            temporary: self.temporary,
        }))
    }
}

impl Inspected {
    /// Makes the bytes visible under their digest, for as long as the lease lives or for good.
    pub async fn place(self) -> Result<Lease, Error> {
        tokio::task::spawn_blocking(move || self.blobs.place(&self.temporary.0, &self.digest))
            .await
            .map_err(|_| Error::Interrupted)?
    }
}

/// Holds a placed blob until the object that names it is committed; see the head of this file.
#[must_use = "a dropped lease takes its blob along"]
pub struct Lease {
    blobs: Blobs,
    digest: Digest,
}

impl Lease {
    /// The object is committed: the blob stays.
    pub fn keep(self) {
        let mut leases = self
            .blobs
            .0
            .leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = leases.get_mut(&self.digest) {
            held.is_kept = true;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.blobs.release(&self.digest);
    }
}

/// A temporary file that goes with its owner. After a rename there is nothing left to remove.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "a temporary file stays until the next start");
        }
    }
}

fn read_directory(directory: &Path) -> Result<Vec<String>, Error> {
    let names = || -> io::Result<Vec<String>> {
        std::fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    names().map_err(|source| io_error("read", directory, source))
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}
