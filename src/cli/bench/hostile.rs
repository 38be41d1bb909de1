//! A handler's latency beside guests that take all they can get, on the same worker.
//!
//! Each attack is a program of a few bytes, made here, so that nothing has to be installed; those that
//! need a component (sockets, handles, responses without end) are tests only. The handler
//! is measured quiet and under attack turn by turn, straight at its worker's wire: what a router adds
//! is the same in both. The aim is a p99 of at most twice the quiet one. An attack is measured when it
//! has had the second of CPU that every container may take to start.

use std::time::{Duration, Instant};

use anstream::println;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::raw::Until;
use super::rest::Rest;
use super::{Sample, Target, guest, pods, stats};
use crate::tasks::TaskGroup;

const START: Duration = Duration::from_secs(30);
const SETTLED: Duration = Duration::from_secs(2);
const POD: &str = "/api/v1/namespaces/default/pods/bench-hostile";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Keep-alive connections to the handler.
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1024))]
    connections: u64,
    /// Seconds per measurement.
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds; each attack is measured once in each.
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=50))]
    pairs: u64,
}

/// A program that wants too much.
struct Attack {
    name: &'static str,
    what: &'static str,
    wasm: Vec<u8>,
    quiet: Vec<Sample>,
    attacked: Vec<Sample>,
    /// What the container came to.
    state: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let cluster = args.target.open()?;
    let tasks = TaskGroup::new();
    let mut api = Rest::api(&cluster, &tasks).await?;
    api.forget(POD).await?;
    let (handler, node) = guest::deploy_one(&cluster, &mut api).await?;
    let until = Until::Elapsed(Duration::from_secs(args.seconds));
    let mut attacks = attacks();
    for _ in 0..args.pairs {
        for attack in &mut attacks {
            attack
                .quiet
                .push(handler.load(args.connections, until).await?);
            start(&mut api, attack, &node).await?;
            tokio::time::sleep(SETTLED).await;
            attack
                .attacked
                .push(handler.load(args.connections, until).await?);
            attack.state = state(&api.get(POD).await?);
            api.forget(POD).await?;
            pods::until_gone(&mut api, POD).await?;
        }
    }
    println!(
        "GET of a wasm handler over {} connections beside one hostile pod on its worker, {} × {} s each, turn by turn",
        args.connections, args.pairs, args.seconds
    );
    for attack in &attacks {
        println!(
            "{}: {}; its container: {}",
            attack.name, attack.what, attack.state
        );
        stats::print_side("quiet", &attack.quiet);
        stats::print_side("under attack", &attack.attacked);
        stats::print_tail_ratio("p99 under attack to quiet", &attack.attacked, &attack.quiet);
    }
    api.forget(guest::DEPLOYMENT).await?;
    api.forget(guest::SERVICE).await
}

