//! Other people's tests, unmodified, in pods.
//!
//! Runs every program of the directories in `WASMORCH_CONFORMANCE` (separated by `:`) in a pod of
//! its own, with the same specs that a worker makes, and prints a table; `docs/conformance.md` says
//! how to run it and what came of it. `WASMORCH_CONFORMANCE_ONLY` is a part of the names to run.
//!
//! Nothing is expected to fail. What a pod cannot have at all is *not applicable*, and the reason is
//! printed: an import nobody provides, or what the test's own `.json` says.

mod manifest;
mod operations;
mod pod;
mod report;
mod servers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use wasmorch::runtime::Error;
use wasmorch::runtime::artifact;

use self::manifest::Manifest;
use self::operations::Run;
use self::pod::Machine;
use self::report::{Report, Verdict};

/// How long one program may run; compiling it is not counted.
const BOUND: Duration = Duration::from_mins(1);
/// Programs at a time: compiling takes longer than running.
const AT_ONCE: usize = 2;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs WASMORCH_CONFORMANCE; see docs/conformance.md"]
async fn every_test_of_the_given_directories_passes_in_a_pod() {
    let Ok(directories) = std::env::var("WASMORCH_CONFORMANCE") else {
        panic!("WASMORCH_CONFORMANCE names no directories");
    };
    let machine = Arc::new(Machine::new());
    let mut reports = Vec::new();
    for directory in directories.split(':') {
        reports.push(run_all(&machine, Path::new(directory)).await);
    }
    for report in &reports {
        println!("{}", report.summary());
    }
    assert!(
        reports.iter().all(Report::is_good),
        "some tests failed in a pod"
    );
}

async fn run_all(machine: &Arc<Machine>, directory: &Path) -> Report {
    let only = std::env::var("WASMORCH_CONFORMANCE_ONLY").unwrap_or_default();
    let mut programs: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "wasm"))
        .filter(|path| path.to_string_lossy().contains(&only))
        .collect();
    programs.sort();
    let mut report = Report::new(directory);
    let mut verdicts = futures::stream::iter(programs)
        .map(async |program| {
            let verdict = judge(machine, &program).await;
            (program, verdict)
        })
        .buffered(AT_ONCE);
    while let Some((program, verdict)) = verdicts.next().await {
        report.add(&program, verdict);
    }
    report
}

/// Tests that ask for what a pod is not, where their own `.json` is not ours to write.
const NOT_APPLICABLE: [(&str, &str); 4] = [
    (
        "sock_shutdown-invalid_fd",
        "takes descriptor 3 for closed; in a pod it is `/`",
    ),
    (
        "http-request",
        "wants relative paths, which wasmtime 48's own types refuse",
    ),
    (
        "http-client-path-none",
        "wants requests without a path, which wasmtime 48's own types refuse",
    ),
    (
        "http-client-sent",
        "wants to be told of a request not sent; wasmtime 48's own types do not",
    ),
];

async fn judge(machine: &Arc<Machine>, program: &Path) -> Verdict {
    let name = program.file_stem().unwrap();
    if let Some((_, reason)) = NOT_APPLICABLE.iter().find(|(test, _)| *test == name) {
        return Verdict::NotApplicable((*reason).to_owned());
    }
    let manifest = match Manifest::of(program) {
        Ok(manifest) => manifest,
        Err(error) => return Verdict::NotApplicable(error),
    };
    if let Some(reason) = manifest.not_applicable() {
        return Verdict::NotApplicable(reason);
    }
    let loaded = machine.load(&std::fs::read(program).unwrap()).await;
    let artifact = match loaded {
        Ok(artifact) => artifact,
        Err(Error::Artifact(error)) => {
            return match &*error {
                artifact::Error::Imports(_) | artifact::Error::Program(_) => {
                    Verdict::NotApplicable(error.to_string())
                }
                _ => Verdict::Failed(error.to_string()),
            };
        }
        Err(error) => return Verdict::Failed(error.to_string()),
    };
    let mut run = Run::new(machine, &manifest, artifact);
    let verdict = match tokio::time::timeout(BOUND, run.perform()).await {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(reason)) => Verdict::Failed(format!("{reason}{}", run.output())),
        Err(_) => Verdict::Failed(format!("still runs after {BOUND:?}{}", run.output())),
    };
    run.close().await;
    verdict
}
