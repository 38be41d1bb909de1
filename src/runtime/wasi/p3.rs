//! WASI 0.3, assembled: which implementation stands behind each interface.

pub mod filesystem;
pub mod sockets;

use wasmtime::component::Linker;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::p3::bindings::cli;

use crate::runtime::host::{HasEnvironment, Host};

/// Adds every interface of the worlds `wasi:cli/imports` and `wasi:http/imports`.
pub(in crate::runtime) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<Host, HasEnvironment>(linker, |host| host.environment())?;
    cli::exit::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::stdin::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::stdout::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::stderr::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_input::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_output::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_stdin::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_stdout::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_stderr::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    wasmtime_wasi::p3::clocks::add_to_linker(linker)?;
    wasmtime_wasi::p3::random::add_to_linker(linker)?;
    filesystem::add_to_linker::<Host>(linker, Host::fs)?;
    sockets::add_to_linker::<Host>(linker, Host::net)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)
}
