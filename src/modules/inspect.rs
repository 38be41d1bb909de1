//! What a wasm file is: component or core module, for which WASI, a command or a handler.
//!
//! One walk over the top level collects imports and exports and finds the reasons to refuse that
//! deserve words of their own; only then the validator runs, whose messages are exact and help
//! nobody. Validation enables what the runtime's engine enables, so that what passes here also
//! compiles there. Both are linear in the size of the file and bounded by wasmparser's own limits,
//! but for what is nested, which is bounded here before the validator sees it; callers bound the
//! size, and run this on a blocking thread.

mod nesting;

use std::collections::BTreeSet;
use std::io::Cursor;

use wasmparser::{
    Encoding, ExternalKind, MemoryType, Parser, Payload, TypeRef, Validator, WasmFeatures,
};

use crate::api::image_files;
use crate::api::interfaces::{Interface, Wasi, check_import, check_preview1, instead};
use crate::api::module::{ModuleFiles, ModuleVersion};

use super::refusal::{Impostor, MissingImport, Refusal};

const PREVIEW1: &str = "wasi_snapshot_preview1";
/// The name of WASI 0.1 before it had a number.
const UNSTABLE: &str = "wasi_unstable";
/// How deep components, modules and types may lie in each other. Compilers nest three or four deep
/// and composition adds one; wasmparser's own limit for values is the same. The validator's work grows
/// with the square of the depth (40,000 components in each other are 480 KB and 12 s), and its stack
/// with the depth of types.
const MAX_NESTING: usize = 100;

/// Component or core module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Component,
    CoreModule,
}

/// How it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end: `wasi:cli/run` or `_start`.
    Command,
    /// Answers HTTP requests: `wasi:http/incoming-handler` or `wasi:http/handler`.
    Handler,
}

/// What inspection found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    pub format: Format,
    pub role: Role,
    pub wasi: Option<Wasi>,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// The files that the image brings.
    pub files: Option<ModuleFiles>,
}

impl Inspection {
    /// The entry of a `Module` for these bytes; `pushed_at` is left to the caller.
    pub fn version(&self, digest: &str, size: u64) -> ModuleVersion {
        ModuleVersion {
            digest: digest.to_owned(),
            size,
            format: match self.format {
                Format::Component => "Component",
                Format::CoreModule => "CoreModule",
            }
            .to_owned(),
            role: match self.role {
                Role::Command => "Command",
                Role::Handler => "Handler",
            }
            .to_owned(),
            wasi: self.wasi.map(Wasi::as_str).unwrap_or_default().to_owned(),
            imports: self.imports.clone(),
            exports: self.exports.clone(),
            files: self.files.clone(),
            pushed_at: None,
        }
    }
}

/// Inspects and validates a whole file.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, Refusal> {
    if let Some(impostor) = Impostor::sniff(bytes) {
        return Err(Refusal::NotWasm(impostor));
    }
    let surface = Surface::read(bytes)?;
    surface.refuse_foreign()?;
    let types = Validator::new_with_features(engine_features()).validate_all(bytes);
    if let Err(error) = types {
        return Err(invalid(&error));
    }
    let files = files(bytes)?;
    let inspection = surface.conclude()?;
    Ok(Inspection {
        files,
        ..inspection
    })
}

/// What the image brings beside its program; an archive that a worker would refuse is refused here.
fn files(bytes: &[u8]) -> Result<Option<ModuleFiles>, Refusal> {
    let refuse = |error: &image_files::Error| Refusal::Files {
        message: crate::errors::chain(error).to_string(),
    };
    let found = image_files::find(&mut Cursor::new(bytes)).map_err(|error| refuse(&error))?;
    let Some(range) = found else { return Ok(None) };
    let archive = &bytes[range.start as usize..range.end as usize];
    let read = image_files::read(archive).map_err(|error| refuse(&error))?;
    Ok(Some(ModuleFiles {
        entries: read.entries.len() as u64,
        size: read.bytes,
    }))
}

/// The proposals that wasmtime 48 enables with this crate's features: no `threads`.
fn engine_features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL | WasmFeatures::CM_ASYNC;
    features.remove(WasmFeatures::THREADS);
    features
}

fn invalid(error: &wasmparser::BinaryReaderError) -> Refusal {
    if error.message().contains("threads") || error.message().contains("shared mem") {
        return Refusal::Threads;
    }
    Refusal::Invalid {
        message: error.message().to_owned(),
        at: error.offset(),
    }
}

/// The imports and exports of the outermost module or component.
struct Surface {
    format: Format,
    imports: BTreeSet<String>,
    /// What a core module imports under WASI 0.1's name that is not WASI 0.1's.
    strangers: Vec<MissingImport>,
    exports: BTreeSet<String>,
    shared_memory: bool,
}

