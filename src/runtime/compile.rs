//! Compilation, kept where it can do no harm.
//!
//! A module of a few kilobytes can keep a compiler busy for minutes and make it take gigabytes, so
//! compiling happens in a child process (`wasmorch compile`, a hidden subcommand) that limits its own
//! CPU time and memory, runs at a low priority and is killed when nobody waits any more. The child
//! reads one file and writes one file; what it wrote is sealed by the parent (`cache`).
//!
//! Where the running program is not wasmorch (tests of the library) it compiles in-process instead.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use super::component::Program;

mod places;

pub(super) use places::Places;

/// The hidden subcommand.
const SUBCOMMAND: &str = "compile";
/// How the child says that the wasm is at fault and not the compiler's limits.
const EXIT_REFUSED: u8 = 65;
/// What is kept of the child's words.
const MAX_MESSAGE: usize = 4 << 10;

/// Where compilation happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// In a limited child process of this program.
    Child(PathBuf),
    /// In this process, without limits: for tests.
    InProcess,
}

/// What one compilation may take.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// Wall time.
    pub wall: Duration,
    /// CPU time of all threads.
    pub cpu: Duration,
    /// Bytes of address space, thread stacks and mapped files included.
    pub memory_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            wall: Duration::from_mins(5),
            cpu: Duration::from_mins(5),
            memory_bytes: 4 << 30,
        }
    }
}

