//! Files that are made to hurt: each is refused or taken, in bounded time, and none ends the server.

use proptest::prelude::*;

use super::*;

const PREBUILT: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/guest-examples/prebuilt/hello-http.wasm"
));

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    [&[id], leb(contents.len()).as_slice(), contents].concat()
}

fn component(sections: &[u8]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0", sections].concat()
}

/// So many components in each other, the innermost first.
fn nested_components(depth: usize) -> Vec<u8> {
    // Written backwards, because copying each into the next takes the square of the depth.
    let mut backwards = Vec::new();
    for level in 0..depth {
        if level > 0 {
            backwards.extend(leb(backwards.len()).into_iter().rev());
            backwards.push(4);
        }
        backwards.extend(b"\0asm\x0d\0\x01\0".iter().rev());
    }
    backwards.reverse();
    backwards
}

/// A component with one type in which so many lie in each other.
fn nested_types(kind: u8, depth: usize) -> Vec<u8> {
    let mut types = vec![1];
    for _ in 1..depth {
        types.extend([kind, 1, 1]);
    }
    types.extend([kind, 0]);
    component(&section(7, &types))
}

fn functions(count: usize) -> Vec<u8> {
    let mut kinds = leb(count);
    kinds.resize(kinds.len() + count, 0);
    let mut bodies = leb(count);
    bodies.extend([2, 0, 0x0b].repeat(count));
    [
        b"\0asm\x01\0\0\0".as_slice(),
        &section(1, &[1, 0x60, 0, 0]),
        &section(3, &kinds),
        &section(10, &bodies),
    ]
    .concat()
}

fn code(bytes: &[u8]) -> &'static str {
    inspect(bytes).map_or_else(|refusal| refusal.code(), |_| "taken")
}

#[test]
fn what_is_nested_deep_is_refused_before_it_is_validated() {
    assert_eq!(code(&nested_components(MAX_NESTING)), "W0110");
    assert_eq!(code(&nested_components(MAX_NESTING + 1)), "W0113");
    for depth in [40_000, 1_000_000] {
        assert_eq!(code(&nested_components(depth)), "W0113", "{depth}");
    }
    for kind in [0x41, 0x42] {
        assert_eq!(code(&nested_types(kind, 3)), "W0110");
        assert_eq!(code(&nested_types(kind, MAX_NESTING + 1)), "W0113");
        assert_eq!(code(&nested_types(kind, 1_000_000)), "W0113");
        // Also where another component lies around them.
        let inner = nested_types(kind, 1_000_000);
        assert_eq!(code(&component(&section(4, &inner))), "W0113");
    }
}

#[test]
fn sizes_and_counts_that_lie_are_refused() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let core = b"\0asm\x01\0\0\0".as_slice();
    let with = |start: &[u8], rest: &[&[u8]]| [start, &rest.concat()].concat();
    let cases = [
        ("a section of 4 GiB", with(core, &[&[1], &huge])),
        ("a custom section of 4 GiB", with(core, &[&[0], &huge])),
        ("a component's", with(&component(&[]), &[&[7], &huge])),
        ("4 G types", with(core, &[&section(1, &huge)])),
        ("4 G components' types", component(&section(7, &huge))),
        (
            "4 G declarations",
            component(&section(7, &with(&[1, 0x42], &[&huge]))),
        ),
        (
            "a name of 4 GiB",
            with(core, &[&section(7, &with(&[1], &[&huge]))]),
        ),
        (
            "a body of 4 GiB",
            with(core, &[&section(10, &with(&[1], &[&huge]))]),
        ),
    ];
    for (what, bytes) in cases {
        assert_eq!(code(&bytes), "W0109", "{what}");
    }
    // The most that wasmparser takes, and one more.
    assert_eq!(code(&functions(1_000_000)), "W0110");
    assert_eq!(code(&functions(1_000_001)), "W0109");
}

#[test]
fn a_program_that_is_cut_short_is_refused_wherever_the_cut_is() {
    assert_eq!(code(PREBUILT), "taken");
    let small = wat::parse_str(
        r#"(component (core module $m (memory (export "m") 1) (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $r (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $r)))"#,
    )
    .unwrap();
    assert_eq!(code(&small), "taken");
    for length in 0..small.len() {
        // Behind the last export are names for debuggers, which nothing needs.
        let has_all_but_names = small[length..].windows(4).any(|name| name == b"name");
        let cut = code(&small[..length]);
        assert!(cut != "taken" || has_all_but_names, "{length}: {cut}");
    }
    for length in (0..PREBUILT.len()).step_by(997) {
        code(&PREBUILT[..length]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Up to a dozen bytes are something else; most of them at the beginning, where structure is.
    #[test]
    fn a_damaged_program_is_refused_or_taken_and_nothing_panics(
        changes in prop::collection::vec((0..PREBUILT.len(), any::<u8>(), 0..7_u32), 1..12),
    ) {
        let mut bytes = PREBUILT.to_vec();
        for (at, byte, shift) in changes {
            bytes[at >> shift] = byte;
        }
        let _ = inspect(&bytes);
    }

    #[test]
    fn bytes_behind_a_head_are_refused_or_taken_and_nothing_panics(
        is_component: bool,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let head = if is_component { b"\0asm\x0d\0\x01\0" } else { b"\0asm\x01\0\0\0" };
        let _ = inspect(&[head.as_slice(), &bytes].concat());
    }
}
