//! From bytes to an artifact: shared, cached, authenticated, refused in words.

use std::sync::Arc;

use wasmorch::api::image::Digest;
use wasmorch::errors::chain;
use wasmorch::runtime::{CompileLimits, Compiler, Role};

use super::bench::{Bench, container, files, run};
use super::guests::{ANSWER, HELLO, command, core, handler};

#[tokio::test(flavor = "multi_thread")]
async fn one_digest_is_compiled_once_and_found_again() {
    let bench = Bench::new();
    let wasm = wat::parse_str(core(HELLO)).unwrap();
    let digest = Digest::of(&wasm);
    assert!(!bench.runtime.is_loaded(&digest));
    let (first, second) = tokio::join!(bench.load(&wasm), bench.load(&wasm));
    let first = first.unwrap();
    assert!(Arc::ptr_eq(&first, &second.unwrap()));
    assert_eq!((first.role(), first.digest()), (Role::Command, &digest));
    assert!(bench.runtime.is_loaded(&digest));
    assert_eq!(bench.compiled().len(), 1);
    assert_eq!(bench.wat(&handler(ANSWER)).await.role(), Role::Handler);
    assert!(files(&bench.dir.path().join("cache"), "tmp").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_compiled_anew() {
    let bench = Bench::new();
    let wasm = wat::parse_str(core(HELLO)).unwrap();
    drop(bench.load(&wasm).await.unwrap());
    let compiled = bench.compiled().remove(0);
    let good = std::fs::read(&compiled).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    // A new file, for the old one may still be mapped into memory by the worker that is gone.
    std::fs::remove_file(&compiled).unwrap();
    std::fs::write(&compiled, bad).unwrap();
    // A worker that starts over on the same directory.
    let again = bench.restarted();
    let artifact = again.load(&wasm).await.unwrap();
    assert_eq!(std::fs::read(&compiled).unwrap().len(), good.len());
    let pod = again.pod("10.64.0.1");
    let (exit, log) = run(&pod, container("app", &[]), &artifact).await;
    assert_eq!((exit.code, log.text().as_str()), (0, "hello\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_in_words() {
    let bench = Bench::new();
    let importing = |interface: &str| {
        command("(i32.const 0)").replacen(
            "(component",
            &format!(r#"(component (import "{interface}" (instance (export "f" (func))))"#),
            1,
        )
    };
    let cases = [
        ("(module)".to_owned(), "exports no entry"),
        (core(HELLO).replace("fd_read", "fd_dance"), "fd_dance"),
        (
            core(HELLO).replacen("wasi_snapshot_preview1", "env", 1),
            "imports that nobody provides: env::fd_write",
        ),
        (
            importing("acme:billing/invoices@1.0.0"),
            "imports that nobody provides: acme:billing/invoices@1.0.0",
        ),
    ];
    for (text, words) in cases {
        let error = bench.load(&wat::parse_str(&text).unwrap()).await;
        let error = chain(&error.err().unwrap()).to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = bench.load(b"MZ no wasm at all").await.err().unwrap();
    assert!(chain(&error).to_string().contains("not a wasm file"));

    let path = bench.dir.path().join("other.wasm");
    std::fs::write(&path, wat::parse_str(core(HELLO)).unwrap()).unwrap();
    let error = bench.runtime.load(&Digest::of(b"other"), &path).await;
    assert!(error.err().unwrap().to_string().contains("have digest"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_dies_or_hangs_is_an_error_and_not_an_end() {
    for (program, words) in [("/bin/false", "the compiler stopped"), ("/bin/true", "")] {
        let bench = Bench::tuned(|tuning| {
            tuning.compiler = Compiler::Child(program.into());
            tuning.compile_limits = CompileLimits::default();
        });
        let wasm = wat::parse_str(core(HELLO)).unwrap();
        let error = bench.load(&wasm).await.err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
        assert!(bench.compiled().is_empty() || words.is_empty());
    }
}
