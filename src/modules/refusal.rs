//! Why a file cannot run here, in words for the person who built it.
//!
//! Every refusal has a stable code (`W01xx`, explained by `wasmorch explain`), says what happened
//! to which file, why we think so, and the one command that helps. The text is the same in the
//! API's `Status`, on the command line and in the dashboard, so it is made here and nowhere else.

use crate::api::quantity::readable_bytes;

/// What is wrong with an uploaded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Built for a browser: wasm-bindgen's imports.
    Browser { import: String },
    /// Imports that no part of wasmorch provides, each with the reason.
    Imports(Vec<MissingImport>),
    /// Not WebAssembly at all.
    NotWasm(Impostor),
    /// Larger than the server takes. `size` is unknown when the sender did not announce it.
    TooLarge { size: Option<u64>, limit: u64 },
    /// Emscripten's own JavaScript runtime is imported.
    Emscripten { import: String },
    /// Shared memory or threads.
    Threads,
    /// The bytes begin like wasm and do not hold together.
    Invalid { message: String, at: usize },
    /// Components, modules or types in each other, more than any compiler makes.
    TooDeep { limit: usize },
    /// Nothing that could be started: no command, no HTTP handler.
    NothingToRun { exports: Vec<String> },
    /// A core module that only its own toolchain's next step turns into a component.
    NotYetComponent { import: String },
    /// The files that it brings cannot be an image's.
    Files { message: String },
}

/// One import that nobody provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingImport {
    pub name: String,
    pub because: String,
}

