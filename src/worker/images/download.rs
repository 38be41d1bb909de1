//! One module's bytes from the API server to a file that is whole or not there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::api::image::Digest;
use crate::ids;

/// A module that is larger is not a program for a worker.
const MAX_BYTES: u64 = 512 << 20;
/// The longest silence of the server.
const IDLE: Duration = Duration::from_secs(30);

/// What to fetch.
pub(super) struct Source<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) digest: &'a Digest,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("fetch module \"{name}\"")]
    Request {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("module \"{name}\" with {digest} not found")]
    NotFound { name: String, digest: String },
    #[error("fetch module \"{name}\": the server answered {status}")]
    Status { name: String, status: StatusCode },
    #[error("fetch module \"{name}\": the server was silent for 30 s")]
    Silence { name: String },
    #[error("fetch module \"{name}\": it is larger than {MAX_BYTES} bytes")]
    TooLarge { name: String },
    #[error("fetch module \"{name}\": its bytes have {found}, not {wanted}")]
    WrongDigest {
        name: String,
        found: Digest,
        wanted: Digest,
    },
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether it may appear soon.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Request { .. }
            | Self::Status { .. }
            | Self::Silence { .. }
            | Self::TooLarge { .. }
            | Self::WrongDigest { .. }
            | Self::Write { .. } => false,
        }
    }
}

/// Fetches into `path`.
pub(super) async fn fetch(client: &Client, source: &Source<'_>, path: &Path) -> Result<(), Error> {
    let temporary = path.with_extension(format!("{}.tmp", ids::name_suffix()));
    let result = fetch_into(client, source, &temporary).await;
    let result = match result {
        Ok(()) => tokio::fs::rename(&temporary, path)
            .await
            .map_err(write_error(path)),
        Err(error) => Err(error),
    };
    if result.is_err() {
        // Either it was never made, or it is of no use.
        let _ = tokio::fs::remove_file(&temporary).await;
    }
    result
}

fn write_error(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Write {
        path: path.to_owned(),
        source,
    }
}

async fn fetch_into(client: &Client, source: &Source<'_>, path: &Path) -> Result<(), Error> {
    let name = || source.name.to_owned();
    let mut body = request(client, source).await?;
    let failed = write_error(path);
    let mut file = tokio::fs::File::create(path).await.map_err(&failed)?;
    let mut hash = Sha256::new();
    let mut size = 0;
    loop {
        let frame = tokio::time::timeout(IDLE, body.frame()).await;
        let frame = match frame.map_err(|_| Error::Silence { name: name() })? {
            None => break,
            Some(Ok(frame)) => frame,
            Some(Err(source)) => {
                let source = Box::new(source);
                return Err(Error::Request {
                    name: name(),
                    source,
                });
            }
        };
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        size += bytes.len() as u64;
        if size > MAX_BYTES {
            return Err(Error::TooLarge { name: name() });
        }
        hash.update(&bytes);
        file.write_all(&bytes).await.map_err(&failed)?;
    }
    let found = Digest::from_sha256(&hash.finalize());
    if found != *source.digest {
        return Err(Error::WrongDigest {
            name: name(),
            found,
            wanted: source.digest.clone(),
        });
    }
    file.flush().await.map_err(&failed)?;
    file.sync_all().await.map_err(&failed)
}

async fn request(client: &Client, source: &Source<'_>) -> Result<Body, Error> {
    let name = || source.name.to_owned();
    let failed = |source: kube::Error| Error::Request {
        name: name(),
        source: Box::new(source),
    };
    let uri = format!(
        "/apis/wasmorch.dev/v1/namespaces/{}/modules/{}/content?digest={}",
        source.namespace, source.name, source.digest
    );
    let request = Request::get(uri).body(Body::empty());
    let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
    let response = tokio::time::timeout(IDLE, client.send(request)).await;
    let response = response.map_err(|_| Error::Silence { name: name() })?;
    let response = response.map_err(failed)?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        StatusCode::NOT_FOUND => Err(Error::NotFound {
            name: name(),
            digest: source.digest.to_string(),
        }),
        status => Err(Error::Status {
            name: name(),
            status,
        }),
    }
}
