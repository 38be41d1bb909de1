//! A program that is ready to be instantiated: compiled, loaded and linked once.
//!
//! Everything that depends on the component alone is done here (imports resolved, exports looked
//! up), so that an instance costs microseconds. An artifact belongs to the engine its program runs
//! in, and any number of containers share it.

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::{Component, Linker, types::ComponentItem};
use wasmtime::{Engine, Module};
use wasmtime_wasi::{p2, p3};

use super::cache::Cached;
use super::component::Program;
use super::fs::Layer;
use super::host::Host;
use super::{compile, component, wasi};
use crate::api::image::Digest;
use crate::api::interfaces::check_import;

/// A compiled and linked program.
pub struct Artifact {
    digest: Digest,
    entry: Entry,
    engine: Engine,
    files: Option<Arc<Layer>>,
}

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end.
    Command,
    /// Answers HTTP requests.
    Handler,
}

/// The export to call, with everything before the call done.
pub(super) enum Entry {
    Core {
        pre: wasmtime::InstancePre<Host>,
        /// Whether it wants its declared ports as listening sockets.
        accepts: bool,
    },
    Command2(p2::bindings::CommandPre<Host>),
    Command3(p3::bindings::CommandPre<Host>),
    Handler2(wasmtime_wasi_http::p2::bindings::ProxyPre<Host>),
    Handler3(wasmtime_wasi_http::p3::bindings::ServicePre<Host>),
}

/// Why a module does not become an artifact.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read, or the cache not written.
    #[error("{operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is not the module it should be.
    #[error("the module's bytes have digest {found}, not {wanted}")]
    Digest { wanted: Digest, found: Digest },
    /// The module is not a program, or of a kind that is not supported.
    #[error("{0}")]
    Program(String),
    /// The compiler refused it or was stopped.
    #[error(transparent)]
    Compile(#[from] compile::Error),
    /// It imports what nobody provides.
    #[error("imports that nobody provides: {}", .0.join(", "))]
    Imports(Vec<String>),
    /// It cannot be linked, or its compiled code not be loaded.
    #[error("{operation}: {reason}")]
    Link {
        operation: &'static str,
        reason: String,
    },
}

impl From<component::Error> for Error {
    fn from(error: component::Error) -> Self {
        Self::Program(error.to_string())
    }
}

impl Artifact {
    /// The module's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What the program does.
    pub fn role(&self) -> Role {
        match self.entry {
            Entry::Core { .. } | Entry::Command2(_) | Entry::Command3(_) => Role::Command,
            Entry::Handler2(_) | Entry::Handler3(_) => Role::Handler,
        }
    }

    /// Whether it takes connections on listening sockets that it is given.
    pub(super) fn accepts(&self) -> bool {
        matches!(self.entry, Entry::Core { accepts: true, .. })
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Maps compiled code and links it. `cached` must come from [`super::cache::Cache`].
    pub(super) fn load(engine: Engine, digest: Digest, cached: &Cached) -> Result<Self, Error> {
        let entry = if cached.program.is_core() {
            link_module(&engine, cached)?
        } else {
            link_component(&engine, cached)?
        };
        Ok(Self {
            digest,
            entry,
            engine,
            files: None,
        })
    }

    /// The same with the files that the image brings.
    pub(super) fn with_files(self, files: Option<Arc<Layer>>) -> Self {
        Self { files, ..self }
    }

    /// The files that the image brings, if it does.
    pub fn files(&self) -> Option<&Layer> {
        self.files.as_deref()
    }
}

fn failed(operation: &'static str) -> impl Fn(wasmtime::Error) -> Error {
    move |error| Error::Link {
        operation,
        reason: format!("{error:#}"),
    }
}

fn link_module(engine: &Engine, cached: &Cached) -> Result<Entry, Error> {
    // SAFETY: `Cached` is made by the cache alone, after the file's seal was verified.
    let module = unsafe { Module::deserialize_file(engine, &cached.code) }
        .map_err(failed("load compiled code"))?;
    let unknown: Vec<String> = module
        .imports()
        .filter(|import| ![wasi::p1::MODULE, wasi::p1::UNSTABLE].contains(&import.module()))
        .map(|import| format!("{}::{}", import.module(), import.name()))
        .collect();
    if !unknown.is_empty() {
        return Err(Error::Imports(unknown));
    }
    let mut linker = wasmtime::Linker::new(engine);
    wasi::p1::add_to_linker(&mut linker, Host::p1).map_err(failed("link WASI 0.1"))?;
    let pre = linker
        .instantiate_pre(&module)
        .map_err(failed("link the module"))?;
    let accepts = module
        .imports()
        .any(|import| import.name() == "sock_accept");
    Ok(Entry::Core { pre, accepts })
}

fn link_component(engine: &Engine, cached: &Cached) -> Result<Entry, Error> {
    // SAFETY: `Cached` is made by the cache alone, after the file's seal was verified.
    let component = unsafe { Component::deserialize_file(engine, &cached.code) }
        .map_err(failed("load compiled code"))?;
    let mut linker = Linker::<Host>::new(engine);
    wasi::p2::add_to_linker(&mut linker).map_err(failed("link WASI 0.2"))?;
    if !matches!(cached.program, Program::Handler2) {
        wasi::p3::add_to_linker(&mut linker).map_err(failed("link WASI 0.3"))?;
        wasi::lifecycle::add_async_to_linker(&mut linker).map_err(failed("link signals"))?;
    }
    wasi::add_proposals(&mut linker).map_err(failed("link WASI's proposals"))?;
    let pre = linker.instantiate_pre(&component).map_err(|error| {
        match unknown_imports(engine, &component) {
            unknown if unknown.is_empty() => failed("link the component")(error),
            unknown => Error::Imports(unknown),
        }
    })?;
    let missing = failed("find the component's entry");
    Ok(match cached.program {
        Program::Command2 => Entry::Command2(p2::bindings::CommandPre::new(pre).map_err(missing)?),
        Program::Command3 => Entry::Command3(p3::bindings::CommandPre::new(pre).map_err(missing)?),
        Program::Handler2 => {
            Entry::Handler2(wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre).map_err(missing)?)
        }
        Program::Handler3 => Entry::Handler3(
            wasmtime_wasi_http::p3::bindings::ServicePre::new(pre).map_err(missing)?,
        ),
        Program::CoreCommand => {
            return Err(Error::Program(
                "a core module is not a component".to_owned(),
            ));
        }
    })
}

fn unknown_imports(engine: &Engine, component: &Component) -> Vec<String> {
    component
        .component_type()
        .imports(engine)
        .filter(|(_, item)| {
            // Types alone ask for nothing.
            !matches!(item.ty, ComponentItem::Type(_) | ComponentItem::Resource(_))
        })
        .filter_map(|(name, _)| {
            let because = check_import(name).err()?;
            Some(format!("{name} ({because})"))
        })
        .collect()
}
