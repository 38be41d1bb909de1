//! What a wasm file is to the runtime, told from its outermost exports before anything is compiled.
//!
//! The answer chooses the engine and thereby the flavour of the code, so it comes first and reads
//! section headers only. Whether the code is valid is the compiler's business.

use wasmparser::{Encoding, ExternalKind, Parser, Payload};

use super::engine::EngineKind;

/// What a program is and which WASI calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Program {
    /// A core module with `_start`, WASI 0.1.
    CoreCommand,
    /// A component with `wasi:cli/run@0.2`.
    Command2,
    /// A component with `wasi:cli/run@0.3`.
    Command3,
    /// A component with `wasi:http/incoming-handler@0.2`.
    Handler2,
    /// A component with `wasi:http/handler@0.3`.
    Handler3,
}

/// Why a file is not a program; the text is for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("not a wasm file: {0}")]
    Malformed(String),
    #[error(
        "a core module made by wit-bindgen is not a program yet: turn it into a component (`wasm-tools component new`) and push that"
    )]
    ComponentType,
    #[error("shared memory is not supported: build without threads")]
    SharedMemory,
    #[error(
        "exports no entry: a program exports `_start`, `wasi:cli/run`, `wasi:http/incoming-handler` or `wasi:http/handler`"
    )]
    NoEntry,
    #[error("`{0}` is a release candidate of WASI 0.3; build against 0.3.0 or later")]
    Candidate(String),
}

impl Program {
    pub(super) const ALL: [Self; 5] = [
        Self::CoreCommand,
        Self::Command2,
        Self::Command3,
        Self::Handler2,
        Self::Handler3,
    ];

    /// The name kept beside compiled code.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CoreCommand => "core-command",
            Self::Command2 => "command-0.2",
            Self::Command3 => "command-0.3",
            Self::Handler2 => "handler-0.2",
            Self::Handler3 => "handler-0.3",
        }
    }

    /// The engine it runs in.
    pub(super) fn engine(self) -> EngineKind {
        match self {
            Self::CoreCommand | Self::Command2 | Self::Command3 => EngineKind::Processes,
            Self::Handler2 => EngineKind::Handlers,
            Self::Handler3 => EngineKind::AsyncHandlers,
        }
    }

    /// Whether it is a core module rather than a component.
    pub(super) fn is_core(self) -> bool {
        matches!(self, Self::CoreCommand)
    }

    /// Reads `wasm` far enough to know.
    pub(super) fn of(wasm: &[u8]) -> Result<Self, Error> {
        let mut facts = Facts::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(malformed)?;
            match &payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                outermost if depth == 0 => facts.note(outermost)?,
                _nested => {}
            }
        }
        facts.program()
    }
}

/// The exports that make a component a program; who answers requests is a handler, even if it can
/// be run as well.
const ENTRIES: [(&str, Program); 4] = [
    ("wasi:http/handler@0.3.", Program::Handler3),
    ("wasi:http/incoming-handler@0.2.", Program::Handler2),
    ("wasi:cli/run@0.3.", Program::Command3),
    ("wasi:cli/run@0.2.", Program::Command2),
];

#[derive(Default)]
struct Facts {
    is_component: bool,
    has_start: bool,
    has_component_type: bool,
    /// Whether it imports anything but WASI 0.1: a library may bring a `component-type` along that
    /// the program does not use.
    imports_more: bool,
    shared_memory: bool,
    /// Exported interfaces of the component.
    interfaces: Vec<String>,
}

impl Facts {
    fn note(&mut self, payload: &Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.is_component = *encoding == Encoding::Component;
            }
            Payload::ExportSection(exports) => {
                for export in exports.clone() {
                    let export = export.map_err(malformed)?;
                    self.has_start |= export.name == "_start" && export.kind == ExternalKind::Func;
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.clone().into_imports() {
                    let import = import.map_err(malformed)?;
                    self.imports_more |= import.module != "wasi_snapshot_preview1";
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    self.shared_memory |= memory.map_err(malformed)?.shared;
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    self.interfaces
                        .push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) => {
                self.has_component_type |= section.name().starts_with("component-type");
            }
            _uninformative => {}
        }
        Ok(())
    }

    fn program(self) -> Result<Program, Error> {
        if !self.is_component {
            return match self {
                Self {
                    shared_memory: true,
                    ..
                } => Err(Error::SharedMemory),
                Self {
                    has_component_type: true,
                    imports_more: true,
                    ..
                } => Err(Error::ComponentType),
                Self {
                    has_start: true, ..
                } => Ok(Program::CoreCommand),
                _without_entry => Err(Error::NoEntry),
            };
        }
        for (entry, program) in ENTRIES {
            if let Some(name) = self.interfaces.iter().find(|name| name.starts_with(entry)) {
                if name.contains("-rc") || name.contains("-draft") {
                    return Err(Error::Candidate(name.clone()));
                }
                return Ok(program);
            }
        }
        Err(Error::NoEntry)
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the argument of map_err"
)]
fn malformed(error: wasmparser::BinaryReaderError) -> Error {
    Error::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wat: &str, expected: impl Into<Result<Program, Error>>) {
        let program = Program::of(&wat::parse_str(wat).unwrap());
        assert_eq!(program, expected.into(), "{wat}");
    }

    #[test]
    fn the_outermost_exports_tell_the_program() {
        let exporting = |interface: &str| {
            format!(r#"(component (instance $i) (export "{interface}" (instance $i)))"#)
        };
        let core = r#"(module (func (export "_start")))"#;
        check(core, Ok(Program::CoreCommand));
        for (interface, program) in [
            ("wasi:cli/run@0.2.0", Program::Command2),
            ("wasi:cli/run@0.2.12", Program::Command2),
            ("wasi:cli/run@0.3.0", Program::Command3),
            ("wasi:http/incoming-handler@0.2.3", Program::Handler2),
            ("wasi:http/handler@0.3.2", Program::Handler3),
        ] {
            check(&exporting(interface), Ok(program));
        }
        let candidate = "wasi:cli/run@0.3.0-rc-2026-01-06";
        check(
            &exporting(candidate),
            Err(Error::Candidate(candidate.to_owned())),
        );
        check(&exporting("test:own/thing@0.1.0"), Err(Error::NoEntry));
        let nested = r#"(component (core module (func (export "_start"))))"#;
        check(nested, Err(Error::NoEntry));
        check("(module)", Err(Error::NoEntry));
        check(
            r#"(module (memory 1 2 shared) (func (export "_start")))"#,
            Err(Error::SharedMemory),
        );
        check(
            r#"(module (@custom "component-type:world" "") (func (export "_start")))"#,
            Ok(Program::CoreCommand),
        );
        check(
            r#"(module (@custom "component-type:world" "") (import "wasi:cli/stdin@0.2.0" "get-stdin"
                (func (result i32))) (func (export "_start")))"#,
            Err(Error::ComponentType),
        );
        assert!(matches!(Program::of(b"\0asn"), Err(Error::Malformed(_))));
    }
}
