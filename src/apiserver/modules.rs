//! `modules/{name}/content`: pushing and fetching the bytes of a module. The body is the wasm, or a
//! form of the wasm and the files that the image brings (`module_form`).
//!
//! A push streams the body to disk, inspects it, places the blob and then records the version in
//! the `Module` object; the record is the commit. Until then a lease holds the blob, and a failure
//! anywhere leaves nothing behind. The same bytes under the same tag change nothing.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;
use tokio_util::io::ReaderStream;

use crate::api::image::{self, Digest};
use crate::api::module::{Module, ModuleSpec, ModuleVersion};
use crate::api::names;
use crate::modules::blobs::Inspected;
use crate::modules::{Blobs, Refusal, Upload};
use crate::registry::{self, Written};

use super::error::Error;
use super::handlers::Context;
use super::{body, module_form, respond};

/// A sender that sends nothing for so long is cut.
pub(crate) const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// Untagged versions beyond this many are forgotten, oldest first.
const VERSIONS: usize = 50;
/// Attempts to record a version against concurrent writers of the same object.
const ATTEMPTS: usize = 10;

/// PUT or POST of the raw bytes.
pub(crate) async fn push(ctx: &Context, body: Body) -> Result<Response, Error> {
    let form = ctx.form()?;
    let name = ctx.name()?;
    check_name(name)?;
    let tag = ctx.query.get("tag").unwrap_or("latest");
    image::check_tag(tag).map_err(|error| Error::BadRequest(error.to_string()))?;
    let options = ctx.write_options()?;
    let file = format!("{name}.wasm");
    let blobs = &ctx.server.blobs;
    refuse(&file, blobs.check_announced(body::announced(&ctx.headers)))?;
    let inspected = if module_form::is_form(&ctx.headers) {
        module_form::receive(blobs, &file, &ctx.headers, body).await?
    } else {
        receive(blobs, &file, body.into_data_stream()).await?
    };
    let mut version = inspected
        .inspection
        .version(inspected.digest.as_str(), inspected.size);
    version.pushed_at = Some(Time(ctx.registry().clock().now()));
    let lease = inspected.place().await?;
    let written = record(ctx, name, tag, &version, &options).await?;
    if !options.dry_run {
        lease.keep();
    }
    respond::written(ctx.registry(), ctx.resource, &written, form)
}

/// The name of a module is a DNS label, because an image names it.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if names::is_dns_label(name) {
        return Ok(());
    }
    Err(Error::Unprocessable {
        message: format!(
            "Module.wasmorch.dev \"{name}\" is invalid: metadata.name: Invalid value: \"{name}\": {}",
            names::DNS_LABEL_RULE
        ),
        field: "metadata.name".to_owned(),
    })
}

/// A refusal as an error about a file.
pub(crate) fn refuse<T>(file: &str, result: Result<T, Refusal>) -> Result<T, Error> {
    result.map_err(|refusal| Error::Refused {
        file: file.to_owned(),
        refusal,
    })
}

/// Streams bytes to disk and inspects them.
pub(crate) async fn receive<S, E>(blobs: &Blobs, file: &str, chunks: S) -> Result<Inspected, Error>
where
    S: futures::Stream<Item = Result<bytes::Bytes, E>>,
    E: std::fmt::Display,
{
    let mut upload = blobs.upload().await?;
    write(&mut upload, file, chunks).await?;
    refuse(file, upload.finish().await?)
}

/// Streams bytes to disk.
pub(super) async fn write<S, E>(upload: &mut Upload, file: &str, chunks: S) -> Result<(), Error>
where
    S: futures::Stream<Item = Result<bytes::Bytes, E>>,
    E: std::fmt::Display,
{
    let mut chunks = std::pin::pin!(chunks);
    loop {
        let next = tokio::time::timeout(CHUNK_TIMEOUT, chunks.next())
            .await
            .map_err(|_| Error::Timeout {
                seconds: CHUNK_TIMEOUT.as_secs(),
            })?;
        match next {
            Some(Ok(chunk)) => refuse(file, upload.write(&chunk).await?)?,
            Some(Err(error)) => {
                return Err(Error::BadRequest(format!("the upload broke off: {error}")));
            }
            None => return Ok(()),
        }
    }
}