async fn start(api: &mut Rest, attack: &Attack, node: &str) -> anyhow::Result<()> {
    let module = format!("bench-{}", attack.name);
    api.push(&module, Bytes::from(attack.wasm.clone())).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bench-hostile"},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": module, "resources": {"limits": {"memory": "64Mi"}}}],
        },
    });
    api.json(Method::POST, "/api/v1/namespaces/default/pods", &pod)
        .await?;
    let deadline = Instant::now() + START;
    loop {
        let pod = api.get(POD).await?;
        if pod["status"]["containerStatuses"][0]["started"] == true {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "{module} does not start: {}",
            pod["status"]
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Running, or how it ended.
fn state(pod: &Value) -> String {
    let status = &pod["status"]["containerStatuses"][0];
    for terminated in [
        &status["state"]["terminated"],
        &status["lastState"]["terminated"],
    ] {
        if let Some(reason) = terminated["reason"].as_str() {
            return format!(
                "{reason} ({})",
                terminated["message"].as_str().unwrap_or_default()
            );
        }
    }
    "running".to_owned()
}

fn attacks() -> Vec<Attack> {
    let attack = |name, what, wasm| Attack {
        name,
        what,
        wasm,
        quiet: Vec::new(),
        attacked: Vec::new(),
        state: String::new(),
    };
    vec![
        attack("spin", "a loop without end", module(None, &[])),
        // memory.grow by 16 pages, whatever it gives.
        attack(
            "grow",
            "takes memory for ever",
            module(None, &[0x41, 16, 0x40, 0, 0x1a]),
        ),
        attack(
            "random",
            "random bytes for ever, 64 KiB a call",
            module(
                Some(("random_get", 2)),
                // random_get(0, 65535)
                &[0x41, 0, 0x41, 0xff, 0xff, 3, 0x10, 0, 0x1a],
            ),
        ),
        // The function calls itself, which ends it; it is started again with a growing back-off.
        attack(
            "recursion",
            "a call of itself without end",
            module(None, &[0x10, 0]),
        ),
        attack(
            "timers",
            "600 timers at a time that are over at once",
            module(
                Some(("poll_oneoff", 4)),
                // poll_oneoff(0, 32768, 600, 60000): all zeros are timers of no length.
                &[
                    0x41, 0, 0x41, 0x80, 0x80, 2, 0x41, 0xd8, 4, 0x41, 0xe0, 0xd4, 3, 0x10, 0, 0x1a,
                ],
            ),
        ),
        attack(
            "flood",
            "output for ever, 60 kB a call",
            module(
                Some(("fd_write", 4)),
                // One buffer of 60,000 bytes from 0 on; fd_write(1, 0, 1, 8).
                &[
                    0x41, 4, 0x41, 0xe0, 0xd4, 3, 0x36, 2, 0, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8,
                    0x10, 0, 0x1a,
                ],
            ),
        ),
    ]
}

/// A WASI 0.1 program that does `code` for ever, with one page of memory and at most one import of
/// so many `i32`.
fn module(import: Option<(&str, usize)>, code: &[u8]) -> Vec<u8> {
    let mut types = vec![1 + u8::from(import.is_some()), 0x60, 0, 0];
    let mut imports = Vec::new();
    if let Some((name, parameters)) = import {
        types.extend([0x60, parameters as u8]);
        types.extend(std::iter::repeat_n(0x7f, parameters));
        types.extend([1, 0x7f]);
        imports.push(1);
        for text in ["wasi_snapshot_preview1", name] {
            imports.push(text.len() as u8);
            imports.extend(text.as_bytes());
        }
        imports.extend([0, 1]);
    }
    let start = u8::from(import.is_some());
    let mut exports = vec![2, 6];
    exports.extend(b"memory");
    exports.extend([2, 0, 6]);
    exports.extend(b"_start");
    exports.extend([0, start]);
    // No locals; loop { code; br 0 }.
    let mut body = vec![0, 3, 0x40];
    body.extend(code);
    body.extend([0x0c, 0, 0x0b, 0x0b]);
    let mut bodies = vec![1, body.len() as u8];
    bodies.extend(body);
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    let sections = [
        (1, types),
        (2, imports),
        (3, vec![1, 0]),
        (5, vec![1, 0, 1]),
        (7, exports),
        (10, bodies),
    ];
    for (id, contents) in sections {
        // All are shorter than 128 bytes, so that their length is one byte.
        if !contents.is_empty() {
            wasm.extend([id, contents.len() as u8]);
            wasm.extend(contents);
        }
    }
    wasm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attacks_are_valid_programs() {
        let engine = wasmtime::Engine::default();
        for attack in attacks() {
            let valid = wasmtime::Module::validate(&engine, &attack.wasm);
            assert!(valid.is_ok(), "{}: {valid:?}", attack.name);
        }
    }

    #[test]
    fn a_container_that_came_back_tells_its_last_end() {
        let pod = json!({"status": {"containerStatuses": [{
            "state": {"running": {}},
            "lastState": {"terminated": {"reason": "OOMKilled", "message": "memory limit 64Mi"}},
        }]}});
        assert_eq!(state(&pod), "OOMKilled (memory limit 64Mi)");
        assert_eq!(state(&json!({})), "running");
    }
}
