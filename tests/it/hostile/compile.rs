//! Modules that keep the compiler busy: it is ended at its limits, and others are compiled meanwhile.

use std::time::Duration;

use wasmorch::errors::chain;
use wasmorch::runtime::Compiler;

use crate::runtime_pods::bench::{Bench, within};
use crate::runtime_pods::guests::{HELLO, core};

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    [&[id], leb(contents.len()).as_slice(), contents].concat()
}

/// A program whose `_start` computes a million products in a row, as often as `functions` says; `seed`
/// makes it another module.
fn bomb(functions: usize, seed: u8) -> Vec<u8> {
    // One local of 64 bits, which is multiplied with itself.
    let mut code = vec![1, 1, 0x7e];
    code.extend([0x20, 0, 0x20, 0, 0x7e, 0x21, 0].repeat(1_000_000));
    code.extend([0x42, seed & 0x3f, 0x21, 0, 0x0b]);
    let body = [leb(code.len()), code].concat();
    let mut bodies = leb(functions);
    (0..functions).for_each(|_| bodies.extend(&body));
    let kinds = [leb(functions), vec![0; functions]].concat();
    [
        b"\0asm\x01\0\0\0".as_slice(),
        &section(1, &[1, 0x60, 0, 0]),
        &section(3, &kinds),
        &section(7, &[&[1, 6], b"_start".as_slice(), &[0, 0]].concat()),
        &section(10, &bodies),
    ]
    .concat()
}

fn compiler() -> Compiler {
    Compiler::Child(env!("CARGO_BIN_EXE_wasmorch").into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_computes_too_long_is_ended_and_that_is_said() {
    let bench = Bench::tuned(|tuning| {
        tuning.compiler = compiler();
        tuning.compile_limits.cpu = Duration::from_secs(1);
    });
    let error = within(bench.load(&bomb(4, 0))).await.err().unwrap();
    let words = chain(&error).to_string();
    assert!(error.is_compile_timeout(), "{words}");
    assert!(words.contains("more than 1s of CPU time"), "{words}");
    let bench = Bench::tuned(|tuning| {
        tuning.compiler = compiler();
        tuning.compile_limits.memory_bytes = 100 << 20;
    });
    let error = within(bench.load(&bomb(4, 0))).await.err().unwrap();
    let words = chain(&error).to_string();
    assert!(!error.is_compile_timeout(), "{words}");
    assert!(words.contains("the compiler stopped"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_to_compile_does_not_hold_up_the_others() {
    let bench = Bench::tuned(|tuning| {
        tuning.compiler = compiler();
        tuning.compile_concurrency = 1;
        tuning.compile_patience = Duration::from_secs(1);
    });
    let bombs = [bomb(6, 1), bomb(6, 2)];
    let mut slow = Box::pin(async { tokio::join!(bench.load(&bombs[0]), bench.load(&bombs[1])) });
    assert!(futures::poll!(&mut slow).is_pending());
    let ordinary = wat::parse_str(core(HELLO)).unwrap();
    tokio::select! {
        loaded = within(bench.load(&ordinary)) => drop(loaded.unwrap()),
        _ = &mut slow => unreachable!("they are compiled in minutes"),
    }
}
