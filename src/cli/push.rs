//! `push`: a wasm file becomes a Module of the cluster.
//!
//! What can be known without the server is said without it: a file that is not there, or is no
//! wasm. What the module needs and whether it can run is the server's to say.

use std::path::{Path, PathBuf};

use http::Method;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;

use super::console;
use super::failure::{Failure, Result};
use super::image_files;
use super::session::{Session, query};
use crate::api::module::{GROUP, ModuleVersion, VERSION};
use crate::api::names::is_dns_label;
use crate::api::quantity::readable_bytes;

const EXAMPLES: &str = "\
Examples:
  wasmorch push hello.wasm
  wasmorch push target/wasm32-wasip2/release/hello.wasm --name hello -t v2
  wasmorch push site.wasm --files public:/srv/site
";

/// Push a wasm file to the cluster
#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// The module or component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The tag to move to it
    #[arg(short, long, value_name = "TAG", default_value = "latest")]
    tag: String,
    /// The module's name; the file's by default
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Files that the image brings, read-only beside the program: a directory (or a file) and where it
    /// is in the image, `/` if not given; may be repeated
    #[arg(long, value_name = "DIR[:PATH]")]
    files: Vec<String>,
}

/// A module as the server knows it after a push.
pub(super) struct Pushed {
    pub(super) name: String,
    pub(super) version: ModuleVersion,
}

pub(super) async fn run(session: &Session, args: Args) -> Result {
    let name = match args.name {
        Some(name) => name,
        None => name_of(&args.file)?,
    };
    let pushed = push(session, (&args.file, &args.files), &name, &args.tag).await?;
    console::print(&pushed.line())?;
    if console::is_interactive() {
        console::note(&format!(
            "try:  wasmorch run {name} {}",
            args.file.display()
        ));
    }
    Ok(())
}

impl Pushed {
    /// `module/hello pushed   71 KiB · Component · sha256:4f9c…`
    pub(super) fn line(&self) -> String {
        format!(
            "module/{} pushed   {} · {} · {}\n",
            self.name,
            readable_bytes(self.version.size),
            self.version.format,
            self.version.digest
        )
    }

    /// The image that means this very version.
    pub(super) fn image(&self) -> String {
        format!("{}@{}", self.name, self.version.digest)
    }
}

pub(super) async fn push(
    session: &Session,
    (file, files): (&Path, &[String]),
    name: &str,
    tag: &str,
) -> Result<Pushed> {
    check_name(name)?;
    let mut bytes = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    if let Some(what) = not_wasm(&bytes) {
        let text = format!("{} is not WebAssembly: {what}", file.display());
        return Err(Failure::failed("W0104", text));
    }
    image_files::append(&mut bytes, files)?;
    let size = readable_bytes(bytes.len() as u64);
    console::progress(&format!("pushing {} ({size}) …", file.display()));
    let pushed = push_bytes(session, bytes, name, tag).await;
    console::progress("");
    pushed
}

/// The same for wasm that is in memory.
pub(super) async fn push_bytes(
    session: &Session,
    bytes: Vec<u8>,
    name: &str,
    tag: &str,
) -> Result<Pushed> {
    check_name(name)?;
    let encode =
        |text: &str| utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let path = format!(
        "/apis/{GROUP}/{VERSION}/namespaces/{}/modules/{name}/content{}",
        encode(session.namespace()),
        query(&[("tag", tag)])
    );
    let module = session
        .change(Method::PUT, &path, "application/wasm", bytes)
        .await?;
    match version_of(&module, tag) {
        Some(version) => Ok(Pushed {
            name: name.to_owned(),
            version,
        }),
        None => Err(Failure::failed(
            "Module",
            format!("the server's module {name:?} has no tag {tag:?}"),
        )),
    }
}

fn check_name(name: &str) -> Result {
    if !is_dns_label(name) {
        return Err(Failure::usage(format!("`{name}` is no name for a module"))
            .because("lower-case letters, digits and `-`, at most 63"));
    }
    Ok(())
}

/// The version that a tag points at.
fn version_of(module: &Value, tag: &str) -> Option<ModuleVersion> {
    let digest = &module["spec"]["tags"][tag];
    let mut versions = module["spec"]["versions"].as_array()?.iter();
    let version = versions.find(|version| &version["digest"] == digest)?;
    serde_json::from_value(version.clone()).ok()
}

/// A module's name from its file: `target/…/hello_http.wasm` → `hello-http`.
pub(super) fn name_of(file: &Path) -> Result<String> {
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let stem = stem.strip_suffix(".component").unwrap_or(stem);
    let lower = stem
        .to_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let name = lower.trim_matches('-').to_owned();
    if is_dns_label(&name) {
        Ok(name)
    } else {
        Err(
            Failure::usage(format!("no name can be made of {}", file.display()))
                .help("--name NAME"),
        )
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Failure::failed("W0105", format!("{} does not exist", file.display()))
            .help("cargo build --release --target wasm32-wasip2      (is it installed? rustup target add wasm32-wasip2)");
    }
    Failure::failed("W0105", format!("cannot read {}", file.display())).because(error.to_string())
}

/// What a file is that is not wasm.
fn not_wasm(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.trim_ascii_start();
    match bytes {
        [0, b'a', b's', b'm', ..] => None,
        [] => Some("it is empty"),
        [b'P', b'K', 3, 4, ..] => Some("it is a zip archive; unpack it"),
        [0x1f, 0x8b, ..] => Some("it is compressed (gzip); unpack it"),
        [0x7f, b'E', b'L', b'F', ..] => {
            Some("it is a native program or a precompiled .cwasm; push the .wasm it was made from")
        }
        _ if text.starts_with(b"(module") || text.starts_with(b"(component") => {
            Some("it is the text format; make wasm of it: wasm-tools parse")
        }
        _ if text.starts_with(b"<!") || text.starts_with(b"<html") => {
            Some("it is a web page, saved by mistake?")
        }
        _ => Some("it does not begin like it"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_come_from_files() {
        let check = |file: &str, name: &str| assert_eq!(name_of(Path::new(file)).unwrap(), name);
        check("hello.wasm", "hello");
        check("target/release/hello_http.wasm", "hello-http");
        check("Api.component.wasm", "api");
        check("_x_.wasm", "x");
        assert!(name_of(Path::new("___.wasm")).is_err());
    }

    #[test]
    fn what_is_not_wasm_is_named() {
        let check = |bytes: &[u8], part: &str| assert!(not_wasm(bytes).unwrap().contains(part));
        assert_eq!(not_wasm(b"\0asm\x01\0\0\0"), None);
        check(b"", "empty");
        check(b"PK\x03\x04", "zip");
        check(b" (module)", "text format");
        check(b"\n<!DOCTYPE html>", "web page");
        check(b"\x7fELF", "precompiled");
        check(b"hello", "does not begin");
    }

    #[test]
    fn the_tag_tells_the_version() {
        let module = json!({"spec": {"tags": {"v1": "sha256:a", "v2": "sha256:b"}, "versions": [
            {"digest": "sha256:a", "size": 1, "format": "Component", "role": "Handler"},
            {"digest": "sha256:b", "size": 73000, "format": "CoreModule", "role": "Command"}]}});
        let version = version_of(&module, "v2").unwrap();
        let pushed = Pushed {
            name: "hello".to_owned(),
            version,
        };
        assert_eq!(
            pushed.line(),
            "module/hello pushed   71 KiB · CoreModule · sha256:b\n"
        );
        assert_eq!(pushed.image(), "hello@sha256:b");
        assert!(version_of(&module, "v3").is_none());
    }
}
