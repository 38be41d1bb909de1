//! The measured program three times: in a pod, in bare wasmtime on the host, and natively.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::bare::{Command, Reach};
use super::figure::{OURS, Section};
use super::meter::{self, timing::Timing};
use super::pods::{Pods, Wasm};
use crate::cli::bench::peers::free_port;
use crate::tasks::TaskGroup;

const BARE: &str = "wasmtime-wasi";
const NATIVE: &str = "native";
/// Where Linux has its tmpfs.
const TMPFS: &str = "/dev/shm";
const GUEST_ADDRESS: &str = "127.0.0.1:7000";

const FILES: u64 = 2_000;
const FILE_BYTES: u64 = 64 << 20;
const BULK_BYTES: u64 = 256 << 20;
const MESSAGES: u64 = 100_000;
const ROUNDS: u64 = 5_000;

/// Work with files.
pub(super) async fn files(pairs: u32, size: u64) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "Files",
        "a guest on its pod's filesystem, by wasmtime-wasi on tmpfs, the same source native on tmpfs",
    );
    let directory = tempfile::tempdir()?;
    let wasm = Wasm::of("meter", directory.path())?;
    let pods = Pods::new(&directory.path().join("cache"))?;
    let artifact = pods.load(&wasm).await?;
    let bare = Command::compile(&wasm.bytes)?;
    let tmpfs = tempfile::tempdir_in(TMPFS).context("make a directory on tmpfs")?;
    let scaled = |count: u64| (count * size / 100).max(1);
    let (files, bytes) = (scaled(FILES), scaled(FILE_BYTES).next_multiple_of(1 << 20));
    let args =
        |path: &str| ["files", path, &files.to_string(), &bytes.to_string()].map(str::to_owned);
    for _ in 0..pairs {
        let pod = pods.pod()?;
        let told = Pods::run(&pod, &artifact, "meter", &args("/tmp")).await?;
        pod.close().await;
        add(&mut section, OURS, &meter::read(&told)?);
        let told = bare.run(&args("/"), Reach::Directory(tmpfs.path())).await?;
        add(&mut section, BARE, &meter::read(&told)?);
        let path = tmpfs.path().to_owned();
        let native = tokio::task::spawn_blocking(move || meter::files::run(&path, files, bytes));
        add(&mut section, NATIVE, &native.await??);
    }
    Ok(section)
}

/// Work with connections.
pub(super) async fn network(pairs: u32, size: u64) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "Loopback TCP",
        "two containers of one pod, two guests by wasmtime-wasi and two native threads on the kernel's loopback",
    );
    let directory = tempfile::tempdir()?;
    let wasm = Wasm::of("meter", directory.path())?;
    let pods = Pods::new(&directory.path().join("cache"))?;
    let artifact = pods.load(&wasm).await?;
    let bare = Arc::new(Command::compile(&wasm.bytes)?);
    let counts = [BULK_BYTES, MESSAGES, ROUNDS].map(|count| (count * size / 100).max(1));
    for _ in 0..pairs {
        let pod = pods.pod()?;
        let (serve, send) = words(GUEST_ADDRESS, counts);
        let (served, told) = tokio::join!(
            Pods::run(&pod, &artifact, "server", &serve),
            Pods::run(&pod, &artifact, "client", &send),
        );
        // A client that fails is why its server fails.
        let told = told?;
        served?;
        add(&mut section, OURS, &meter::read(&told)?);
        pod.close().await;

        let (serve, send) = words(&free_port()?.to_string(), counts);
        let server = spawn(Arc::clone(&bare), serve);
        let client = spawn(Arc::clone(&bare), send);
        server.await??;
        add(&mut section, BARE, &meter::read(&client.await??)?);
        add(&mut section, NATIVE, &native_pair(counts).await?);
    }
    Ok(section)
}

/// The arguments of the two programs.
fn words(address: &str, [bytes, messages, rounds]: [u64; 3]) -> (Vec<String>, Vec<String>) {
    let serve = vec!["serve".to_owned(), address.to_owned()];
    let mut send = vec!["send".to_owned(), address.to_owned()];
    send.extend([bytes, messages, rounds].map(|count| count.to_string()));
    (serve, send)
}

/// Runs a bare command on a task of its own, so that two of them may have two threads.
fn spawn(bare: Arc<Command>, args: Vec<String>) -> oneshot::Receiver<anyhow::Result<String>> {
    let (ended, end) = oneshot::channel();
    TaskGroup::new().spawn("bare command", async move {
        // Nobody waits when the other one has failed.
        let _ = ended.send(bare.run(&args, Reach::Network).await);
    });
    end
}

/// The same by two threads of this process.
async fn native_pair([bytes, messages, rounds]: [u64; 3]) -> anyhow::Result<Vec<Timing>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server = tokio::task::spawn_blocking(move || meter::net::serve(&listener));
    let client = move || meter::net::send(address, bytes, messages, rounds);
    let told = tokio::task::spawn_blocking(client).await??;
    server.await??;
    Ok(told)
}

fn add(section: &mut Section, side: &'static str, timings: &[Timing]) {
    for timing in timings {
        let (what, value) = meter::figure(timing);
        section.add(what, side, value);
    }
}
