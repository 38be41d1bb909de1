//! The peers of the guest path: what a user could assemble without an orchestrator.
//!
//! `wasmtime serve` runs the same component, an instance for each request as ours does; HAProxy in
//! front of it is what routes. Both are started for the measurement, on free ports of loopback, and
//! end with it. Their settings are their defaults, except that HAProxy keeps as many connections to
//! the server as there are clients.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::{Child, Command};

use super::raw::Target;

/// A peer that runs; it ends with this value.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    process: Child,
    /// Holds its files.
    _directory: tempfile::TempDir,
}

const START: Duration = Duration::from_secs(30);

impl Peer {
    /// `wasmtime serve` with this component; `None` if it is not installed.
    pub(super) async fn wasmtime(program: &Path, wasm: &[u8]) -> anyhow::Result<Option<Self>> {
        let (directory, address) = (tempfile::tempdir()?, free_port()?);
        let component = directory.path().join("guest.wasm");
        std::fs::write(&component, wasm).context("write the guest")?;
        let mut command = Command::new(program);
        command
            .args(["serve", "-S", "cli", "--addr"])
            .arg(address.to_string())
            .arg(&component);
        Self::start(command, address, directory).await
    }

    /// HAProxy in front of a server; `None` if it is not installed.
    pub(super) async fn haproxy(server: SocketAddr) -> anyhow::Result<Option<Self>> {
        let (directory, address) = (tempfile::tempdir()?, free_port()?);
        let file = directory.path().join("haproxy.cfg");
        let config = format!(
            "global\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  \
             timeout server 30s\n  option http-keep-alive\n  http-reuse always\n\
             frontend f\n  bind {address}\n  default_backend b\nbackend b\n  server s {server}\n"
        );
        std::fs::write(&file, config).context("write HAProxy's configuration")?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        Self::start(command, address, directory).await
    }

    async fn start(
        mut command: Command,
        address: SocketAddr,
        directory: tempfile::TempDir,
    ) -> anyhow::Result<Option<Self>> {
        let spawned = command
            // As `wasmorch dev` runs its own children: no side pays for backtraces of errors.
            .env("RUST_LIB_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("start a peer"),
        };
        let peer = Self {
            address,
            process,
            _directory: directory,
        };
        let deadline = Instant::now() + START;
        let target = Target::get(address, &address.to_string(), "/");
        while !target.answers().await.unwrap_or(false) {
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} does not answer at {address} after {} s",
                command.as_std().get_program().display(),
                START.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(peer))
    }

    pub(super) fn process(&self) -> Option<u32> {
        self.process.id()
    }
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
