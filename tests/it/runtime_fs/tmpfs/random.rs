//! Sequences of file operations that nobody thought of, on both filesystems.
//!
//! The same operations in the same order on every run, and a bound on their time. They are played so
//! deep below the root that no path leads out: a path has four names, a link's target one `..`, and forty
//! links is all that is followed. What is left out because WASI has no word for it is told where it
//! is left out.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::{Kernel, Ours, Outcome, number};

const DEPTH: usize = 48;
const BUDGET: Duration = Duration::from_secs(8);

/// A path of up to four names.
fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => Just("a"),
        8 => Just("b"),
        6 => Just("c"),
        2 => Just("."),
        3 => Just(".."),
        1 => Just("L255"),
        1 => Just("L256"),
    ];
    let names = prop::collection::vec(name, 1..4);
    let slash = prop_oneof![9 => Just("/"), 1 => Just("//")];
    let end = prop_oneof![6 => Just(""), 1 => Just("/")];
    (names, slash, end).prop_map(|(names, slash, end)| {
        let path = names.join(slash);
        // Which of two things that are wrong is told is nobody's promise.
        let end = if path.ends_with("L256") { "" } else { end };
        path + end
    })
}

/// The same without a slash at its end.
fn bare() -> impl Strategy<Value = String> {
    path().prop_map(|path| path.trim_end_matches('/').to_owned())
}

fn target() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a", "b", "c", "a/b", "b/a/", "./c", "..", "../a", "../b/c", ".", "none",
    ])
}

/// Not a directory that is made by opening, nor one that is emptied by reading: WASI refuses the first,
/// as new kernels do, and POSIX leaves the second open. Nor one that is made only to be read.
fn letters() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "r", "w", "rw", "rn", "rd", "rdn", "wc", "rwc", "wct", "rwcx", "wcx", "wt", "rwt", "rwn",
        "wcn", "wd",
    ])
}

fn held() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["h", "i", "j"])
}

fn line() -> impl Strategy<Value = String> {
    let at = || prop_oneof![0..20_u64, 4000..9000_u64, Just(5_000_000_000)];
    let one = |operation: &'static str| path().prop_map(move |path| format!("{operation} {path}"));
    let two = |operation: &'static str| {
        // Which of two things that are wrong is told is nobody's promise.
        let short = || path().prop_filter("too long", |path| !path.contains("L256"));
        (short(), short()).prop_map(move |(from, to)| format!("{operation} {from} {to}"))
    };
    let changes = prop_oneof![
        6 => one("mkdir"),
        2 => one("rmdir"),
        2 => one("unlink"),
        5 => two("rename"),
        // A slash after the name of a link to be made is refused as WASI's own tests want it.
        3 => (path(), bare()).prop_filter("too long", |(from, to)| !format!("{from}{to}").contains("L256"))
            .prop_map(|(from, to)| format!("link {from} {to}")),
        4 => (target(), bare()).prop_map(|(target, path)| format!("symlink {target} {path}")),
        2 => one("make"),
        3 => path().prop_map(|path| format!("write {path} text")),
        1 => (path(), 0..30_u64).prop_map(|(path, to)| format!("truncate {path} {to}")),
        1 => (path(), 1..1000_u64).prop_map(|(path, at)| format!("touch {path} {at}")),
    ];
    let looks = prop_oneof![
        2 => one("read"),
        2 => one("list"),
        2 => one("stat"),
        2 => one("follow"),
        1 => one("readlink"),
        1 => one("age"),
    ];
    let opened = prop_oneof![
        3 => (held(), path(), letters())
            .prop_map(|(name, path, letters)| format!("open {name} {path} {letters}")),
        1 => held().prop_map(|name| format!("close {name}")),
        1 => (held(), at()).prop_map(|(name, at)| format!("pwrite {name} {at} text")),
        1 => held().prop_map(|name| format!("append {name} more")),
        1 => (held(), at()).prop_map(|(name, at)| format!("pread {name} {at}")),
        1 => (held(), at()).prop_map(|(name, to)| format!("resize {name} {to}")),
        1 => held().prop_map(|name| format!("size {name}")),
        1 => held().prop_map(|name| format!("names {name}")),
    ];
    prop_oneof![5 => changes, 3 => looks, 3 => opened]
}

fn play(lines: &[String]) -> Result<(), TestCaseError> {
    let (mut kernel, mut ours) = (Kernel::new(), Ours::new());
    let mut below = String::new();
    for _ in 0..DEPTH {
        let made = ["mkdir", &format!("{below}p")];
        kernel.apply(&made).unwrap();
        ours.apply(&made).unwrap();
        below += "p/";
    }
    let [fits, long] = [255, 256].map(|length| "n".repeat(length));
    let mut told = Vec::new();
    for line in lines {
        let words: Vec<String> = line
            .split(' ')
            .enumerate()
            .map(|(index, word)| {
                let is_path = is_path(line, index);
                let word = word.replace("L255", &fits).replace("L256", &long);
                if is_path {
                    format!("{below}{word}")
                } else {
                    word
                }
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let got: Outcome = ours.apply(&words).map_err(number);
        let expected: Outcome = kernel
            .apply(&words)
            .map_err(rustix::io::Errno::raw_os_error);
        told.push(format!("{line}: {got:?}"));
        prop_assert_eq!(&got, &expected, "ours, tmpfs'; after\n{}", told.join("\n"));
    }
    Ok(())
}

/// Whether a word of a line, by its index, is a path that begins at the start.
fn is_path(line: &str, index: usize) -> bool {
    match line.split(' ').next().unwrap_or_default() {
        "rename" | "link" => index > 0,
        "symlink" | "open" => index == 2,
        "close" | "pwrite" | "append" | "pread" | "resize" | "size" | "names" => false,
        _ => index == 1,
    }
}

#[test]
fn random_operations_behave_as_on_tmpfs() {
    let config = Config {
        cases: 600,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let started = Instant::now();
    let played = runner.run(&prop::collection::vec(line(), 1..100), |lines| {
        // Fewer on a slow machine, never others.
        if started.elapsed() > BUDGET {
            return Ok(());
        }
        play(&lines)
    });
    match played {
        Ok(()) => {}
        Err(TestError::Fail(why, _)) => panic!("{why}"),
        Err(error) => panic!("{error}"),
    }
}