/// Why there is no compiled code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The wasm is invalid or uses what the engines do not support.
    #[error("the module does not compile: {0}")]
    Refused(String),
    /// The compiler was stopped by one of its limits, or crashed.
    #[error("the compiler stopped ({0}); its limits are {1:?}")]
    Stopped(String, CompileLimits),
    /// It took too long, by that clock.
    #[error("compiling took more than {1:?} of {0}")]
    TooSlow(&'static str, Duration),
    /// The child process could not be run.
    #[error("run the compiler")]
    Run(#[source] std::io::Error),
}

impl Compiler {
    /// A child of this program if it is wasmorch, else in-process.
    pub fn detect() -> Self {
        match std::env::current_exe() {
            Ok(path) if path.file_stem().is_some_and(|stem| stem == "wasmorch") => {
                Self::Child(path)
            }
            Ok(_) | Err(_) => Self::InProcess,
        }
    }

    /// Compiles the file `wasm` into the file `out`.
    pub(super) async fn compile(
        &self,
        wasm: &Path,
        out: &Path,
        program: Program,
        limits: CompileLimits,
    ) -> Result<(), Error> {
        match self {
            Self::Child(exe) => {
                let run = run_child(exe, wasm, out, program, limits);
                tokio::time::timeout(limits.wall, run)
                    .await
                    .unwrap_or(Err(Error::TooSlow("time", limits.wall)))
            }
            Self::InProcess => {
                let (wasm, out) = (wasm.to_owned(), out.to_owned());
                let work = move || compile_file(&wasm, &out, program);
                tokio::task::spawn_blocking(work)
                    .await
                    .map_err(|panic| Error::Stopped(panic.to_string(), limits))?
            }
        }
    }
}

async fn run_child(
    exe: &Path,
    wasm: &Path,
    out: &Path,
    program: Program,
    limits: CompileLimits,
) -> Result<(), Error> {
    let output = tokio::process::Command::new(exe)
        .arg(SUBCOMMAND)
        .arg(wasm)
        .arg(out)
        .arg(program.name())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .arg(limits.memory_bytes.to_string())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let length = output.stderr.len().min(MAX_MESSAGE);
    let words = String::from_utf8_lossy(&output.stderr[..length]);
    if output.status.code() == Some(i32::from(EXIT_REFUSED)) {
        Err(Error::Refused(words.trim().to_owned()))
    } else if output.status.signal() == Some(rustix::process::Signal::XCPU.as_raw()) {
        Err(Error::TooSlow("CPU time", limits.cpu))
    } else {
        let message = format!("{}; {}", output.status, words.trim());
        Err(Error::Stopped(message, limits))
    }
}

fn compile_file(wasm: &Path, out: &Path, program: Program) -> Result<(), Error> {
    let bytes = std::fs::read(wasm).map_err(Error::Run)?;
    let code = precompile(&bytes, program).map_err(|error| Error::Refused(format!("{error:#}")))?;
    std::fs::write(out, code).map_err(Error::Run)
}

fn precompile(wasm: &[u8], program: Program) -> wasmtime::Result<Vec<u8>> {
    let engine = program.engine().flavor().compiler()?;
    if program.is_core() {
        engine.precompile_module(wasm)
    } else {
        engine.precompile_component(wasm)
    }
}

/// The whole life of the child: `<wasm> <out> <program> <cpu seconds> <bytes>`. The arguments are
/// those that this file wrote, so anything else is answered by usage alone.
pub fn child_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    match child(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell_parent(&error);
            match error {
                Error::Refused(_) => ExitCode::from(EXIT_REFUSED),
                Error::Stopped(..) | Error::TooSlow(..) | Error::Run(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn child(args: &[OsString]) -> Result<(), Error> {
    let usage = || {
        Error::Run(std::io::Error::other(
            "started by hand: use `wasmorch push`",
        ))
    };
    let [wasm, out, program, cpu, memory] = args else {
        return Err(usage());
    };
    let program = Program::ALL
        .into_iter()
        .find(|known| program == known.name())
        .ok_or_else(usage)?;
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse().ok());
    let (Some(cpu), Some(memory)) = (number(cpu), number(memory)) else {
        return Err(usage());
    };
    limit_self(cpu, memory).map_err(Error::Run)?;
    compile_file(Path::new(wasm), Path::new(out), program)
}

fn limit_self(cpu_seconds: u64, memory_bytes: u64) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    let both = |limit: u64| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    // At the first limit comes SIGXCPU, which says what happened; at the second SIGKILL, which does not.
    let cpu = Rlimit {
        current: Some(cpu_seconds),
        maximum: Some(cpu_seconds + 1),
    };
    setrlimit(Resource::Cpu, cpu)?;
    setrlimit(Resource::As, both(memory_bytes))?;
    setrlimit(Resource::Core, both(0))?;
    // Best effort: a container may forbid it, and compiling at a normal priority is no fault.
    let _ = nice(10);
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "standard error is the child's channel to its parent"
)]
fn tell_parent(error: &Error) {
    match error {
        Error::Refused(words) => eprintln!("{words}"),
        other @ (Error::Stopped(..) | Error::TooSlow(..) | Error::Run(_)) => {
            eprintln!("{}", crate::errors::chain(other));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_was_started_by_hand_says_so() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for words in [&[] as &[&str], &["a", "b", "nothing", "1", "1"]] {
            let error = child(&args(words)).unwrap_err();
            assert!(crate::errors::chain(&error).to_string().contains("by hand"));
        }
    }

    #[tokio::test]
    async fn a_child_that_never_ends_is_killed_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let limits = CompileLimits {
            wall: Duration::from_millis(200),
            ..CompileLimits::default()
        };
        // Whatever it is told, it repeats it for ever.
        let hanging = Compiler::Child("/usr/bin/yes".into());
        let wasm = dir.path().join("a.wasm");
        let end = hanging.compile(&wasm, &out, Program::Command2, limits);
        let error = end.await.unwrap_err();
        assert_eq!(error.to_string(), "compiling took more than 200ms of time");
        let is_ours = |process: &std::fs::DirEntry| {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&*out.to_string_lossy())
        };
        let is_alive = || {
            let processes = std::fs::read_dir("/proc").unwrap();
            processes.filter_map(Result::ok).any(|it| is_ours(&it))
        };
        let gone = async {
            while is_alive() {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(30);
        assert!(tokio::time::timeout(patience, gone).await.is_ok());
    }

    #[tokio::test]
    async fn a_wrong_module_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let wasm = dir.path().join("a.wasm");
        let wat = r#"(module (func (export "_start") (result i32)))"#;
        std::fs::write(&wasm, wat::parse_str("(module)").unwrap()).unwrap();
        let compile = async |program| {
            Compiler::InProcess
                .compile(
                    &wasm,
                    &dir.path().join("out"),
                    program,
                    CompileLimits::default(),
                )
                .await
        };
        compile(Program::CoreCommand).await.unwrap();
        assert!(matches!(
            compile(Program::Command2).await,
            Err(Error::Refused(_))
        ));
        assert!(wat::parse_str(wat).is_ok());
        std::fs::write(&wasm, b"\0asm\x01\0\0\0\x63\x01\0").unwrap();
        assert!(matches!(
            compile(Program::CoreCommand).await,
            Err(Error::Refused(_))
        ));
    }
}
