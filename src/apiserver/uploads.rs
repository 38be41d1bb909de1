//! `POST …/namespaces/{ns}/uploads`: a pod in one request.
//!
//! A multipart form with wasm files and, if wanted, a manifest; all of it becomes modules, a
//! workload and a service in one commit of the registry, or nothing at all. The order of the parts
//! does not matter: everything is read, inspected and planned ([`plan`]) before anything is made.

mod plan;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart};
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::api::image;
use crate::modules::blobs::Inspected;
use crate::modules::{Lease, Refusal};
use crate::registry::{Caller, Registry};

use super::authorize::{self, Attributes};
use super::error::Error;
use super::modules::{CHUNK_TIMEOUT, check_name, receive, refuse};
use super::query::Query;
use super::request::{RequestInfo, Verb};
use super::{OBJECT_LIMIT, Server, body, respond};

use plan::{Uploaded, Wishes};

/// Files in one request.
const FILES: usize = 16;
/// What the form may hold beside one full-size module.
const MARGIN: u64 = 4 << 20;

/// Whether a request is for uploads.
pub(crate) fn is_meant(info: &RequestInfo) -> bool {
    info.group == "wasmorch.dev" && info.version == "v1" && info.resource == "uploads"
}

/// What the form held.
#[derive(Default)]
struct Form {
    files: Vec<(String, Inspected)>,
    manifest: Option<String>,
    wishes: Wishes,
    tag: Option<String>,
}