impl Surface {
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut surface = Self {
            format: Format::CoreModule,
            imports: BTreeSet::new(),
            strangers: Vec::new(),
            exports: BTreeSet::new(),
            shared_memory: false,
        };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| invalid(&error))?;
            match &payload {
                Payload::Version { encoding, .. } => {
                    depth += 1;
                    if depth > MAX_NESTING {
                        return Err(Refusal::TooDeep { limit: MAX_NESTING });
                    }
                    if depth == 1 && *encoding == Encoding::Component {
                        surface.format = Format::Component;
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::MemorySection(memories) => {
                    for memory in memories.clone() {
                        surface.see_memory(&memory.map_err(|error| invalid(&error))?);
                    }
                }
                Payload::ComponentTypeSection(section) => {
                    let range = section.range();
                    let types = bytes.get(range.clone()).unwrap_or_default();
                    let is_too_deep = nesting::is_too_deep(types, range.start);
                    if is_too_deep.map_err(|error| invalid(&error))? {
                        return Err(Refusal::TooDeep { limit: MAX_NESTING });
                    }
                }
                _ if depth == 1 => surface.see(payload).map_err(|error| invalid(&error))?,
                _ => {}
            }
        }
        Ok(surface)
    }

    fn see(&mut self, payload: Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    if let TypeRef::Memory(memory) = import.ty {
                        self.see_memory(&memory);
                    }
                    if import.module == PREVIEW1
                        && let Err(because) = check_preview1(import.name)
                    {
                        let name = format!("{PREVIEW1}::{}", import.name);
                        self.strangers.push(MissingImport { name, because });
                    }
                    self.imports.insert(import.module.to_owned());
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        self.exports.insert(export.name.to_owned());
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import?;
                    // A type that is imported at the top level only names one of an interface.
                    if !matches!(import.ty, wasmparser::ComponentTypeRef::Type(_)) {
                        self.imports.insert(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    self.exports.insert(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn see_memory(&mut self, memory: &MemoryType) {
        self.shared_memory |= memory.shared;
    }

    /// The mistakes that people make, most common first.
    fn refuse_foreign(&self) -> Result<(), Refusal> {
        let import_that =
            |test: &dyn Fn(&str) -> bool| self.imports.iter().find(|import| test(import)).cloned();
        if let Some(import) = import_that(&|name| name.starts_with("__wbindgen") || name == "wbg") {
            return Err(Refusal::Browser { import });
        }
        if self.shared_memory {
            return Err(Refusal::Threads);
        }
        match self.format {
            Format::Component => self.refuse_imports(check_import),
            Format::CoreModule => {
                let emscripten = |name: &str| name == "env" || name == "a";
                if let Some(import) = import_that(&emscripten) {
                    return Err(Refusal::Emscripten { import });
                }
                if let Some(import) = import_that(&|name| name.contains(':')) {
                    return Err(Refusal::NotYetComponent { import });
                }
                self.refuse_imports(|name| match name {
                    PREVIEW1 | UNSTABLE => Ok(()),
                    _ => Err("not a WASI module: wasmorch provides wasi_snapshot_preview1 to core modules".to_owned()),
                })
            }
        }
    }

    fn refuse_imports(&self, check: impl Fn(&str) -> Result<(), String>) -> Result<(), Refusal> {
        let foreign = self.imports.iter().filter_map(|name| {
            check(name).err().map(|because| MissingImport {
                name: name.clone(),
                because,
            })
        });
        // An interface that is exported to be called, and that nobody calls.
        let uncalled = self.exports.iter().filter_map(|name| {
            let interface = Interface::parse(name)?;
            let because = match (interface.package, interface.name) {
                ("wasi:keyvalue", "watcher") => instead(interface.package, interface.name)?,
                _ => return None,
            };
            let (name, because) = (name.clone(), because.to_owned());
            Some(MissingImport { name, because })
        });
        let strangers = self.strangers.iter().cloned();
        let missing: Vec<MissingImport> = foreign.chain(strangers).chain(uncalled).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Imports(missing))
        }
    }

    fn conclude(self) -> Result<Inspection, Refusal> {
        let Some(role) = self.role() else {
            return Err(Refusal::NothingToRun {
                exports: self.exports.into_iter().collect(),
            });
        };
        let wasi = match self.format {
            Format::CoreModule => [PREVIEW1, UNSTABLE]
                .iter()
                .any(|name| self.imports.contains(*name))
                .then_some(Wasi::V0_1),
            Format::Component => self
                .imports
                .iter()
                .chain(&self.exports)
                .filter_map(|name| Interface::parse(name)?.wasi())
                .max(),
        };
        Ok(Inspection {
            format: self.format,
            role,
            wasi,
            imports: self.imports.into_iter().collect(),
            exports: self.exports.into_iter().collect(),
            files: None,
        })
    }

    fn role(&self) -> Option<Role> {
        let exports_interface = |package: &str, name: &str, wasi: Option<Wasi>| {
            self.exports.iter().any(|export| {
                Interface::parse(export).is_some_and(|interface| {
                    interface.package == package
                        && interface.name == name
                        && interface.wasi().is_some()
                        && (wasi.is_none() || interface.wasi() == wasi)
                })
            })
        };
        match self.format {
            Format::CoreModule => self.exports.contains("_start").then_some(Role::Command),
            Format::Component => {
                if exports_interface("wasi:http", "incoming-handler", Some(Wasi::V0_2))
                    || exports_interface("wasi:http", "handler", Some(Wasi::V0_3))
                {
                    Some(Role::Handler)
                } else if exports_interface("wasi:cli", "run", None) {
                    Some(Role::Command)
                } else {
                    None
                }
            }
        }
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
