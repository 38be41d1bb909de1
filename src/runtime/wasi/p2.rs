//! WASI 0.2, assembled: which implementation stands behind each interface.

pub mod filesystem;
pub mod sockets;

use wasmtime::component::Linker;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::sockets::instance_network;
use wasmtime_wasi::p2::bindings::{cli, clocks, io, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use crate::runtime::host::{HasEnvironment, HasTable, Host};

/// Adds every interface of the worlds `wasi:cli/imports` and `wasi:http/imports`.
pub(in crate::runtime) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<Host, HasTable>(linker, |host| &mut host.table)?;
    io::poll::add_to_linker::<Host, HasTable>(linker, |host| &mut host.table)?;
    io::streams::add_to_linker::<Host, HasTable>(linker, |host| &mut host.table)?;
    clocks::wall_clock::add_to_linker::<Host, WasiClocks>(linker, Host::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Host, WasiClocks>(linker, Host::clocks)?;
    random::random::add_to_linker::<Host, WasiRandom>(linker, |host| host.wasi.random())?;
    random::insecure::add_to_linker::<Host, WasiRandom>(linker, |host| host.wasi.random())?;
    random::insecure_seed::add_to_linker::<Host, WasiRandom>(linker, |host| host.wasi.random())?;
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
    instance_network::add_to_linker::<Host, WasiSockets>(linker, Host::sockets)?;
    filesystem::add_to_linker::<Host>(linker, Host::fs)?;
    sockets::add_to_linker::<Host>(linker, Host::net)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}
