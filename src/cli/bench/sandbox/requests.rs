//! What a request, a first response and a cold start cost, called as functions: no sockets, one
//! caller, one thread.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::BodyExt as _;

use super::bare::{self, Command, Reach, Version};
use super::figure::{Better, OURS, Section, What};
use super::pods::{Pods, Wasm, Words, container};
use crate::cli::bench::stats::percentile;
use crate::runtime::http::{Body, Handler};
use crate::runtime::{Artifact, PodSandbox};

const PORT: u16 = 8080;
const URI: &str = "http://bench/";
const PEER: &str = "bare wasmtime";
/// Requests, and pods, of one side in one round.
const REQUESTS: u64 = 10_000;
const PODS: u64 = 100;

const HANDLERS: [(&str, Version); 2] = [("hello-http", Version::P2), ("hello-wasip3", Version::P3)];

fn what<'a>(name: &'a str, unit: &'static str) -> What<'a> {
    What {
        name,
        unit,
        better: Better::Less,
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What our handler adds to a request: an instance for each on both sides.
pub(super) async fn requests(pairs: u32, size: u64) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "Requests",
        "a handler called in-process, an instance for each request, same pool settings (G11)",
    );
    let directory = tempfile::tempdir()?;
    let pods = Pods::new(&directory.path().join("cache"))?;
    let count = (REQUESTS * size / 100).max(1);
    for (name, version) in HANDLERS {
        let wasm = Wasm::of(name, directory.path())?;
        let pod = pods.pod()?;
        let handler = serve(&pod, &pods.load(&wasm).await?)?;
        let engine = bare::handlers(version)?;
        let peer = bare::Handler::compile(&engine, version, &wasm.bytes)?;
        let title = match version {
            Version::P2 => "wasi:http 0.2 request",
            Version::P3 => "wasi:http 0.3 request",
        };
        // The first ones fault pages in, on both sides.
        get(&handler).await?;
        peer.get(URI).await?;
        for _ in 0..pairs {
            let since = Instant::now();
            for _ in 0..count {
                get(&handler).await?;
            }
            let ours = micros(since.elapsed()) / count as f64;
            let since = Instant::now();
            for _ in 0..count {
                peer.get(URI).await?;
            }
            let bare = micros(since.elapsed()) / count as f64;
            section.add(what(title, "µs"), OURS, ours);
            section.add(what(title, "µs"), PEER, bare);
        }
        pod.close().await;
    }
    Ok(section)
}

/// How long it takes until something answers, from less and less that is there already.
pub(super) async fn starts(pairs: u32, size: u64) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "Starts",
        "a pod is sandbox, files, network and container; bare is an instance alone",
    );
    let directory = tempfile::tempdir()?;
    let wasm = Wasm::of("hello-http", directory.path())?;
    let program = Wasm::of("meter", directory.path())?;
    let count = (PODS * size / 100).max(2);
    warm(
        &mut section,
        &wasm,
        &program,
        directory.path(),
        pairs,
        count,
    )
    .await?;
    for _ in 0..pairs {
        cold(&mut section, &wasm).await?;
    }
    Ok(section)
}

async fn warm(
    section: &mut Section,
    wasm: &Wasm,
    program: &Wasm,
    directory: &Path,
    pairs: u32,
    count: u64,
) -> anyhow::Result<()> {
    let pods = Pods::new(&directory.join("cache"))?;
    let handler = pods.load(wasm).await?;
    let command = pods.load(program).await?;
    let engine = bare::handlers(Version::P2)?;
    let peer = bare::Handler::compile(&engine, Version::P2, &wasm.bytes)?;
    let peer_command = Command::compile(&program.bytes)?;
    for _ in 0..pairs {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        let (mut our_ends, mut bare_ends) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let since = Instant::now();
            let pod = pods.pod()?;
            get(&serve(&pod, &handler)?).await?;
            ours.push(since.elapsed());
            pod.close().await;
        }
        for _ in 0..count {
            let since = Instant::now();
            peer.get(URI).await?;
            bare.push(since.elapsed());
        }
        for _ in 0..count {
            let since = Instant::now();
            let pod = pods.pod()?;
            Pods::run(&pod, &command, "meter", &[]).await?;
            our_ends.push(since.elapsed());
            pod.close().await;
        }
        for _ in 0..count {
            let since = Instant::now();
            peer_command.run(&[], Reach::Nothing).await?;
            bare_ends.push(since.elapsed());
        }
        for (percent, fraction) in [("p50", 0.5), ("p99", 0.99)] {
            let names = ["pod to first response", "pod to a command's end"];
            let [response, end] = names.map(|name| format!("{name}, {percent}"));
            section.add(
                what(&response, "µs"),
                OURS,
                micros(percentile(&mut ours, fraction)),
            );
            section.add(
                what(&response, "µs"),
                PEER,
                micros(percentile(&mut bare, fraction)),
            );
            section.add(
                what(&end, "µs"),
                OURS,
                micros(percentile(&mut our_ends, fraction)),
            );
            section.add(
                what(&end, "µs"),
                PEER,
                micros(percentile(&mut bare_ends, fraction)),
            );
        }
    }
    Ok(())
}

/// A process' first pod: engines, threads, code and all, from bytes and then from the cache.
async fn cold(section: &mut Section, wasm: &Wasm) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let code = directory.path().join("bare.cwasm");
    for name in ["cold start from bytes", "cold start from compiled code"] {
        let since = Instant::now();
        let pods = Pods::new(&directory.path().join("cache"))?;
        let artifact = pods.load(wasm).await?;
        let pod = pods.pod()?;
        get(&serve(&pod, &artifact)?).await?;
        section.add(what(name, "ms"), OURS, micros(since.elapsed()) / 1e3);
        pod.close().await;
        drop((pod, artifact, pods));
        let since = Instant::now();
        let engine = bare::handlers(Version::P2)?;
        let peer = if code.exists() {
            bare::Handler::map(&engine, Version::P2, &code)?
        } else {
            bare::Handler::compile(&engine, Version::P2, &wasm.bytes)?
        };
        peer.get(URI).await?;
        section.add(what(name, "ms"), PEER, micros(since.elapsed()) / 1e3);
        if !code.exists() {
            std::fs::write(&code, engine.precompile_component(&wasm.bytes)?)?;
        }
    }
    Ok(())
}

/// Starts a handler's container.
pub(super) fn serve(
    pod: &Arc<PodSandbox>,
    artifact: &Arc<Artifact>,
) -> anyhow::Result<Arc<Handler>> {
    let log = Arc::new(Words::default());
    pod.start(container("web", &[]), Arc::clone(artifact), log)?;
    pod.http_handler(PORT)
        .context("the handler does not answer")
}

/// One request, read to its end.
pub(super) async fn get(handler: &Arc<Handler>) -> anyhow::Result<usize> {
    let request = http::Request::get(URI).body(Body::empty())?;
    let response = handler.call(request).await?;
    anyhow::ensure!(response.status() == 200, "answered {}", response.status());
    Ok(response.into_body().collect().await?.to_bytes().len())
}
