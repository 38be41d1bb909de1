//! What `inspect` promises, case by case.

use super::*;

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn commands_and_handlers_are_told_apart() {
    let start = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1) (func (export "_start")))"#;
    let found = inspect(&wat(start)).unwrap();
    assert_eq!(
        (found.format, found.role, found.wasi),
        (Format::CoreModule, Role::Command, Some(Wasi::V0_1))
    );
    assert_eq!(found.imports, ["wasi_snapshot_preview1"]);

    let handler = r#"(component (import "wasi:io/poll@0.2.3" (instance))
        (instance $empty) (export "wasi:http/incoming-handler@0.2.3" (instance $empty)))"#;
    let found = inspect(&wat(handler)).unwrap();
    assert_eq!(
        (found.format, found.role, found.wasi),
        (Format::Component, Role::Handler, Some(Wasi::V0_2))
    );

    let run = r#"(component (instance $empty) (export "wasi:cli/run@0.3.0" (instance $empty)))"#;
    let found = inspect(&wat(run)).unwrap();
    assert_eq!((found.role, found.wasi), (Role::Command, Some(Wasi::V0_3)));
}

#[test]
fn each_refusal_has_its_own_code() {
    let cases = [
        (
            r#"(module (import "__wbindgen_placeholder__" "x" (func)))"#,
            "W0101",
        ),
        (
            r#"(component (import "acme:billing/ledger@1.0.0" (instance)))"#,
            "W0103",
        ),
        (r#"(module (import "gojs" "x" (func)))"#, "W0103"),
        (
            r#"(module (import "wasi_snapshot_preview1" "sock_open" (func)))"#,
            "W0103",
        ),
        (r#"(module (import "env" "emscripten_x" (func)))"#, "W0107"),
        ("(module (memory 1 2 shared))", "W0108"),
        (
            r#"(module (import "wasi:http/types@0.2.0" "x" (func)))"#,
            "W0111",
        ),
        (r#"(module (func (export "add")))"#, "W0110"),
        ("(component)", "W0110"),
    ];
    for (text, code) in cases {
        let refusal = inspect(&wat(text)).unwrap_err();
        assert_eq!(refusal.code(), code, "{text}: {refusal:?}");
    }
}

#[test]
fn damage_is_found_wherever_the_file_is_cut() {
    let whole = wat(r#"(module (memory 1) (data (i32.const 0) "abc") (func (export "_start")))"#);
    for length in 1..whole.len() {
        // A cut exactly between sections may leave a smaller but whole module without `_start`.
        let refusal = inspect(&whole[..length]).err();
        assert!(
            refusal.is_some() || whole[length..].windows(3).any(|cut| cut == b"abc"),
            "cut at {length} passes"
        );
    }
    assert!(matches!(
        inspect(&whole[..whole.len() - 1]),
        Err(Refusal::Invalid { .. })
    ));
}
