//! The committed guests are what their sources say: `prebuilt/SOURCES` names, for each, the hash of
//! the binary and of the files it was built from. Changing a guest without rebuilding it fails here,
//! and needs no wasm toolchain to be found out.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test, too")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use wasmorch::api::image::Digest;

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples")
}

fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).hex().to_owned()
}

/// What `build.sh` computes: `sha256sum` of each file, sorted by name, hashed again.
fn sources_hash(root: &Path, name: &str) -> String {
    let mut files = Vec::new();
    if root.join(name).join("Cargo.toml").exists() {
        files.extend(["Cargo.toml", "Cargo.lock"].map(PathBuf::from));
    }
    collect(root, Path::new(name), &mut files);
    files.sort_by_key(|path| path.to_string_lossy().into_owned());
    let mut listing = String::new();
    for path in files {
        let hash = sha256(&fs::read(root.join(&path)).unwrap());
        writeln!(listing, "{hash}  {}", path.display()).unwrap();
    }
    sha256(listing.as_bytes())
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(directory)).unwrap() {
        let entry = entry.unwrap();
        let path = directory.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, files);
        } else if !is_document(&path) {
            files.push(path);
        }
    }
}

/// What tells how to run a guest is not what it is built from.
fn is_document(path: &Path) -> bool {
    path.ends_with("README.md") || path.extension().is_some_and(|it| it == "yaml")
}

#[test]
fn prebuilt_guests_match_their_sources() {
    let root = guests();
    let sources = fs::read_to_string(root.join("prebuilt/SOURCES")).unwrap();
    for line in sources.lines() {
        let [name, binary, built_from] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("malformed line in SOURCES: {line}");
        };
        let wasm = fs::read(root.join(format!("prebuilt/{name}.wasm"))).unwrap();
        assert_eq!(
            sha256(&wasm),
            binary,
            "prebuilt/{name}.wasm is not the file that build.sh wrote"
        );
        assert_eq!(
            sources_hash(&root, name),
            built_from,
            "{name} changed: run guest-examples/build.sh and commit"
        );
    }
}

#[test]
fn every_prebuilt_guest_is_listed_and_holds_no_path_of_the_machine_that_built_it() {
    let root = guests();
    let sources = fs::read_to_string(root.join("prebuilt/SOURCES")).unwrap();
    for entry in fs::read_dir(root.join("prebuilt")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            sources
                .lines()
                .any(|line| line.starts_with(&format!("{name} "))),
            "{name} is not in SOURCES"
        );
        let wasm = fs::read(&path).unwrap();
        for private in [&b"/root/"[..], b"/home/"] {
            assert!(
                !wasm.windows(private.len()).any(|window| window == private),
                "{name} holds a private path"
            );
        }
    }
}
