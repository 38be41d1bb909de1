//! The rules of the house that a compiler does not know: who may use whom, how long a file may be,
//! that every file says why it exists, and that no test sleeps.
//!
//! The layers are drawn in `ARCHITECTURE.md`; [`ALLOWED`] is the same drawing as a table. A new edge
//! is a decision about the architecture: change both or neither.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test, too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// For each top-level module, the modules that it may name. The ground and `api` are open to all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("backoff", &[]),
    ("clock", &[]),
    ("errors", &[]),
    ("ids", &[]),
    ("replay", &[]),
    ("tasks", &[]),
    ("api", &["backoff"]),
    ("modules", &[]),
    ("store", &[]),
    ("registry", &["store"]),
    ("cloud", &["controllers", "registry"]),
    ("controllers", &["registry"]),
    ("scheduler", &["controllers", "registry"]),
    ("apiserver", &["registry", "modules", "store"]),
    ("client", &[]),
    ("runtime", &[]),
    ("router", &["client"]),
    ("worker", &["client", "router", "runtime"]),
    (
        "app",
        &[
            "apiserver",
            "client",
            "cloud",
            "cli",
            "controllers",
            "modules",
            "registry",
            "router",
            "runtime",
            "scheduler",
            "store",
            "worker",
        ],
    ),
    ("cli", &["app", "client", "modules", "router", "runtime"]),
];

const GROUND: &[&str] = &[
    "api", "backoff", "clock", "errors", "ids", "replay", "tasks",
];

/// Lines of code per file, in-file tests not counted.
const SPLIT_AT: usize = 400;
/// Lines per file, everything counted.
const NEVER_PASS: usize = 600;

fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn shown(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .display()
        .to_string()
}

/// The part before the in-file tests.
fn code(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests")
        .map_or(text, |start| &text[..start])
}

/// The lines that are tests, with their numbers: all of a file of tests, or the in-file ones.
fn tests<'a>(path: &Path, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let is_of_tests = shown(path)
        .split(['/', '.'])
        .any(|part| part == "tests" || part.ends_with("_tests"));
    let lines_of_code = if is_of_tests {
        0
    } else {
        code(text).lines().count()
    };
    text.lines().enumerate().skip(lines_of_code)
}

fn refuse(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// The top-level module that a source file belongs to.
fn room(path: &Path) -> Option<String> {
    let inside = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let first = inside
        .components()
        .next()?
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    let name = first.trim_end_matches(".rs").to_owned();
    (name != "main" && name != "lib").then_some(name)
}

/// Every `crate::x` in the code, in `use` lines (also grouped ones) and in paths.
fn named_rooms(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for line in code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
    {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            if line[..at].ends_with('$') {
                continue;
            }
            let names = match rest.strip_prefix('{') {
                Some(group) => group
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect(),
                None => vec![rest.to_owned()],
            };
            for name in names {
                let end = name
                    .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
                    .unwrap_or(name.len());
                if end > 0 {
                    rooms.insert(name[..end].to_owned());
                }
            }
        }
    }
    rooms
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let mut found = Vec::new();
    for path in rust_files("src") {
        let Some(room) = room(&path) else { continue };
        let text = fs::read_to_string(&path).unwrap();
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == room) else {
            found.push(format!(
                "{} belongs to no layer: add `{room}` to the table",
                shown(&path)
            ));
            continue;
        };
        for named in named_rooms(code(&text)) {
            let known = ALLOWED.iter().any(|(name, _)| *name == named);
            let ground = GROUND.contains(&named.as_str()) && (room != "api" || named == "api");
            if known && named != room && !ground && !allowed.contains(&named.as_str()) {
                found.push(format!("{} uses crate::{named}", shown(&path)));
            }
        }
    }
    refuse("edges that the architecture does not have", &found);
}

#[test]
fn every_file_says_why_it_exists() {
    let silent: Vec<String> = rust_files("src")
        .into_iter()
        .chain(rust_files("tests"))
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| shown(&path))
        .collect();
    refuse("files without a `//!` head", &silent);
}

#[test]
fn files_stay_short_enough_to_read() {
    let mut long = Vec::new();
    for path in rust_files("src") {
        let text = fs::read_to_string(&path).unwrap();
        let (own, all) = (code(&text).lines().count(), text.lines().count());
        if own > SPLIT_AT || all > NEVER_PASS {
            long.push(format!(
                "{} has {own} lines of code, {all} in all",
                shown(&path)
            ));
        }
    }
    for path in rust_files("tests") {
        let all = fs::read_to_string(&path).unwrap().lines().count();
        if all > NEVER_PASS {
            long.push(format!("{} has {all} lines", shown(&path)));
        }
    }
    refuse("files to split by idea", &long);
}

#[test]
fn modules_are_files_beside_their_folders() {
    let found: Vec<String> = rust_files("src")
        .iter()
        .filter(|path| path.ends_with("mod.rs"))
        .map(|path| shown(path))
        .collect();
    refuse("`mod.rs` files", &found);
}

#[test]
fn no_module_is_an_attic() {
    let attic = [
        "utils", "util", "common", "helpers", "helper", "misc", "types",
    ];
    let found: Vec<String> = rust_files("src")
        .iter()
        .filter(|path| attic.contains(&path.file_stem().unwrap().to_string_lossy().as_ref()))
        .map(|path| shown(path))
        .collect();
    refuse("modules named for nothing", &found);
}

#[test]
fn tests_wait_for_states_and_never_sleep() {
    let mut found = Vec::new();
    let outside = rust_files("tests").into_iter();
    let inside = rust_files("src").into_iter();
    for path in inside.chain(outside.filter(|path| !path.ends_with("tidy.rs"))) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in tests(&path, &text) {
            if line.contains("thread::sleep(") || line.contains("time::sleep(") {
                found.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    refuse("tests that sleep", &found);
}

#[test]
fn nothing_is_left_to_do_silently() {
    let mut found = Vec::new();
    for path in rust_files("src") {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in code(&text).lines().enumerate() {
            if ["todo!(", "unimplemented!(", "filter_map(Result::ok)"]
                .iter()
                .any(|word| line.contains(word))
            {
                found.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    refuse("stubs, and errors that shrink the world", &found);
}