/// What a file is instead of WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Impostor {
    Empty,
    Html {
        start: String,
    },
    Zip,
    Gzip,
    Text,
    /// An ELF file that wasmtime made: a `.cwasm`.
    Precompiled,
    /// Another ELF file.
    Elf,
    Unknown {
        start: String,
    },
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Browser { .. } => "W0101",
            Self::Imports(_) => "W0103",
            Self::NotWasm(_) => "W0104",
            Self::TooLarge { .. } => "W0106",
            Self::Emscripten { .. } => "W0107",
            Self::Threads => "W0108",
            Self::Invalid { .. } => "W0109",
            Self::NothingToRun { .. } => "W0110",
            Self::NotYetComponent { .. } => "W0111",
            Self::Files { .. } => "W0112",
            Self::TooDeep { .. } => "W0113",
        }
    }

    /// What happened, in one line that begins with the file's name.
    pub fn what(&self, file: &str) -> String {
        match self {
            Self::Browser { .. } => format!("{file} was built for a browser, not for WASI"),
            Self::Imports(missing) if missing.len() == 1 => {
                format!("{file} needs an interface that wasmorch does not have")
            }
            Self::Imports(missing) => format!(
                "{file} needs {} interfaces that wasmorch does not have",
                missing.len()
            ),
            Self::NotWasm(Impostor::Empty) => format!("{file} is empty"),
            Self::NotWasm(_) => format!("{file} is not WebAssembly"),
            Self::TooLarge {
                size: Some(size),
                limit,
            } => format!(
                "{file} is {}; this server takes modules up to {}",
                readable_bytes(*size),
                readable_bytes(*limit)
            ),
            Self::TooLarge { size: None, limit } => format!(
                "{file} is larger than this server takes (up to {})",
                readable_bytes(*limit)
            ),
            Self::Emscripten { .. } => {
                format!("{file} was built by Emscripten for JavaScript, not for WASI")
            }
            Self::Threads => format!("{file} needs shared memory (threads)"),
            Self::Invalid { .. } => format!("{file} is damaged or cut short"),
            Self::TooDeep { .. } => format!("{file} is nested too deep"),
            Self::NothingToRun { .. } => format!("{file} has nothing that wasmorch can start"),
            Self::NotYetComponent { .. } => {
                format!("{file} is a core module that was not yet made a component")
            }
            Self::Files { .. } => format!("{file} brings files that a pod cannot have"),
        }
    }

    /// Why we say so; empty if the first line says it all.
    pub fn because(&self) -> String {
        match self {
            Self::Browser { import } => format!("it imports `{import}` (wasm-bindgen)"),
            Self::Imports(missing) => missing
                .iter()
                .map(|import| format!("{}: {}", import.name, import.because))
                .collect::<Vec<_>>()
                .join("; "),
            Self::NotWasm(impostor) => impostor.because(),
            Self::TooLarge { .. } => String::new(),
            Self::Emscripten { import } => format!("it imports `{import}`"),
            Self::Threads => {
                "guest threads would share memory between requests; wasmorch scales by instances"
                    .to_owned()
            }
            Self::Invalid { message, at } => format!("{message} (at byte {at})"),
            Self::TooDeep { limit } => {
                format!("more than {limit} components, modules or types lie in each other")
            }
            Self::NothingToRun { exports } if exports.is_empty() => "it exports nothing".to_owned(),
            Self::NothingToRun { exports } => format!(
                "it exports {}, but none of wasi:cli/run, wasi:http/incoming-handler, wasi:http/handler, _start",
                exports
                    .iter()
                    .take(8)
                    .map(|export| format!("`{export}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            Self::NotYetComponent { import } => {
                format!("it imports `{import}`, which only a component can import")
            }
            Self::Files { message } => message.clone(),
        }
    }

    /// The command that helps.
    pub fn help(&self, file: &str) -> String {
        match self {
            Self::Browser { .. } => "cargo build --release --target wasm32-wasip2".to_owned(),
            Self::Imports(missing)
                if missing
                    .iter()
                    .any(|import| !import.name.starts_with("wasi")) =>
            {
                format!(
                    "link the component that exports it first: wac plug {file} --plug other.wasm -o app.wasm"
                )
            }
            Self::Imports(_) => "build with an SDK for WASI 0.2 (up to 0.2.12) or 0.3.0".to_owned(),
            Self::NotWasm(impostor) => impostor.help(file),
            Self::TooLarge { .. } => {
                "wasm-tools strip (debug information is often most of it), or start the server with a larger --max-module-size".to_owned()
            }
            Self::Emscripten { .. } => {
                "build with wasi-sdk: clang --target=wasm32-wasip2, or emcc -sSTANDALONE_WASM"
                    .to_owned()
            }
            Self::Threads => "build without threads: --target wasm32-wasip2".to_owned(),
            Self::Invalid { .. } => {
                format!(
                    "compare the size with the original, or check it: wasm-tools validate {file}"
                )
            }
            Self::TooDeep { .. } => {
                "compose the parts beside each other: wac plug app.wasm --plug part.wasm -o all.wasm"
                    .to_owned()
            }
            Self::NothingToRun { .. } => {
                "build a program with `main`, or export wasi:http/incoming-handler".to_owned()
            }
            Self::NotYetComponent { .. } => format!(
                "wasm-tools component new {file} -o app.wasm, or build with --target wasm32-wasip2"
            ),
            Self::Files { .. } => {
                "tar -C <dir> -cf files.tar . (plain files, directories and symbolic links, uncompressed)".to_owned()
            }
        }
    }

    /// Everything in one line, for a `Status`.
    pub fn message(&self, file: &str) -> String {
        let because = self.because();
        let colon = if because.is_empty() { "" } else { ": " };
        format!(
            "{}: {}{colon}{because}. help: {}",
            self.code(),
            self.what(file),
            self.help(file)
        )
    }
}

impl Impostor {
    /// What the first bytes of a file look like; `None` if they are WebAssembly's.
    pub fn sniff(start: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(&start[..start.len().min(64)]);
        let trimmed = text.trim_start_matches('\u{feff}').trim_start();
        let shown = || trimmed.chars().take(15).collect::<String>();
        match start {
            [] => Some(Self::Empty),
            [0, b'a', b's', b'm', ..] => None,
            [b'P', b'K', ..] => Some(Self::Zip),
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x7f, b'E', b'L', b'F', ..] => Some(if is_wasmtime_elf(start) {
                Self::Precompiled
            } else {
                Self::Elf
            }),
            _ if trimmed.starts_with('(') || trimmed.starts_with(";;") => Some(Self::Text),
            _ if trimmed.starts_with('<') => Some(Self::Html { start: shown() }),
            _ => Some(Self::Unknown { start: shown() }),
        }
    }

    fn because(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Html { start } => {
                format!("it starts with {start:?} (a web page saved by mistake?)")
            }
            Self::Zip => "it is a zip archive".to_owned(),
            Self::Gzip => "it is compressed with gzip".to_owned(),
            Self::Text => "it is the text format (.wat)".to_owned(),
            Self::Precompiled => "it is precompiled for one engine (.cwasm)".to_owned(),
            Self::Elf => "it is a native program for this machine (ELF)".to_owned(),
            Self::Unknown { start } => format!("it starts with {start:?}"),
        }
    }

    fn help(&self, file: &str) -> String {
        match self {
            Self::Empty | Self::Html { .. } => "download or build the file again".to_owned(),
            Self::Zip => format!("unzip {file}"),
            Self::Gzip => format!("gunzip {file}"),
            Self::Text => format!("wasm-tools parse {file} -o app.wasm"),
            Self::Precompiled => "push the .wasm that it was made of".to_owned(),
            Self::Elf => "cargo build --release --target wasm32-wasip2".to_owned(),
            Self::Unknown { .. } => "push the .wasm file that your compiler wrote".to_owned(),
        }
    }
}

/// Wasmtime marks its own ELF files by an OS ABI of 200 (module) or above in byte 7.
fn is_wasmtime_elf(start: &[u8]) -> bool {
    start.get(7).is_some_and(|abi| *abi >= 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impostors_are_recognised_by_their_first_bytes() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "is empty"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"PK\x03\x04....", "zip"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"  (module)", "text format"),
            (b";; a comment\n(module)", "text format"),
            (b"\x7fELF\x02\x01\x01\xc8\0\0", "precompiled"),
            (b"hello world", "hello world"),
        ];
        for (start, expected) in cases {
            let message = Refusal::NotWasm(Impostor::sniff(start).unwrap()).message("app.wasm");
            assert!(message.starts_with("W0104: app.wasm is "), "{message}");
            assert!(message.contains(expected), "{message}");
            assert!(message.contains(". help: "), "{message}");
        }
        assert_eq!(Impostor::sniff(b"\0asm\x01\0\0\0"), None);
    }

    #[test]
    fn sizes_read_well() {
        let refusal = Refusal::TooLarge {
            size: Some(222_298_112),
            limit: 64 << 20,
        };
        assert!(refusal.message("app.wasm").starts_with(
            "W0106: app.wasm is 212 MiB; this server takes modules up to 64 MiB. help: "
        ));
    }
}
