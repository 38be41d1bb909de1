//! A module and the files of its image in one form: `curl -X PUT -F module=@app.wasm -F files=@files.tar`.
//!
//! The archive becomes a section of the wasm (`api/image_files`), so what is stored, hashed and
//! inspected is one file, whoever puts the two together. The parts may come in any order and only
//! their length must be known before the first byte is written, so the archive waits on disk.

use std::path::Path;

use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::api::image_files;
use crate::modules::blobs::Inspected;
use crate::modules::{Blobs, Refusal, Upload};

use super::error::Error;
use super::modules::{CHUNK_TIMEOUT, refuse, write};

const FORM: &str = "multipart/form-data";
const COPY: usize = 64 << 10;

pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|it| it.as_bytes().starts_with(FORM.as_bytes()))
}

/// Reads the form, puts its parts together and inspects the whole.
pub(crate) async fn receive(
    blobs: &Blobs,
    file: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Inspected, Error> {
    let mut request = Request::new(body);
    *request.headers_mut() = headers.clone();
    // Both parts are bounded while they are written.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|_| Error::UnsupportedMedia(FORM))?;
    let (mut upload, mut archive) = (None, None);
    while let Some(field) = next(&mut form).await? {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "files" if archive.is_none() => archive = Some(spool(blobs, file, field).await?),
            "module" if upload.is_none() => {
                let mut begun = blobs.upload().await?;
                write(&mut begun, file, field).await?;
                upload = Some(begun);
            }
            "files" | "module" => {
                return Err(Error::BadRequest(format!(
                    "the form has two parts `{name}`"
                )));
            }
            _ => {
                return Err(Error::BadRequest(format!(
                    "the form's part `{name}` is unknown: use module (the wasm) and files (a tar)"
                )));
            }
        }
    }
    let mut upload = upload.ok_or_else(|| {
        Error::BadRequest(
            "the form has no wasm: curl -F module=@app.wasm -F files=@files.tar".to_owned(),
        )
    })?;
    if let Some((archive, size)) = archive {
        append(&mut upload, file, archive, size).await?;
    }
    refuse(file, upload.finish().await?)
}

async fn next(form: &mut Multipart) -> Result<Option<Field<'_>>, Error> {
    let next = tokio::time::timeout(CHUNK_TIMEOUT, form.next_field()).await;
    let next = next.map_err(|_| Error::Timeout {
        seconds: CHUNK_TIMEOUT.as_secs(),
    })?;
    next.map_err(|error| {
        Error::BadRequest(format!("the form cannot be read: {}", error.body_text()))
    })
}

/// The archive in a file without a name, and its size.
async fn spool(blobs: &Blobs, file: &str, mut field: Field<'_>) -> Result<(File, u64), Error> {
    let failed = |source: std::io::Error| Error::Internal {
        operation: "keep the files of an upload",
        source: Box::new(source),
    };
    let directory = blobs.directory().to_owned();
    let spooled = tokio::task::spawn_blocking(move || tempfile_in(&directory)).await;
    let spooled = spooled.map_err(|error| failed(std::io::Error::other(error)))?;
    let mut spooled = File::from_std(spooled.map_err(failed)?);
    let mut size = 0;
    loop {
        let chunk = tokio::time::timeout(CHUNK_TIMEOUT, field.chunk()).await;
        let chunk = chunk.map_err(|_| Error::Timeout {
            seconds: CHUNK_TIMEOUT.as_secs(),
        })?;
        let chunk = chunk.map_err(|error| {
            Error::BadRequest(format!("the upload broke off: {}", error.body_text()))
        })?;
        let Some(chunk) = chunk else { break };
        size += chunk.len() as u64;
        if size > blobs.max_size() {
            let limit = blobs.max_size();
            return refuse(file, Err(Refusal::TooLarge { size: None, limit }));
        }
        spooled.write_all(&chunk).await.map_err(failed)?;
    }
    spooled.flush().await.map_err(failed)?;
    Ok((spooled, size))
}

fn tempfile_in(directory: &Path) -> std::io::Result<std::fs::File> {
    tempfile::tempfile_in(directory)
}

async fn append(
    upload: &mut Upload,
    file: &str,
    mut archive: File,
    size: u64,
) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error::Internal {
        operation: "read the files of an upload",
        source: Box::new(source),
    };
    let head = image_files::section_head(size).ok_or_else(|| {
        Error::BadRequest("the files are more than a section of a module can hold".to_owned())
    })?;
    refuse(file, upload.write(&head).await?)?;
    archive.rewind().await.map_err(failed)?;
    let mut buffer = vec![0; COPY];
    loop {
        match archive.read(&mut buffer).await.map_err(failed)? {
            0 => return Ok(()),
            count => refuse(file, upload.write(&buffer[..count]).await?)?,
        }
    }
}