async fn record(
    ctx: &Context,
    name: &str,
    tag: &str,
    version: &ModuleVersion,
    options: &registry::WriteOptions,
) -> Result<Written, Error> {
    let (registry, resource) = (ctx.registry(), ctx.resource);
    for _ in 0..ATTEMPTS {
        let result = match registry.get(resource, ctx.namespace(), name) {
            Ok(stored) => {
                let mut module = (*decode(&stored)?).clone();
                if !add_version(&mut module.spec, tag, version.clone()) {
                    return Ok(Written {
                        object: stored,
                        warnings: Vec::new(),
                        created: false,
                    });
                }
                let object = encode(&module);
                registry
                    .update(
                        resource,
                        ctx.namespace(),
                        name,
                        None,
                        object,
                        options,
                        &ctx.caller,
                    )
                    .await
            }
            Err(registry::Error::NotFound { .. }) => {
                let object = encode(&new_module(name, tag, version.clone()));
                registry
                    .create(resource, ctx.namespace(), object, options, &ctx.caller)
                    .await
            }
            Err(error) => Err(error),
        };
        match result {
            // Somebody else wrote the object in between: look again.
            Err(registry::Error::Conflict { .. } | registry::Error::AlreadyExists { .. }) => {}
            other => return Ok(other?),
        }
    }
    Err(Error::Conflict {
        message: format!("modules.wasmorch.dev \"{name}\" is being changed by others; try again"),
        kind: "modules.wasmorch.dev",
        name: name.to_owned(),
    })
}

/// A module's first version.
pub(crate) fn new_module(name: &str, tag: &str, version: ModuleVersion) -> Module {
    let mut module = Module {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: ModuleSpec::default(),
    };
    add_version(&mut module.spec, tag, version);
    module
}

/// Adds a version and moves the tag to it; tells whether anything changed.
pub(crate) fn add_version(spec: &mut ModuleSpec, tag: &str, version: ModuleVersion) -> bool {
    let is_known = spec.version(&version.digest).is_some();
    let is_tagged = spec.tags.get(tag) == Some(&version.digest);
    if is_known && is_tagged {
        return false;
    }
    spec.tags.insert(tag.to_owned(), version.digest.clone());
    if !is_known {
        spec.versions.push(version);
    }
    while spec.versions.len() > VERSIONS {
        let untagged = spec
            .versions
            .iter()
            .position(|version| !spec.tags.values().any(|digest| *digest == version.digest));
        match untagged {
            Some(index) => spec.versions.remove(index),
            None => break,
        };
    }
    true
}

pub(crate) fn encode(module: &Module) -> Value {
    let mut object = serde_json::to_value(module).expect("plain fields always encode");
    object["apiVersion"] = "wasmorch.dev/v1".into();
    object["kind"] = "Module".into();
    object
}

pub(crate) fn decode(stored: &crate::store::Stored) -> Result<std::sync::Arc<Module>, Error> {
    stored.typed::<Module>().map_err(|source| Error::Internal {
        operation: "decode a module",
        source: Box::new(source),
    })
}

/// GET of the raw bytes, by `digest` or by `tag`.
pub(crate) async fn download(ctx: &Context) -> Result<Response, Error> {
    let name = ctx.name()?;
    let stored = ctx.registry().get(ctx.resource, ctx.namespace(), name)?;
    let module = decode(&stored)?;
    let digest = if let Some(digest) = ctx.query.get("digest") {
        digest
    } else {
        let tag = ctx.query.get("tag").unwrap_or("latest");
        let tagged = module.spec.tags.get(tag);
        tagged.ok_or_else(|| Error::NotFound(format!("module \"{name}\" has no tag \"{tag}\"")))?
    };
    let unknown = || Error::NotFound(format!("module \"{name}\" has no version {digest}"));
    module.spec.version(digest).ok_or_else(unknown)?;
    let digest: Digest = digest
        .parse()
        .map_err(|error: image::Error| Error::BadRequest(error.to_string()))?;
    let (file, size) = ctx.server.blobs.read(&digest).await?.ok_or_else(unknown)?;
    let mut response = Response::new(Body::from_stream(ReaderStream::with_capacity(
        file,
        64 << 10,
    )));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/wasm"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(digest: &str) -> ModuleVersion {
        ModuleVersion {
            digest: digest.to_owned(),
            ..ModuleVersion::default()
        }
    }

    #[test]
    fn versions_accumulate_and_tagged_ones_stay() {
        let mut spec = ModuleSpec::default();
        assert!(add_version(&mut spec, "v1", version("first")));
        assert!(!add_version(&mut spec, "v1", version("first")));
        assert!(add_version(&mut spec, "v2", version("first")));
        assert_eq!(spec.versions.len(), 1);
        for number in 0..2 * VERSIONS {
            add_version(&mut spec, "latest", version(&format!("n{number}")));
        }
        assert_eq!(spec.versions.len(), VERSIONS);
        assert!(spec.version("first").is_some());
        assert_eq!(spec.tags["latest"], format!("n{}", 2 * VERSIONS - 1));
    }
}