pub(crate) async fn create(
    server: &Arc<Server>,
    info: &RequestInfo,
    caller: &Caller,
    (headers, query, body): (&HeaderMap, &Query, Body),
) -> Result<Response, Error> {
    if info.verb != Verb::Create || info.name.is_some() {
        return Err(Error::MethodNotAllowed);
    }
    let namespace = info.namespace.as_deref().ok_or(Error::UnknownPath)?;
    let options = query.write_options(Some("upload"), "CreateOptions")?;
    let limit = server.blobs.max_size();
    if let Some(size) = body::announced(headers)
        && size > limit + MARGIN
    {
        let refusal = Refusal::TooLarge {
            size: Some(size),
            limit,
        };
        return refuse("the upload", Err(refusal));
    }
    let form = read_form(server, headers, body).await?;
    if form.files.is_empty() {
        return Err(Error::BadRequest(
            "the form has no wasm file: curl -F file=@app.wasm …".to_owned(),
        ));
    }
    let tag = form.tag.as_deref().unwrap_or("latest");
    image::check_tag(tag).map_err(|error| Error::BadRequest(error.to_string()))?;
    let (uploaded, leases) = place(&server.registry, form.files).await?;
    let objects = plan::plan(
        &server.registry,
        namespace,
        (&uploaded, tag),
        form.manifest.as_deref(),
        &form.wishes,
    )?;
    // The right to upload is not the right to create whatever a manifest says.
    for (resource, ns, _) in &objects {
        let wanted = Attributes {
            verb: "create",
            group: resource.group,
            resource: resource.plural,
            subresource: None,
            namespace: ns.as_deref(),
            name: None,
        };
        authorize::authorize(server.registry.rbac(), caller, wanted).map_err(Error::Denied)?;
    }
    let written = server
        .registry
        .create_all(objects, &options, caller)
        .await?;
    if !options.dry_run {
        leases.into_iter().for_each(Lease::keep);
    }
    let items: Vec<&Value> = written.iter().map(|one| &one.object.object).collect();
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
    let mut response = respond::json(StatusCode::CREATED, &list);
    let warnings: Vec<String> = written.into_iter().flat_map(|one| one.warnings).collect();
    respond::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// Puts every file under its digest; the leases hold them until the commit.
async fn place(
    registry: &Registry,
    files: Vec<(String, Inspected)>,
) -> Result<(Vec<Uploaded>, Vec<Lease>), Error> {
    let (mut uploaded, mut leases) = (Vec::new(), Vec::new());
    for (name, inspected) in files {
        let mut version = inspected
            .inspection
            .version(inspected.digest.as_str(), inspected.size);
        version.pushed_at = Some(Time(registry.clock().now()));
        uploaded.push(Uploaded {
            name,
            version,
            role: inspected.inspection.role,
        });
        leases.push(inspected.place().await?);
    }
    Ok((uploaded, leases))
}

async fn read_form(server: &Server, headers: &HeaderMap, body: Body) -> Result<Form, Error> {
    const FORM: &str = "multipart/form-data";
    let mut request = Request::new(body);
    *request.headers_mut() = headers.clone();
    // Files are bounded while they are written; the form as a whole by the number of its parts.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut multipart = Multipart::from_request(request, &())
        .await
        .map_err(|_| Error::UnsupportedMedia(FORM))?;
    let mut form = Form::default();
    let mut budget = server.blobs.max_size() + MARGIN;
    while let Some(field) = next_field(&mut multipart).await? {
        let name = field.name().unwrap_or_default().to_owned();
        let file = field.file_name().unwrap_or_default().to_owned();
        match name.as_str() {
            "manifest" => form.manifest = Some(text(field, OBJECT_LIMIT).await?),
            "name" => form.wishes.name = some(&text(field, 256).await?),
            "tag" => form.tag = some(&text(field, 256).await?),
            "replicas" => form.wishes.replicas = number(&name, &text(field, 16).await?)?,
            "port" => form.wishes.port = number(&name, &text(field, 16).await?)?,
            _ if is_manifest(&file) => form.manifest = Some(text(field, OBJECT_LIMIT).await?),
            _ if file.is_empty() => {
                return Err(Error::BadRequest(format!(
                    "the form's field `{name}` is unknown: use wasm files, manifest, name, tag, replicas, port"
                )));
            }
            _ => {
                if form.files.len() == FILES {
                    return Err(Error::BadRequest(format!(
                        "more than {FILES} files in one upload"
                    )));
                }
                let module = module_name(&file);
                check_name(&module)?;
                if form.files.iter().any(|(name, _)| *name == module) {
                    return Err(Error::BadRequest(format!(
                        "two files of the upload would be the module \"{module}\""
                    )));
                }
                let inspected = receive(&server.blobs, &file, field).await?;
                budget = budget
                    .checked_sub(inspected.size)
                    .ok_or_else(|| Error::Refused {
                        file: "the upload".to_owned(),
                        refusal: Refusal::TooLarge {
                            size: None,
                            limit: server.blobs.max_size(),
                        },
                    })?;
                form.files.push((module, inspected));
            }
        }
    }
    Ok(form)
}

fn is_manifest(file: &str) -> bool {
    let extension = file.rsplit_once('.').map(|(_, extension)| extension);
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// `target/hello_world.wasm` is the module `hello-world`.
fn module_name(file: &str) -> String {
    let base = file.rsplit(['/', '\\']).next().unwrap_or(file);
    base.strip_suffix(".wasm")
        .unwrap_or(base)
        .to_ascii_lowercase()
        .replace(['_', '.'], "-")
}

async fn next_field(multipart: &mut Multipart) -> Result<Option<Field<'_>>, Error> {
    tokio::time::timeout(CHUNK_TIMEOUT, multipart.next_field())
        .await
        .map_err(|_| Error::Timeout {
            seconds: CHUNK_TIMEOUT.as_secs(),
        })?
        .map_err(|error| broken(&error))
}

fn broken(error: &MultipartError) -> Error {
    Error::BadRequest(format!("the form cannot be read: {}", error.body_text()))
}

async fn text(mut field: Field<'_>, limit: usize) -> Result<String, Error> {
    let mut bytes = Vec::new();
    loop {
        let chunk = tokio::time::timeout(CHUNK_TIMEOUT, field.chunk())
            .await
            .map_err(|_| Error::Timeout {
                seconds: CHUNK_TIMEOUT.as_secs(),
            })?
            .map_err(|error| broken(&error))?;
        let Some(chunk) = chunk else { break };
        if bytes.len() + chunk.len() > limit {
            return Err(Error::TooLarge { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::BadRequest("a field of the form is not UTF-8".to_owned()))
}

fn some(text: &str) -> Option<String> {
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<Option<T>, Error> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    text.trim().parse().map(Some).map_err(|_| {
        Error::BadRequest(format!(
            "the form's field `{name}` is not a number: {:?}",
            text.trim()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_modules() {
        let cases = [
            ("hello.wasm", "hello"),
            (
                "target/wasm32-wasip2/release/http_wasip2_rs.wasm",
                "http-wasip2-rs",
            ),
            ("C:\\build\\App.wasm", "app"),
            ("hello", "hello"),
        ];
        for (file, module) in cases {
            assert_eq!(module_name(file), module);
        }
    }
}
